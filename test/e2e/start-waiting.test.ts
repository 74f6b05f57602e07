// A start whose stores are not there yet: it lives, says which variable leads to nothing, and goes on once they are.
import { expect, test } from "vitest";
import { closedPort } from "../channels/servers.ts";
import { missingOwnEventStore, ownEventStore } from "../support/eventstored.ts";
import { testDatabase } from "../support/postgres.ts";
import { ADMIN_KEY, encryptionKey } from "../support/server.ts";
import { until } from "./support/api.ts";
import { dataFolder, isReady, spawnServer } from "./support/server.ts";

const statusOf = (url: string) =>
  fetch(url).then(
    ({ status }) => status,
    () => 0,
  );

/** A server process with this environment, and where it will listen. */
async function starting(dataDir: string, env: Record<string, string>) {
  const port = await closedPort();
  const secrets = { ENCRYPTION_KEYS: encryptionKey(), ADMIN_KEY };
  const { child, exited, output } = spawnServer({ dataDir, port, env: { ...secrets, ...env } });
  return {
    url: `http://127.0.0.1:${port}`,
    output,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      expect(await exited).toBe(0);
    },
  };
}

test("PostgreSQL is away: /livez answers, /readyz does not say yes, the line names DATABASE_URL, SIGTERM ends it in order", async () => {
  await using folder = await dataFolder();
  const gone = `postgresql://chatapi@127.0.0.1:${await closedPort()}/chatapi`;
  await using server = await starting(folder.path, { DATABASE_URL: gone });
  expect(
    await until(
      () => statusOf(`${server.url}/livez`),
      (status) => status === 200,
      60_000,
    ),
  ).toBe(200);
  expect(await statusOf(`${server.url}/readyz`)).toBe(503);
  await until(
    async () => server.output(),
    (output) => output.includes("DATABASE_URL"),
  );
  expect(server.output().trim().split("\n")).toEqual([
    expect.stringMatching(/DATABASE_URL: the server cannot be reached.*waiting/),
  ]);
}, 180_000);

test.skipIf(missingOwnEventStore !== undefined)(
  "EventStoreDB: without ?tls=false for a server without TLS the line says so; away, the start waits, names EVENTSTORE_URL, and is ready once it is there",
  async () => {
    await using folder = await dataFolder();
    await using database = await testDatabase();
    await using eventStore = await ownEventStore();
    const named = (server: { output: () => string }) =>
      until(
        async () => server.output(),
        (output) => output.includes("EVENTSTORE_URL"),
        60_000,
      );
    {
      const url = eventStore.url.replace("?tls=false", "");
      await using server = await starting(folder.path, { DATABASE_URL: database.url, EVENTSTORE_URL: url });
      expect(await named(server)).toMatch(/EVENTSTORE_URL: .*a server without TLS needs \?tls=false/);
    }
    await eventStore.kill();
    await using server = await starting(folder.path, { DATABASE_URL: database.url, EVENTSTORE_URL: eventStore.url });
    expect(await named(server)).toMatch(/EVENTSTORE_URL: the server cannot be reached.*waiting/);
    expect(server.output()).not.toContain("needs ?tls=false");
    expect(await statusOf(`${server.url}/livez`)).toBe(200);
    await eventStore.restart();
    expect(
      await until(
        () => isReady(server.url),
        (ready) => ready,
        90_000,
      ),
    ).toBe(true);
  },
  300_000,
);
