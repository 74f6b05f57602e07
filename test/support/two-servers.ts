// Two nodes of one system in the test's process: one database, one ring of keys, a server each, outside development mode.
import { type Api, apiOf, newClient } from "../e2e/support/api.ts";
import { databaseWithTables } from "./database-with-tables.ts";
import { ADMIN_KEY, encryptionKey, startTestServer, type TestServer } from "./server.ts";

export type TwoServers = AsyncDisposable & {
  readonly first: TestServer;
  readonly second: TestServer;
  /** A new client's API on each node. */
  newClient(): Promise<readonly [Api, Api]>;
};

export async function startTwoServers(env: Readonly<Record<string, string>> = {}): Promise<TwoServers> {
  await using open = new AsyncDisposableStack();
  const { url } = open.use(await databaseWithTables());
  const shared = { DATABASE_URL: url, ADMIN_KEY, ENCRYPTION_KEYS: encryptionKey(), ...env };
  const start = async () => open.use(await startTestServer({ databaseUrl: url, env: shared }));
  const first = await start();
  const second = await start();
  const moved = open.move();
  return {
    first,
    second,
    async newClient() {
      const api = await newClient(first.url, "My App", { authorization: `Bearer ${ADMIN_KEY}` });
      const { key = "" } = api;
      return [apiOf(first.url, key), apiOf(second.url, key)];
    },
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}
