// `events import`: an export into this log. Every stream keeps its revisions and every event its id.
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import type { EventMacs } from "../event-store/event-macs.ts";
import {
  type EventStore,
  MAX_APPEND_BYTES,
  type NewEvent,
  OutcomeUnknown,
  StoreUnavailable,
  sizeOf,
} from "../event-store/event-store.ts";
import type { WrappedKey } from "../event-store/key-transfer.ts";
import { blobKeysOf } from "../event-store/sealing.ts";
import { failpoint } from "../platform/failpoint.ts";
import { backoffMs } from "../platform/supervise.ts";
import type { Storage } from "../storage.ts";
import { type EventLine, importedEvent, type Line, LineSchema, type Moved } from "./events-export.ts";

/** Events of one append at most. */
const MAX_EVENTS = 500;
/** Attempts at one append, with a growing wait between them, before the import gives up. */
const MAX_ATTEMPTS = 8;

/** The file is not a complete export, or does not fit into this log. */
export class ImportError extends Error {
  override readonly name = "ImportError";
}

async function* linesOf(file: string): AsyncGenerator<Line> {
  let number = 0;
  const input = createReadStream(file);
  // readline ends silently when its input fails; the stream's error has to be kept.
  const failed = new Promise<never>((_, reject) => input.once("error", reject));
  failed.catch(() => undefined);
  const lines = createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY });
  for await (const text of lines) {
    number += 1;
    yield parseLine(text, number);
  }
  if (input.errored !== null) await failed;
}

function parseLine(text: string, number: number): Line {
  try {
    return LineSchema.parse(JSON.parse(text));
  } catch (error) {
    const why = error instanceof SyntaxError ? "it is cut short, or no JSON" : "it is of another kind or version";
    throw new ImportError(`line ${number} is not a line of an export: ${why}`, { cause: error });
  }
}

/** Reads the file once without writing: it must be complete, in order, and of another log than this one. */
async function checkComplete(
  file: string,
  store: EventStore,
): Promise<{ log: string; events: number; sealedBy: ReadonlySet<string> }> {
  let log: string | undefined;
  const sealedBy = new Set<string>();
  let last = "";
  const counted = { events: 0, keys: 0 };
  let end: { events: number; keys: number } | undefined;
  for await (const line of linesOf(file)) {
    if ((line.kind === "header") !== (log === undefined))
      throw new ImportError("the file does not begin with one header");
    if (end !== undefined) throw new ImportError("the file goes on after its end");
    if (line.kind === "header") log = line.log;
    if (line.kind === "end") end = line;
    if (line.kind === "key") counted.keys += 1;
    if (line.kind !== "event") continue;
    if (line.position <= last) throw new ImportError(`the events are not in their order at ${line.position}`);
    last = line.position;
    counted.events += 1;
    for (const key of blobKeysOf({ data: Buffer.from(line.data) })) sealedBy.add(key);
  }
  if (log === undefined) throw new ImportError("the file is empty");
  if (end === undefined) throw new ImportError("the file was cut short: its end is missing");
  if (end.events !== counted.events || end.keys !== counted.keys) {
    throw new ImportError(`the file has lost lines: ${counted.events} events of ${end.events} are in it`);
  }
  if (log === store.logId) throw new ImportError("the file was exported from this very log");
  return { log, events: counted.events, sealedBy };
}

async function* keysOf(file: string): AsyncGenerator<WrappedKey> {
  for await (const line of linesOf(file)) {
    if (line.kind !== "key") continue;
    const { kind: _kind, ...key } = line;
    yield key;
  }
}

/**
 * Imports the keys first, so that no event is read before its key is there. Then it appends the events one append after the
 * other, because lists sort by position. Events from an import that was cut short are recognised by their ids and not
 * written again. Throws ImportError, KeyConflict, WrongEncryptionKeys, WrongExpectedRevision (the stream has other events
 * here), OutcomeUnknown, StoreUnavailable.
 */
export async function importEvents(
  storage: Pick<Storage, "store" | "keyring">,
  file: string,
  onProgress: (events: number, total: number) => void,
): Promise<Moved> {
  const { store, keyring } = storage;
  const { log, events: total, sealedBy } = await checkComplete(file, store);
  const { imported: keys } = await keyring.importWrapped(keysOf(file));
  // An export has every key that there was: the others were destroyed.
  await keyring.recordMissing(sealedBy);
  failpoint("keys-imported/events-appended");
  let events = 0;
  for await (const append of ahead(appendsOf(file, log, keyring.macs))) {
    await untilKnown(() => store.append(append.stream, append.expectedRevision, append.events));
    failpoint("append-imported/next-append");
    events += append.events.length;
    onProgress(events, total);
  }
  return { events, keys };
}

/** Sends the same append again while its outcome is unknown; the log recognises what it has. */
async function untilKnown(append: () => Promise<unknown>): Promise<void> {
  for (let attempts = 1; ; attempts += 1) {
    try {
      await append();
      return;
    } catch (error) {
      const passing = error instanceof OutcomeUnknown || error instanceof StoreUnavailable;
      if (!passing || attempts >= MAX_ATTEMPTS) throw error;
      await sleep(backoffMs(attempts));
    }
  }
}

/** The same items; the next one is read while the consumer works on the current one. */
async function* ahead<T>(items: AsyncGenerator<T>): AsyncGenerator<T> {
  let next = items.next();
  for (;;) {
    const { done, value } = await next;
    if (done) return;
    next = items.next();
    next.catch(() => undefined); // thrown when it is awaited, if the work before it succeeds
    yield value;
  }
}

type SizedAppend = {
  readonly stream: string;
  readonly expectedRevision: number;
  readonly events: NewEvent[];
  bytes: number;
};

/** Runs of events that follow each other in one stream, cut to what an append may hold. */
async function* appendsOf(file: string, log: string, macs: EventMacs): AsyncGenerator<SizedAppend> {
  let current: SizedAppend | undefined;
  for await (const line of linesOf(file)) {
    if (line.kind !== "event") continue;
    const event = importedEvent(line, log, macs);
    if (current !== undefined && !fits(current, line, event)) {
      yield current;
      current = undefined;
    }
    current ??= { stream: line.stream, expectedRevision: line.revision - 1, events: [], bytes: 0 };
    current.events.push(event);
    current.bytes += sizeOf(event);
  }
  if (current !== undefined) yield current;
}

const fits = (append: SizedAppend, line: EventLine, event: NewEvent): boolean =>
  append.stream === line.stream &&
  append.expectedRevision + append.events.length + 1 === line.revision &&
  append.events.length < MAX_EVENTS &&
  append.bytes + sizeOf(event) <= MAX_APPEND_BYTES;
