// What a node folds for itself from the log: who may come in, who people are, which rooms are listened to.
import type { Logger } from "pino";
import { ClientDirectory } from "./app/client-directory.ts";
import { People } from "./app/people.ts";
import { scopesOf } from "./domain/client-keys.ts";
import { LiveFeed } from "./projections/feed.ts";
import { allKeys } from "./projections/models/api-keys.ts";
import { revokedGenerations } from "./projections/models/users.ts";
import type { Storage } from "./storage.ts";

export type Live = AsyncDisposable & {
  readonly feed: LiveFeed;
  readonly directory: ClientDirectory;
  readonly people: People;
};

/**
 * Opens what the node follows, from the read models' checkpoint on. The feed has not been started: whoever must see
 * every event listens to it first.
 */
export async function openLive({ store, keyring, commands, readSide }: Storage, logger: Logger): Promise<Live> {
  await using open = new AsyncDisposableStack();
  const feed = open.use(new LiveFeed({ clock: () => performance.now(), store, logger, after: readSide.checkpoint() }));
  const operator = readSide.operator();
  const seed = {
    keys: (await allKeys(operator)).map(({ id, hash, client, scopes, expires_at }) => ({
      ...{ hash, client, keyId: id },
      scopes: scopesOf({ scopes }),
      expiresAt: expires_at,
    })),
    revoked: await revokedGenerations(operator),
    at: Date.now(),
  };
  const directory = open.use(new ClientDirectory({ feed, keyring, seed }));
  const people = open.use(new People({ feed, commands }));
  const moved = open.move();
  return { feed, directory, people, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}
