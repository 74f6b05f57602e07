// Who is connected, on all nodes: kept in memory, told between nodes by signals that may be lost, and never stored.
import { LRUCache } from "lru-cache";
import { z } from "zod";
import { type ClientId, ClientIdSchema, type Subject, SubjectSchema } from "../contract/ids.ts";
import { type Instant, rfc3339, rfc3339OrNull, SECOND_MS } from "../contract/time.ts";
import type { PresenceResource } from "../contract/users.ts";
import { maxEntries } from "../platform/bounded.ts";
import { type Signals, signalsOf } from "../platform/bus.ts";

/** Whoever is back within this was not away. */
const LINGER_MS = 5 * SECOND_MS;
/** A node tells that it lives, and in rounds all that is connected to it: what was lost is made good by the next. */
const ALIVE_MS = 10 * SECOND_MS;
const ROUND_MS = 15 * SECOND_MS;
/** A node that has been silent for so long is gone, and with it whoever was connected to it. */
const NODE_SILENCE_MS = 35 * SECOND_MS;
/** People of a round that are told at a time. */
const PEOPLE_AT_ONCE = 500;
/** People who went away and are remembered; of more the least recent are forgotten. */
const MAX_ABSENT = 50_000;

/** A user of a client. */
export type Person = { readonly client: ClientId; readonly subject: Subject; readonly userId: string };

const Signal = z.discriminatedUnion("kind", [
  /** So many devices of a person are connected to the node; `round` counts the node's rounds. */
  z.object({
    kind: z.literal("devices"),
    node: z.string(),
    client: ClientIdSchema,
    subject: SubjectSchema,
    userId: z.string(),
    devices: z.int().min(0),
    since: z.number(),
    round: z.int(),
  }),
  /** The node's round is over, and it told of people so many times since it began. */
  z.object({ kind: z.literal("round"), node: z.string(), round: z.int(), people: z.int() }),
  z.object({ kind: z.literal("alive"), node: z.string() }),
  z.object({ kind: z.literal("gone"), node: z.string() }),
]);
type Signal = z.infer<typeof Signal>;

/** How many devices of a person a node has, and the round in which it said so last. */
type OnNode = { readonly devices: number; readonly round: number };
type Known = Person & {
  readonly nodes: Map<string, OnNode>;
  since: Instant;
  /** When the last device went, on the monotonic clock, and in time; null while there is one. */
  left: { readonly clock: number; readonly at: Instant } | null;
};

type PresenceOptions = {
  /** This node, among those that share the bus. */
  readonly node: string;
  readonly bus: Signals;
  readonly now: () => Instant;
  /** Monotonic. */
  readonly clock: () => number;
};

/** Who is connected to any node. `tick` must be called about every second. */
export class Presence implements Disposable {
  readonly #options: PresenceOptions;
  readonly #signals;
  readonly #people = new Map<Subject, Known>();
  readonly #absent = new LRUCache<Subject, Instant>(maxEntries(MAX_ABSENT));
  /** When each other node was last heard, and how often it told of people since its current round began. */
  readonly #nodes = new Map<string, { heardAt: number; round: number; people: number }>();
  readonly #listeners = new Set<(changed: readonly Person[]) => void>();
  readonly #listening: Disposable;
  #round = 0;
  #roundAt = Number.NEGATIVE_INFINITY;
  #aliveAt = Number.NEGATIVE_INFINITY;
  /** People whom the current round has still to tell of. */
  #unannounced: Subject[] | undefined;
  /** Signals about people since the current round began. */
  #announced = 0;

  constructor(options: PresenceOptions) {
    this.#options = options;
    this.#signals = signalsOf(options.bus, "presence", Signal);
    this.#listening = this.#signals.on((signal) => this.#receive(signal));
  }

  /** A device of a person is connected to this node until it is disposed. */
  connect(person: Person): Disposable {
    const { node } = this.#options;
    const change = (by: number) => {
      const devices = Math.max(0, (this.#people.get(person.subject)?.nodes.get(node)?.devices ?? 0) + by);
      this.#set(person, node, { devices, round: this.#round }, this.#options.now());
      const known = this.#people.get(person.subject);
      if (known !== undefined) this.#tell(known, devices);
    };
    change(1);
    let connected = true;
    return {
      [Symbol.dispose]: () => {
        if (connected) change(-1);
        connected = false;
      },
    };
  }

  /** A person as it is shown now. */
  of(subject: Subject, userId: string | null): PresenceResource {
    const known = this.#people.get(subject);
    if (known === undefined) {
      const lastSeen = rfc3339OrNull(this.#absent.get(subject) ?? null);
      return { user_id: userId, online: false, since: lastSeen, last_seen_at: lastSeen, devices: 0 };
    }
    const seenAt = known.left?.at ?? this.#options.now();
    const since = rfc3339(known.since);
    return { user_id: userId, online: true, since, last_seen_at: rfc3339(seenAt), devices: devicesOf(known) };
  }

  /** The person's own id, while it is online. */
  userId(subject: Subject): string | undefined {
    return this.#people.get(subject)?.userId;
  }

  /** Is told of those who came or went. The listener must neither throw nor take long. */
  onChange(listener: (changed: readonly Person[]) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Lets go of who stayed away and of nodes that are silent, and tells other nodes what is here. */
  tick(): void {
    const clock = this.#options.clock();
    for (const [node, { heardAt }] of this.#nodes) {
      // fence: presence-ghosts
      if (clock - heardAt >= NODE_SILENCE_MS) this.#forget(node);
    }
    const gone: Person[] = [];
    for (const known of this.#people.values()) {
      // fence: presence-reconnect
      if (known.left === null || clock - known.left.clock < LINGER_MS) continue;
      this.#people.delete(known.subject);
      this.#absent.set(known.subject, known.left.at);
      gone.push(known);
    }
    this.#changed(gone);
    this.#announce(clock);
  }

  /** Tells other nodes that whoever was connected here is no more. */
  [Symbol.dispose](): void {
    this.#listening[Symbol.dispose]();
    this.#signals.send({ kind: "gone", node: this.#options.node });
  }

  #announce(clock: number): void {
    const { node } = this.#options;
    if (clock - this.#aliveAt >= ALIVE_MS) {
      this.#aliveAt = clock;
      this.#signals.send({ kind: "alive", node });
    }
    if (this.#unannounced === undefined && clock - this.#roundAt >= ROUND_MS) {
      this.#roundAt = clock;
      this.#round += 1;
      this.#announced = 0;
      this.#unannounced = [...this.#people.keys()];
    }
    if (this.#unannounced === undefined) return;
    for (const subject of this.#unannounced.splice(0, PEOPLE_AT_ONCE)) {
      const known = this.#people.get(subject);
      const here = known?.nodes.get(node);
      if (known === undefined || here === undefined) continue;
      this.#tell(known, here.devices);
    }
    if (this.#unannounced.length > 0) return;
    this.#unannounced = undefined;
    this.#signals.send({ kind: "round", node, round: this.#round, people: this.#announced });
  }

  #tell({ client, subject, userId, since }: Known, devices: number): void {
    const { node } = this.#options;
    // Who connects during a round counts too: other nodes count what they hear.
    this.#announced += 1;
    this.#signals.send({ kind: "devices", node, client, subject, userId, devices, since, round: this.#round });
  }

  #receive(signal: Signal): void {
    // One that is new is told of everybody at once.
    if (!this.#nodes.has(signal.node)) this.#roundAt = Number.NEGATIVE_INFINITY;
    const node = this.#nodes.get(signal.node) ?? { heardAt: 0, round: 0, people: 0 };
    node.heardAt = this.#options.clock();
    this.#nodes.set(signal.node, node);
    if (signal.kind === "gone") this.#forget(signal.node);
    else if (signal.kind === "devices") {
      if (signal.round > node.round) Object.assign(node, { round: signal.round, people: 0 });
      node.people += 1;
      this.#set(signal, signal.node, signal, signal.since);
    } else if (signal.kind === "round") {
      if (node.round === signal.round && node.people >= signal.people) this.#endRound(signal.node, signal.round);
    }
  }

  /** Whom a node's round, of which nothing was lost, did not name is connected to it no more. */
  #endRound(node: string, round: number): void {
    for (const known of this.#people.values()) {
      const there = known.nodes.get(node);
      if (there !== undefined && there.round < round) this.#set(known, node, { devices: 0, round }, known.since);
    }
  }

  #forget(node: string): void {
    this.#nodes.delete(node);
    for (const known of this.#people.values()) {
      if (known.nodes.has(node)) this.#set(known, node, { devices: 0, round: 0 }, known.since);
    }
  }

  #set(person: Person, node: string, { devices, round }: OnNode, since: Instant): void {
    const { client, subject, userId } = person;
    const before = this.#people.get(subject);
    if (before === undefined && devices === 0) return;
    const known: Known = before ?? { client, subject, userId, nodes: new Map(), since, left: null };
    if (devices > 0) known.nodes.set(node, { devices, round });
    else known.nodes.delete(node);
    const { now, clock } = this.#options;
    if (known.nodes.size > 0) known.left = null;
    else known.left ??= { clock: clock(), at: now() };
    if (before !== undefined) return;
    this.#people.set(subject, known);
    this.#absent.delete(subject);
    this.#changed([known]);
  }

  #changed(people: readonly Person[]): void {
    if (people.length === 0) return;
    for (const listener of this.#listeners) listener(people);
  }
}

const devicesOf = ({ nodes }: Known): number => {
  let devices = 0;
  for (const one of nodes.values()) devices += one.devices;
  return devices;
};
