// Authenticity of events: a MAC in each event's metadata, which every read of the log checks before anybody sees the event.
import { createHmac, timingSafeEqual } from "node:crypto";
import { keyObjectOf } from "../platform/secrets.ts";
import {
  type Batch,
  type EventStore,
  isFirstEvent,
  type NewEvent,
  type Position,
  type RecordedEvent,
  systemMetadata,
} from "./event-store.ts";

// Storage format: the MAC is the last member of the metadata, so that what it covers is the bytes before it.
const BEFORE = [...Buffer.from(',"mac":"')];
const AFTER = [...Buffer.from('"}')];
const [OPENING, CLOSING] = [Buffer.from(BEFORE), Buffer.from(AFTER)];
/** 128 bits in base64url. */
const MAC_CHARACTERS = 22;
const TRAILER_BYTES = BEFORE.length + MAC_CHARACTERS + AFTER.length;

type EventMacsOptions = {
  readonly key: Uint8Array;
  /** Events up to this position were written before events had MACs, and need none. */
  readonly requiredAfter: Position | "start";
  /** Called once for each forged event that a read finds. */
  readonly onForged: (event: RecordedEvent) => void;
};

/** Where an event is in the log: a MAC is good there and nowhere else. */
type EventAddress = { readonly stream: string; readonly revision: number };

/** The MACs of one log's events, made and checked with a key that only holders of ENCRYPTION_KEYS can open. */
export class EventMacs {
  readonly #options: EventMacsOptions;
  /** What was found of events that several read loops share. */
  readonly #checked = new WeakMap<RecordedEvent, RecordedEvent>();
  readonly #reported = new Set<string>();

  constructor(options: EventMacsOptions) {
    this.#options = options;
  }

  /** The event with a MAC at the end of its metadata, which must be a JSON object; replaces the MAC that it had. */
  sign(event: NewEvent, at: EventAddress): NewEvent {
    const covered = coveredOf(event.metadata) ?? event.metadata.subarray(0, -1);
    const mac = this.#macOf(event, at, covered);
    const { id, type, data } = event;
    return { id, type, data, metadata: Buffer.concat([covered, OPENING, mac, CLOSING]) };
  }

  /** The event itself, or what stands for it when it is forged: an `EventForged` without any of its content. */
  check(event: RecordedEvent): RecordedEvent {
    const known = this.#checked.get(event);
    if (known !== undefined) return known;
    const found = this.#isGenuine(event) ? event : this.forged(event);
    this.#checked.set(event, found);
    return found;
  }

  /** Reports a forged event, and gives what stands for it. */
  forged(event: RecordedEvent): RecordedEvent {
    const name = `${event.stream}@${event.revision}`;
    if (this.#reported.size < MAX_REPORTED && !this.#reported.has(name)) {
      this.#reported.add(name);
      this.#options.onForged(event);
    }
    const data = Buffer.from(JSON.stringify({ forged: true, type: event.type }));
    return { ...event, type: "EventForged", data, metadata: systemMetadata(event.id, event.recordedAt) };
  }

  #isGenuine(event: RecordedEvent): boolean {
    if (isFirstEvent(event)) return true;
    const covered = coveredOf(event.metadata);
    const { requiredAfter } = this.#options;
    // fence: unsigned-events
    if (covered === undefined) return requiredAfter !== "start" && event.position <= requiredAfter;
    const mac = event.metadata.subarray(covered.length + BEFORE.length, -AFTER.length);
    // fence: event-mac
    return timingSafeEqual(this.#macOf(event, event, covered), mac);
  }

  #macOf({ id, type, data }: NewEvent, { stream, revision }: EventAddress, metadata: Uint8Array): Buffer {
    const header = JSON.stringify(["event", id, stream, revision, type, data.byteLength]);
    const hmac = createHmac("sha256", keyObjectOf(this.#options.key));
    const mac = hmac.update(header).update(data).update(metadata).digest("base64url");
    return Buffer.from(mac.slice(0, MAC_CHARACTERS));
  }
}

/** Forged events reported, at most: more of them say nothing new. */
const MAX_REPORTED = 10_000;

/** Whether the event has a MAC, good or not. Those without one were written by an earlier version of this program. */
export const isSigned = (event: NewEvent): boolean => coveredOf(event.metadata) !== undefined;

/** The bytes that a MAC covers; undefined when there is none. */
function coveredOf(metadata: Uint8Array): Uint8Array | undefined {
  const end = metadata.byteLength - TRAILER_BYTES;
  if (end < 1) return undefined;
  // Byte by byte: views of the array would take as long as the MAC.
  const isTrailer =
    BEFORE.every((byte, index) => metadata[end + index] === byte) &&
    AFTER.every((byte, index) => metadata[end + BEFORE.length + MAC_CHARACTERS + index] === byte);
  return isTrailer ? metadata.subarray(0, end) : undefined;
}

/** The same log, whose reads and subscriptions hand over an `EventForged` in place of each forged event. */
export function checkedLog<S extends EventStore>(store: S, macs: EventMacs): S {
  const checked = (events: readonly RecordedEvent[]) => events.map((event) => macs.check(event));
  return {
    ...store,
    readStream: async (stream, read) => checked(await store.readStream(stream, read)),
    readAll: async (read) => checked(await store.readAll(read)),
    subscribe: (options) =>
      store.subscribe({
        ...options,
        handle: ({ events, upTo }: Batch) => options.handle({ events: checked(events), upTo }),
      }),
  };
}
