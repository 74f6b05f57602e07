// A database as it is after so many messages: log, read models, users with rooms and notifications.
import { openReadSide } from "../../src/projections/read-side.ts";
import { notify } from "../../test/support/notify.ts";
import { shown } from "../harness/row.ts";
import type { Bench } from "../harness/subject.ts";
import { fillRooms, openLog, registerClient, roomName } from "./log.ts";
import type { BenchDatabase, BenchPostgres } from "./postgres.ts";
import { newEncryptionKey } from "./served.ts";

const ROOMS = 1_000;
/** Of the one user who is asked about, in every database alike. */
export const READER = "reader";
const READERS_ROOMS = 50;
const READERS_NOTIFICATIONS = 20;
/** Messages for each notification to somebody else. */
const PER_NOTIFICATION = 1_000;

export type Large = {
  readonly database: BenchDatabase;
  readonly encryptionKey: string;
  readonly client: string;
  readonly key: string;
  /** A room of the reader's. */
  readonly room: string;
};

const made = new WeakMap<BenchPostgres, Map<number, Promise<Large>>>();

/** The database of so many messages; the same for every benchmark of a run, since it takes long to make. */
export function largeDatabase(bench: Bench, messages: number): Promise<Large> {
  const known = made.get(bench.postgres) ?? new Map<number, Promise<Large>>();
  made.set(bench.postgres, known);
  const large = known.get(messages) ?? makeLarge(bench, messages);
  known.set(messages, large);
  return large;
}

/** Nobody is connected to it afterwards. */
async function makeLarge({ postgres, say }: Bench, messages: number): Promise<Large> {
  say(`a database of ${shown(messages)} messages`);
  const encryptionKey = newEncryptionKey();
  const database = await postgres.database();
  await using log = await openLog(database.url, encryptionKey);
  const { client, key } = await registerClient(log);
  const rooms = Math.min(ROOMS, Math.max(READERS_ROOMS, messages / ROOMS));
  const guests = { [READER]: READERS_ROOMS };
  await fillRooms(log, { client, rooms, messagesEach: Math.ceil(messages / rooms), guests });
  const parts = { commands: log.newCommands(), keyring: log.keyring };
  for (let n = 0; n < READERS_NOTIFICATIONS; n += 1) await notify(parts, client, READER);
  for (let n = 0; n < messages / PER_NOTIFICATION; n += 1) await notify(parts, client, `other-${n % 100}`);
  const readSide = await openReadSide(log);
  await readSide.start();
  await readSide.caughtUp();
  await readSide[Symbol.asyncDispose]();
  await log.pool.query("vacuum analyze");
  return { database, encryptionKey, client, key, room: roomName(0) };
}
