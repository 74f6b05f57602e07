// The parts that everything live rests on, composed without HTTP: a log, a keyring, commands and the node's feed.
import { randomUUID } from "node:crypto";
import { ClientDirectory } from "../../src/app/client-directory.ts";
import { Positions } from "../../src/app/positions.ts";
import type { Services } from "../../src/app/services.ts";
import type { ClientId, RoomId, Subject } from "../../src/contract/ids.ts";
import type { Role } from "../../src/contract/rooms.ts";
import { clientDecider, clientStream } from "../../src/domain/client.ts";
import { roomDecider, roomStream } from "../../src/domain/room.ts";
import type { CommandContext } from "../../src/event-store/envelope.ts";
import type { EventStore } from "../../src/event-store/event-store.ts";
import { Commands } from "../../src/event-store/handle-command.ts";
import type { Keyring } from "../../src/event-store/sealing.ts";
import { LiveFeed } from "../../src/projections/feed.ts";
import { openInMemoryLog } from "./in-memory-log.ts";
import { type MemoryKeyring, memoryKeyring } from "./memory-keyring.ts";

/** A logger that keeps what it was told, so that a test can look for what went wrong. */
export const quietLogger = {
  warnings: [] as unknown[],
  warn: (...told: unknown[]) => void quietLogger.warnings.push(told),
};

/** A command context of its own. */
export const contextOf = (client: ClientId | null): CommandContext => ({
  client,
  actor: { type: "key", id: "key_1" },
  commandId: randomUUID(),
  correlation: "test",
  causation: "test",
});

export type LiveParts = AsyncDisposable & {
  readonly store: EventStore;
  readonly keyring: MemoryKeyring;
  readonly commands: Commands;
  readonly feed: LiveFeed;
  readonly directory: ClientDirectory;
};

/** The services that rooms on sockets are made of. */
export type RoomServices = Pick<Services, "store" | "keyring" | "commands" | "logger">;

/** Services for rooms on sockets, with the quiet logger unless they bring their own; of the others there are none. */
export const roomServices = (parts: Omit<RoomServices, "logger"> & Partial<RoomServices>): Services =>
  ({
    logger: quietLogger,
    positions: new Positions({ secret: new Uint8Array(32), store: parts.store }),
    ...parts,
  }) as unknown as Services;

/** What tests need to make things happen. */
export type CommandParts = { readonly commands: Commands; readonly keyring: Keyring };

/** Opens the parts on a store (default: a log in memory); the feed runs. Disposes the store too. */
export async function liveParts(given?: EventStore): Promise<LiveParts> {
  const store = given ?? (await openInMemoryLog());
  const keyring = memoryKeyring();
  const commands = new Commands({
    store,
    keyring,
    snapshots: undefined,
    olderCommands: undefined,
    warn: (error, message) => quietLogger.warn(error, message),
  });
  const feed = new LiveFeed({ clock: () => performance.now(), store, logger: quietLogger, after: "start" });
  const directory = new ClientDirectory({ feed, keyring, seed: { keys: [], revoked: [], at: 0 } });
  feed.start();
  return {
    store,
    keyring,
    commands,
    feed,
    directory,
    async [Symbol.asyncDispose]() {
      directory[Symbol.dispose]();
      await feed[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
    },
  };
}

/** Registers a client with a key of this hash. */
export async function registerClient(
  { commands }: Pick<LiveParts, "commands">,
  client: ClientId,
  hash: string,
  at = Date.now(),
) {
  const key = { id: `key_${client.slice(4)}`, name: "first", hash, last4: "1234" } as const;
  const command = { type: "Register", at, client, name: "Acme", description: null, key } as const;
  await commands.execute(
    clientDecider,
    clientStream(client),
    { ...command, webhookSecret: "whsec_test" },
    contextOf(client),
  );
  return key;
}

/** Makes a private room with these members, by user id. */
export async function createRoom(
  { commands, keyring }: CommandParts,
  client: ClientId,
  room: RoomId,
  members: Readonly<Record<string, Role>>,
  externalId: string | null = null,
): Promise<void> {
  const settings = {
    name: "Room",
    description: null,
    kind: "private",
    joinRole: "member",
    maxMembers: null,
    posting: "everyone",
    history: "all",
    meta: {},
  } as const;
  const data = await Promise.all(
    Object.entries(members).map(async ([user, role]) => ({
      subject: await keyring.subjectOfUser(client, user),
      user: { open: user },
      role,
      name: null,
      meta: { open: {} },
    })),
  );
  const command = { type: "Create", at: Date.now(), settings, externalId, members: data } as const;
  await commands.execute(roomDecider, roomStream(room), command, contextOf(client));
}

/** Posts a message as the key; gives its seq and id. */
export async function post(
  { commands, keyring }: CommandParts,
  client: ClientId,
  room: RoomId,
  user: string,
  content: string,
): Promise<{ seq: number; id: string; sender: Subject }> {
  const sender = await keyring.subjectOfUser(client, user);
  const about = {
    room,
    actor: { type: "key", id: "key_1" },
    sender,
    user,
    senderName: null,
    ownName: null,
    messageType: "text",
  } as const;
  const said = {
    content,
    meta: {},
    replyTo: null,
    threadOf: null,
    growing: false,
    mentions: { people: [], everyone: null },
  } as const;
  const command = { type: "Post", at: Date.now(), ...about, ...said } as const;
  const { events } = await commands.execute(roomDecider, roomStream(room), command, contextOf(client));
  const [event] = events;
  if (event?.type !== "MessagePosted") throw new Error("nothing was posted");
  return { seq: event.revision + 1, id: event.data.id, sender };
}
