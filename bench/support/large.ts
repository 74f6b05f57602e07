// A database as it is after so many messages: log, read models, users with rooms and notifications.
import { openReadSide } from "../../src/projections/read-side.ts";
import { notify } from "../../test/support/notify.ts";
import { shown } from "../harness/row.ts";
import type { Bench } from "../harness/subject.ts";
import { fillRooms, openLog, registerClient, roomName } from "./log.ts";
import type { BenchDatabase } from "./postgres.ts";
import { newEncryptionKey } from "./served.ts";

const ROOMS = 1_000;
/** Of the one user who is asked about, in every database alike. */
export const READER = "reader";
const READERS_ROOMS = 50;
const READERS_NOTIFICATIONS = 20;
/** Messages for each notification to somebody else. */
const PER_NOTIFICATION = 1_000;

export type Large = AsyncDisposable & {
  readonly database: BenchDatabase;
  readonly encryptionKey: string;
  readonly client: string;
  readonly key: string;
  /** A room of the reader's. */
  readonly room: string;
};

/** Makes it; nobody is connected to it afterwards. */
export async function makeLarge({ postgres, say }: Bench, messages: number): Promise<Large> {
  say(`a database of ${shown(messages)} messages`);
  const encryptionKey = newEncryptionKey();
  const database = await postgres.database();
  await using log = await openLog(database.url, encryptionKey);
  const { client, key } = await registerClient(log);
  const rooms = Math.min(ROOMS, Math.max(READERS_ROOMS, messages / ROOMS));
  const guests = { [READER]: READERS_ROOMS };
  await fillRooms(log, { client, rooms, messagesEach: Math.ceil(messages / rooms), guests });
  const parts = { commands: log.newCommands(), keyring: log.keyring };
  for (let made = 0; made < READERS_NOTIFICATIONS; made += 1) await notify(parts, client, READER);
  for (let made = 0; made < messages / PER_NOTIFICATION; made += 1) await notify(parts, client, `other-${made % 100}`);
  const readSide = await openReadSide(log);
  await readSide.start();
  await readSide.caughtUp();
  await readSide[Symbol.asyncDispose]();
  await log.pool.query("vacuum analyze");
  const drop = () => database[Symbol.asyncDispose]();
  return { database, encryptionKey, client, key, room: roomName(0), [Symbol.asyncDispose]: drop };
}
