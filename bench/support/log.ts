// A log with its keys on a database, and large numbers of messages in it, as clients would have posted them.
import { randomBytes, randomUUID } from "node:crypto";
import pg from "pg";
import { keyData, makeApiKey } from "../../src/app/credentials.ts";
import { type ClientId, messageId, type RoomId, type Subject } from "../../src/contract/ids.ts";
import { clientDecider, clientStream } from "../../src/domain/client.ts";
import { roomStream } from "../../src/domain/room.ts";
import type { RoomEvent, RoomSettings } from "../../src/domain/room-state.ts";
import { deriveTail } from "../../src/event-store/derived-ids.ts";
import { type CommandContext, encode } from "../../src/event-store/envelope.ts";
import type { EventStore } from "../../src/event-store/event-store.ts";
import { Commands } from "../../src/event-store/handle-command.ts";
import { openKeyring, type PostgresKeyring } from "../../src/event-store/keyring.ts";
import { openPostgresLog } from "../../src/event-store/postgres/log.ts";
import { postgresSnapshots } from "../../src/event-store/stream-state.ts";
import { storedProjections } from "../../src/projections/models/all.ts";
import type { Projection } from "../../src/projections/projection.ts";
import { openReadSide, type ReadSide } from "../../src/projections/read-side.ts";
import type { BenchDatabase, BenchPostgres } from "./postgres.ts";

/** Messages of one append, and rooms that are filled at once. */
const APPEND = 100;
const LANES = 16;
const SENDERS = 5;

export type OpenLog = AsyncDisposable & {
  readonly pool: pg.Pool;
  readonly store: EventStore;
  readonly keyring: PostgresKeyring;
  readonly logger: { warn(fields: object, message: string): void };
  /** The read models that are built from it. */
  readonly projections: readonly Projection[];
  /** With snapshots, and without a state in memory. */
  newCommands(): Commands;
};

/** Opens the log of a database, making it when there is none. Nothing stays connected once it is disposed. */
export async function openLog(url: string, encryptionKey: string): Promise<OpenLog> {
  await using open = new AsyncDisposableStack();
  const pool = open.adopt(new pg.Pool({ connectionString: url, max: 20 }), (one) => one.end());
  const keyring = await openKeyring({ pool, encryptionKeys: [encryptionKey] });
  const store = await keyring.trust(open.use(await openPostgresLog({ url })));
  // That read models are built is what is wanted here; only what goes wrong is told.
  const logger = {
    warn: (fields: object, message: string) => {
      if ("err" in fields || "error" in fields) console.error(message, fields);
    },
  };
  const snapshots = postgresSnapshots(pool, store.logId);
  const warn = (error: unknown, message: string) => console.error(message, error);
  const newCommands = () => new Commands({ store, keyring, snapshots, olderCommands: undefined, warn });
  const moved = open.move();
  const projections = storedProjections;
  return { pool, store, keyring, logger, projections, newCommands, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

export type OpenReadModels = {
  readonly database: BenchDatabase;
  readonly log: OpenLog;
  readonly client: ClientId;
  readonly readSide: ReadSide;
};

/** The read models of an empty database with one client. */
export async function openReadModels(postgres: BenchPostgres, open: AsyncDisposableStack): Promise<OpenReadModels> {
  const database = await postgres.database();
  const log = open.use(await openLog(database.url, randomBytes(32).toString("base64")));
  const { client } = await registerClient(log);
  const readSide = open.use(await openReadSide(log));
  await readSide.start();
  await readSide.caughtUp();
  return { database, log, client, readSide };
}

export const contextOf = (client: ClientId): CommandContext => ({
  client,
  actor: { type: "key", id: "key_bench" },
  commandId: randomUUID(),
  correlation: randomUUID(),
  causation: randomUUID(),
});

/** Registers a client; gives its key. */
export async function registerClient({ newCommands }: OpenLog): Promise<{ client: ClientId; key: string }> {
  const client: ClientId = `cli_${deriveTail("bench", randomUUID())}`;
  const key = makeApiKey(randomBytes(32));
  const data = keyData(`key_${deriveTail("bench", randomUUID())}`, "first", key);
  const about = { client, name: "Bench", description: null, key: data, webhookSecret: "whsec_bench" };
  const command = { type: "Register", at: Date.now(), ...about } as const;
  await newCommands().execute(clientDecider, clientStream(client), command, contextOf(client));
  return { client, key };
}

export const roomName = (number: number): RoomId => `room_${deriveTail("bench", number)}`;
export const memberName = (room: number, member: number): string => `member-${room}-${member}`;

type Filling = {
  readonly client: ClientId;
  readonly rooms: number;
  readonly messagesEach: number;
  /** Further members of the first rooms: of so many each. */
  readonly guests?: Readonly<Record<string, number>>;
  /** The number of the first room. Default: 0. */
  readonly first?: number;
};

/** Makes rooms of five members, who write in turn. */
export async function fillRooms({ store, keyring }: OpenLog, filling: Filling): Promise<void> {
  const { client, rooms, messagesEach, guests = {}, first = 0 } = filling;
  const at = Date.now();
  let next = 0;
  async function fill(number: number): Promise<void> {
    const room = roomName(first + number);
    const stream = roomStream(room);
    const users = Array.from({ length: SENDERS }, (_, member) => memberName(first + number, member));
    const subjects = await Promise.all(users.map((user) => keyring.subjectOfUser(client, user)));
    const invited = Object.entries(guests).flatMap(([guest, count]) => (number < count ? [guest] : []));
    const everyone = [...users, ...invited];
    const members = await Promise.all(
      everyone.map(async (user) => ({
        subject: await keyring.subjectOfUser(client, user),
        ...({ user: { open: user }, role: "member", name: null, meta: { open: {} } } as const),
      })),
    );
    const created = roomCreated(`Room ${first + number}`, members);
    const append = async (revision: number, events: readonly RoomEvent[]) => {
      const commit = { stream, events, context: contextOf(client), at, firstRevision: revision + 1 };
      const encoded = await encode(keyring, commit);
      await store.append(stream, revision, encoded);
    };
    await append(-1, [created]);
    for (let done = 0; done < messagesEach; done += APPEND) {
      const count = Math.min(APPEND, messagesEach - done);
      await append(
        done,
        Array.from({ length: count }, (_, index) => posted(room, done + index + 1, at, users, subjects)),
      );
    }
  }
  await Promise.all(
    Array.from({ length: LANES }, async () => {
      while (next < rooms) await fill(next++);
    }),
  );
}

/** Appends so many messages of one user to a room, in one append. */
export async function appendMessages(
  { store, keyring }: Pick<OpenLog, "store" | "keyring">,
  to: { readonly client: ClientId; readonly room: RoomId; readonly user: string; readonly count: number },
): Promise<void> {
  const { client, room, user, count } = to;
  const stream = roomStream(room);
  const [last] = await store.readStream(stream, { direction: "backward", limit: 1 });
  if (last === undefined) throw new Error("there is no such room");
  const users = Array.from({ length: SENDERS }, () => user);
  const subjects = await Promise.all(users.map((one) => keyring.subjectOfUser(client, one)));
  const at = Date.now();
  const events = Array.from({ length: count }, (_, index) =>
    posted(room, last.revision + 1 + index, at, users, subjects),
  );
  const commit = { stream, events, context: contextOf(client), at, firstRevision: last.revision + 1 };
  await store.append(stream, last.revision, await encode(keyring, commit));
}

function posted(
  room: RoomId,
  ordinal: number,
  at: number,
  users: readonly string[],
  subjects: readonly Subject[],
): RoomEvent {
  const writer = ordinal % SENDERS;
  const [user, sender] = [users[writer], subjects[writer]];
  if (user === undefined || sender === undefined) throw new Error("too few writers");
  const content = `Message ${ordinal}: shall we meet at the station at half past six, or at the office?`;
  return messagePosted(room, ordinal, at, { user, sender, content });
}

type RoomMembers = Extract<RoomEvent, { type: "RoomCreated" }>["data"]["members"];

/** The making of a private room. */
export function roomCreated(name: string, members: RoomMembers): RoomEvent {
  const settings: RoomSettings = {
    ...{ name, description: null, kind: "private", joinRole: "member", maxMembers: null },
    ...{ posting: "everyone", history: "all", meta: {} },
  };
  return { type: "RoomCreated", data: { ...settings, externalId: null, members } };
}

type Posting = { readonly user: string; readonly sender: Subject; readonly content: string };

/** The nth message of a room in which nothing else happens. */
export function messagePosted(
  room: RoomId,
  ordinal: number,
  at: number,
  { user, sender, content }: Posting,
): Extract<RoomEvent, { type: "MessagePosted" }> {
  const data = {
    ...{ id: messageId(room, ordinal + 1, at), sender, user: { open: user }, senderName: null, type: "text" },
    ...{ content: { open: content }, meta: { open: {} }, mentions: [], everyone: false },
    ...{ replyTo: null, thread: null, ordinal, growing: false },
  };
  return { type: "MessagePosted", data };
}
