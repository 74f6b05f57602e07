// From catching up to live, in every order of feed, reads, slow readers and lost memberships: each seq once, in order.

import { pino } from "pino";
import { expect, test } from "vitest";
import { Outbox } from "../../src/api/realtime/outbox.ts";
import { RoomChannels } from "../../src/api/realtime/room-channels.ts";
import { RoomSubscriptions } from "../../src/api/realtime/room-subscriptions.ts";
import type { Services } from "../../src/app/services.ts";
import { ALL_SCOPES } from "../../src/contract/fields.ts";
import type { ClientId, RoomId } from "../../src/contract/ids.ts";
import { DomainError } from "../../src/domain/decider.ts";
import { type EventStore, StoreUnavailable } from "../../src/event-store/event-store.ts";
import { Commands } from "../../src/event-store/handle-command.ts";
import type { Keyring } from "../../src/event-store/sealing.ts";
import { LiveFeed } from "../../src/projections/feed.ts";
import { openInMemoryLog } from "../support/in-memory-log.ts";
import { createRoom, post, roomServices } from "../support/live.ts";
import { memoryKeyring } from "../support/memory-keyring.ts";
import { roomCommands } from "../support/room-commands.ts";
import fc from "../support/seed.ts";
import { Interleaving, orders } from "./support/interleaving.ts";
import { type Fates, fates, racingStore } from "./support/racing-store.ts";
import { RoomView } from "./support/room-view.ts";
import { scheduledTimers } from "./support/scheduled-timers.ts";
import { SlowReader } from "./support/slow-reader.ts";

const CLIENT: ClientId = "cli_a";
const ROOM: RoomId = "room_00000000000000000000000001";
const MAX_LOOKS = 5_000;
const logger = pino({ level: "silent" });

type Happening = "post" | "delete" | "restore" | "rename" | "remove" | "join" | "delete the room";
const happening = fc.constantFrom<Happening>("post", "post", "post", "delete", "restore", "rename", "remove", "join");
const happenings = fc.record({
  list: fc.array(happening, { minLength: 4, maxLength: 16, size: "max" }),
  /** How many steps others have between two of them. */
  rest: fc.nat({ max: 8 }),
  deletes: fc.boolean(),
});
type Happenings = typeof happenings extends fc.Arbitrary<infer H> ? H : never;

/** What a client does, one after the other. It catches up from so many seqs before the head. */
const act = fc.record({
  what: fc.constantFrom("catch up", "catch up", "follow", "unsubscribe", "wait", "cut"),
  back: fc.nat({ max: 12 }),
  wait: fc.nat({ max: 10 }),
});
const client = fc.record({
  who: fc.constantFrom("ann", "bob", "bob", null),
  acts: fc.array(act, { minLength: 1, maxLength: 5, size: "max" }),
});
type Client = typeof client extends fc.Arbitrary<infer C> ? C : never;

/** The room as the log has it; what happens to it is written at once. */
class Script {
  head = 0;
  isMember = true;
  isThere = true;
  readonly #changes: { seq: number; deletes: boolean; messageSeq: number }[] = [];
  readonly #messages: { id: string; seq: number }[] = [];
  readonly #parts: { store: EventStore; keyring: Keyring; commands: ReturnType<typeof commandsOn> };

  constructor(store: EventStore, keyring: Keyring) {
    this.#parts = { store, keyring, commands: commandsOn(store, keyring) };
  }

  async begin(): Promise<void> {
    await createRoom(this.#parts, CLIENT, ROOM, { ann: "owner", bob: "member" });
    this.head = 1;
  }

  /** What the rules refuse, or what changes nothing, does not happen. */
  async happen(what: Happening, index: number): Promise<void> {
    const room = roomCommands(this.#parts, CLIENT, ROOM);
    const message = this.#messages[index % Math.max(1, this.#messages.length)];
    const seq = await this.#seqOf(what, room, message).catch((error: unknown) => {
      if (!(error instanceof DomainError)) throw error;
    });
    if (seq === undefined) return;
    this.head = seq;
    if (what === "remove" || what === "join") this.isMember = what === "join";
    if (what === "delete the room") this.isThere = false;
    const changes = what === "delete" || what === "restore";
    if (changes && message !== undefined)
      this.#changes.push({ seq, deletes: what === "delete", messageSeq: message.seq });
  }

  fateOf(messageSeq: number) {
    return this.#changes.filter((change) => change.messageSeq === messageSeq);
  }

  async #seqOf(what: Happening, room: ReturnType<typeof roomCommands>, message: { id: string } | undefined) {
    if (what === "rename") return room.rename(`Room ${this.head}`);
    if (what === "remove") return room.remove("bob", this.head % 2 === 0);
    if (what === "join") return room.setMember("bob");
    if (what === "delete the room") return room.deleteRoom();
    if (what === "delete" && message !== undefined) return room.delete(message.id);
    if (what === "restore" && message !== undefined) return room.restore(message.id);
    const posted = await post(this.#parts, CLIENT, ROOM, "ann", `message ${this.head + 1}`);
    this.#messages.push(posted);
    return posted.seq;
  }
}

const commandsOn = (store: EventStore, keyring: Keyring) =>
  new Commands({
    ...{ store, keyring, snapshots: undefined, olderCommands: undefined },
    ...{ warn: () => undefined },
  });

/** Nothing else on the socket sends events. */
const NOTHING_ELSE = { tells: () => false, wake: () => undefined };

type Node = { readonly services: Services; readonly rooms: RoomChannels };

/** A client on its socket; after a cut it has another one, on which it goes on behind what it has seen. */
async function live({ who, acts }: Client, node: Node, script: Script, interleaving: Interleaving) {
  const { keyring } = node.services;
  const subject = await keyring.subjectOfUser(CLIENT, who ?? "nobody");
  const views: RoomView[] = [];
  const connect = () => {
    const view = new RoomView(who, (seq) => script.fateOf(seq));
    const ended = new AbortController();
    const reader = new SlowReader(interleaving, (frame) => ended.signal.aborted || view.take(frame));
    const outbox = new Outbox(reader.socket, reader.stream, () => view.faults.push("too slow"));
    const growing = { follow: () => ({ [Symbol.dispose]: () => undefined }) };
    const rooms = new RoomSubscriptions({ ...node, growing, outbox, signal: ended.signal, follow: NOTHING_ELSE });
    const cut = () => {
      ended.abort();
      for (const part of [rooms, outbox]) part[Symbol.dispose]();
      reader.cut();
    };
    views.push(view);
    return { view, rooms, cut };
  };
  const key = {
    kind: "key",
    keyId: "key_a",
    expiresAt: null,
    scopes: new Set<never>(),
    client: CLIENT,
    actor: { type: "key", id: "key_1" },
  } as const;
  const actor = { type: "user", id: subject } as const;
  const user = {
    kind: "user",
    client: CLIENT,
    actor,
    scopes: ALL_SCOPES,
    subject,
    userId: who ?? "",
    expiresAt: 0,
  } as const;
  const caller = who === null ? key : user;

  let socket = connect();
  const subscribe = async (after: number | undefined) => {
    const ref = after ?? "live";
    const frame = { type: "subscribe", ref, rooms: [{ room_id: ROOM, after_seq: after }] } as const;
    await socket.rooms.subscribe(caller, { ...frame, rooms: [...frame.rooms] }, refused);
  };
  for (const { what, back, wait } of acts) {
    if (what === "catch up") await subscribe(Math.max(0, script.head - back));
    else if (what === "follow") await subscribe(undefined);
    else if (what === "unsubscribe") {
      await socket.rooms.unsubscribe(caller, { type: "unsubscribe", room_id: ROOM }).catch(refused);
    } else if (what === "cut") {
      const { seen } = socket.view;
      socket.cut();
      socket = connect();
      await subscribe(seen);
    }
    for (let steps = 0; steps < wait; steps += 1) await interleaving.step("a client waits");
  }
  return { who, views, last: socket.view, cut: () => socket.cut() };
}

/** What a client is told instead: no member, unknown, or not now. */
function refused(error: unknown): void {
  if (!(error instanceof DomainError) && !(error instanceof StoreUnavailable)) throw error;
}

async function race(
  scheduler: fc.Scheduler,
  clients: readonly Client[],
  { list, rest, deletes }: Happenings,
  drawn: Fates,
) {
  const interleaving = new Interleaving(scheduler);
  const log = await openInMemoryLog();
  const keyring = memoryKeyring();
  const script = new Script(log, keyring);
  await script.begin();
  const store = racingStore(log, interleaving, drawn);
  using _timers = scheduledTimers(interleaving, 6_000);
  const commands = commandsOn(store, keyring);
  const services = roomServices({ store, keyring, commands, logger });
  const feed = new LiveFeed({ clock: () => performance.now(), store, logger, after: "start" });
  const rooms = new RoomChannels(services, feed);
  feed.start();
  const happen = async () => {
    for (const [index, what] of list.entries()) {
      for (let steps = 0; steps <= rest; steps += 1) await interleaving.step("something will happen");
      await script.happen(what, index);
    }
    if (deletes) await script.happen("delete the room", 0);
  };
  const living = clients.map((one) => live(one, { services, rooms }, script, interleaving));
  const [, ...sockets] = await interleaving.until(Promise.all([happen(), ...living]));
  const settled = ({ who, last }: (typeof sockets)[number]) =>
    last.phase === "off" || (last.has(script.head) && script.isThere && (who !== "bob" || script.isMember));
  const allSettled = async () => {
    for (let looks = 0; looks < MAX_LOOKS && !sockets.every(settled); looks += 1) await interleaving.step("a look");
  };
  await interleaving.until(allSettled());
  for (const { cut } of sockets) cut();
  const close = async () => {
    await rooms[Symbol.asyncDispose]();
    await feed[Symbol.asyncDispose]();
  };
  await interleaving.until(close());
  return {
    faults: sockets.flatMap(({ views }) => views.flatMap((view) => view.faults)),
    settled: sockets.every(settled),
    open: rooms.size,
  };
}

test("each seq comes once and in order, and nothing after a membership's end", {
  timeout: orders.timeout,
}, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.scheduler(),
      fc.array(client, { minLength: 1, maxLength: 3, size: "max" }),
      happenings,
      fates(),
      async (...drawn) => {
        expect(await race(...drawn)).toEqual({ faults: [], settled: true, open: 0 });
      },
    ),
    orders.of(150, 10_000),
  );
});
