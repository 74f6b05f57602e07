// Writers of one room, as one node has them: commands on a log that another process writes too.
import { randomUUID } from "node:crypto";
import pg from "pg";
import type { RoomId } from "../../src/contract/ids.ts";
import { roomDecider, roomStream } from "../../src/domain/room.ts";
import type { CommandContext } from "../../src/event-store/envelope.ts";
import { openEventStoreDb } from "../../src/event-store/eventstoredb/log.ts";
import { Commands } from "../../src/event-store/handle-command.ts";
import { openKeyring } from "../../src/event-store/keyring.ts";
import { openPostgresLog } from "../../src/event-store/postgres/log.ts";
import type { Keyring } from "../../src/event-store/sealing.ts";
import { serveCalls } from "../support/process.ts";

export type WritersStore = {
  readonly databaseUrl: string;
  readonly encryptionKey: string;
  readonly eventStoreUrl?: string;
};
export type WritersRun = { readonly room: RoomId; readonly writers: number; readonly ms: number };
/** Milliseconds from command to answer, one for each post. */
export type WritersResult = readonly number[];

const CLIENT = "cli_bench";
const USER = "alice";
let node: { commands: Commands; keyring: Keyring } | undefined;

const context = (): CommandContext => ({
  ...{ client: CLIENT, actor: { type: "system", id: "bench" }, commandId: randomUUID() },
  ...{ correlation: "bench", causation: "bench" },
});

async function write({ room, writers, ms }: WritersRun): Promise<WritersResult> {
  if (node === undefined) throw new Error("not opened");
  const { commands, keyring } = node;
  const sender = await keyring.subjectOfUser(CLIENT, USER);
  const stream = roomStream(room);
  const settings = {
    name: "Hot",
    description: null,
    kind: "private",
    joinRole: "member",
    maxMembers: null,
    posting: "everyone",
    history: "all",
    meta: {},
  } as const;
  const member = { subject: sender, user: { open: USER }, role: "member", name: null, meta: { open: {} } } as const;
  const create = { type: "Create", at: Date.now(), settings, externalId: null, members: [member] } as const;
  await commands.execute(roomDecider, stream, create, context());
  const latencies: number[] = [];
  const until = performance.now() + ms;
  const post = async () => {
    while (performance.now() < until) {
      const begun = performance.now();
      const about = {
        room,
        actor: { type: "key", id: "key_1" },
        sender,
        user: USER,
        senderName: null,
        ownName: null,
      } as const;
      const nobody = {
        replyTo: null,
        threadOf: null,
        growing: false,
        mentions: { people: [], everyone: null },
      } as const;
      const message = { messageType: "text", content: "Are you there already?", meta: {}, ...nobody } as const;
      await commands.execute(roomDecider, stream, { type: "Post", at: Date.now(), ...about, ...message }, context());
      latencies.push(performance.now() - begun);
    }
  };
  await Promise.all(Array.from({ length: writers }, post));
  return latencies;
}

serveCalls({
  async open({ databaseUrl, encryptionKey, eventStoreUrl }: WritersStore): Promise<void> {
    const pool = new pg.Pool({ connectionString: databaseUrl });
    const keyring = await openKeyring({ pool, encryptionKeys: [encryptionKey] });
    const store =
      eventStoreUrl === undefined
        ? await openPostgresLog({ url: databaseUrl })
        : await openEventStoreDb({ url: eventStoreUrl, prefix: "bench-" });
    const warn = (error: unknown, message: string) => console.error(message, error);
    const commands = new Commands({ store, keyring, warn, snapshots: undefined, olderCommands: undefined });
    node = { commands, keyring };
  },
  write,
});
