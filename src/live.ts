// What a node folds for itself from the log: who may come in, how members are called, which rooms are listened to.
import type { Logger } from "pino";
import { type ClientDirectory, openClientDirectory } from "./app/client-directory.ts";
import { type MemberNames, openMemberNames } from "./app/member-names.ts";
import { LiveFeed } from "./projections/feed.ts";
import { allKeys, type ClientRow, clientsAfter } from "./projections/models/clients.ts";
import { memberName } from "./projections/models/rooms.ts";
import { revokedGenerations } from "./projections/models/users.ts";
import type { ReadSide } from "./projections/read-side.ts";
import type { Storage } from "./storage.ts";

const PAGE = 1_000;

export type Live = AsyncDisposable & {
  readonly feed: LiveFeed;
  readonly directory: ClientDirectory;
  readonly memberNames: MemberNames;
};

/**
 * Opens what the node follows, from the read models' checkpoint on. The feed has not been started: whoever must see
 * every event listens to it first.
 */
export async function openLive({ store, keyring, readSide }: Storage, logger: Logger): Promise<Live> {
  await using open = new AsyncDisposableStack();
  const feed = open.use(new LiveFeed({ clock: () => performance.now(), store, logger, after: readSide.checkpoint() }));
  const operator = readSide.operator();
  const facts = {
    clients: await everyClient(readSide),
    keys: (await allKeys(operator)).map(({ id, hash, client, name, created_at, expires_at }) => ({
      ...{ hash, client, keyId: id, name },
      createdAt: created_at,
      expiresAt: expires_at,
    })),
    revoked: await revokedGenerations(operator),
    at: Date.now(),
  };
  const directory = open.use(openClientDirectory({ feed, keyring, facts }));
  const memberNames = open.use(openMemberNames({ feed, readSide, lookUp: memberName }));
  const moved = open.move();
  return { feed, directory, memberNames, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

async function everyClient(readSide: ReadSide) {
  const clients: ClientRow[] = [];
  for (;;) {
    const page = await clientsAfter(readSide.operator(), clients.at(-1)?.client ?? null, PAGE);
    clients.push(...page);
    if (page.length < PAGE) return clients;
  }
}
