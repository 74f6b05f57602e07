// `events import`: an export into this log. Every stream keeps its revisions and every event its id.
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type Append,
  type EventStore,
  MAX_APPEND_BYTES,
  type NewEvent,
  OutcomeUnknown,
  StoreUnavailable,
  sizeOf,
} from "../event-store/event-store.ts";
import type { WrappedKey } from "../event-store/keyring-moving.ts";
import { backoffMs } from "../platform/backoff.ts";
import { failpoint } from "../platform/failpoint.ts";
import type { Storage } from "../storage.ts";
import type { Moved } from "./events-export.ts";
import { type EventLine, importedEvent, type Line, LineSchema } from "./export-format.ts";

const MAX_EVENTS = 500;
/** Handed to the log at once; so much is written again when the connection breaks. */
const MAX_WINDOW_EVENTS = 1_000;
const MAX_WINDOW_BYTES = 4 * 1024 * 1024;
/** How often the same appends are sent again, with a growing wait, before the import gives up. */
const MAX_TRIES = 8;

/** The file is not a whole export, or does not fit into this log. */
export class ImportError extends Error {
  override readonly name = "ImportError";
}

async function* linesOf(file: string): AsyncGenerator<Line> {
  let number = 0;
  const input = createReadStream(file);
  // A file that cannot be read ends the lines without a word, and the error would be nobody's.
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

/** Reads the file once without writing: it must be whole, in order, and of another log than this one. */
async function checkWhole(file: string, store: EventStore): Promise<{ log: string; events: number }> {
  let log: string | undefined;
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
  }
  if (log === undefined) throw new ImportError("the file is empty");
  if (end === undefined) throw new ImportError("the file was cut short: its end is missing");
  if (end.events !== counted.events || end.keys !== counted.keys) {
    throw new ImportError(`the file has lost lines: ${counted.events} events of ${end.events} are in it`);
  }
  if (log === store.logId) throw new ImportError("the file was exported from this very log");
  return { log, events: counted.events };
}

async function* keysOf(file: string): AsyncGenerator<WrappedKey> {
  for await (const line of linesOf(file)) {
    if (line.kind !== "key") continue;
    const { kind: _kind, ...key } = line;
    yield key;
  }
}

/**
 * Imports keys first, so that nobody reads an event whose key is still missing, then the events in their order: positions
 * grow as they did, and lists sort by them. Events that are there already, from an import that was cut short, are
 * recognised by their ids and not written again. Throws ImportError, KeyConflict, WrongEncryptionKeys,
 * WrongExpectedRevision (the stream has other events here), OrderLost, OutcomeUnknown, StoreUnavailable.
 */
export async function importEvents(
  storage: Pick<Storage, "store" | "keyring">,
  file: string,
  onProgress: (events: number, total: number) => void,
): Promise<Moved> {
  const { store, keyring } = storage;
  const { log, events: total } = await checkWhole(file, store);
  const { imported: keys } = await keyring.importWrapped(keysOf(file));
  failpoint("keys-imported/events-appended");
  let events = 0;
  for await (const window of ahead(windows(file, log))) {
    await insistently(async () => {
      if (await isThere(store, window.at(-1))) await confirm(store, window);
      else await write(store, window);
    });
    failpoint("window-imported/next-window");
    for (const append of window) events += append.events.length;
    onProgress(events, total);
  }
  return { events, keys };
}

async function write(store: EventStore, appends: readonly Append[]): Promise<void> {
  if (store.appendInOrder !== undefined) return store.appendInOrder(appends);
  for (const { stream, expectedRevision, events } of appends) await store.append(stream, expectedRevision, events);
}

/** Whether the last of these events is in the log; then, since they are written in order, so are the others. */
async function isThere(store: EventStore, append: Append | undefined): Promise<boolean> {
  if (append === undefined) return false;
  const from = append.expectedRevision + append.events.length;
  const [found] = await store.readStream(append.stream, { from, limit: 1 });
  return found !== undefined && found.id === append.events.at(-1)?.id;
}

/** Sends what is there already again: nothing is written, and what differs is found. */
async function confirm(store: EventStore, appends: readonly Append[]): Promise<void> {
  const answers = appends.map(({ stream, expectedRevision, events }) => store.append(stream, expectedRevision, events));
  await Promise.all(answers);
}

/** Sends the same again while the outcome is unknown: what was written is recognised. */
async function insistently(work: () => Promise<void>): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await work();
    } catch (error) {
      const passing = error instanceof OutcomeUnknown || error instanceof StoreUnavailable;
      if (!passing || tries >= MAX_TRIES) throw error;
      await sleep(backoffMs(tries));
    }
  }
}

/** The same items, the next of which is being made while one is worked on. */
async function* ahead<T>(items: AsyncGenerator<T>): AsyncGenerator<T> {
  let next = items.next();
  for (;;) {
    const { done, value } = await next;
    if (done) return;
    next = items.next();
    next.catch(() => undefined); // told when it is waited for, if the work before it succeeds
    yield value;
  }
}

/** Consecutive appends, so many as are handed over at once. */
async function* windows(file: string, log: string): AsyncGenerator<readonly Append[]> {
  let window: Append[] = [];
  let size = { events: 0, bytes: 0 };
  for await (const { bytes, ...append } of appendsOf(file, log)) {
    const events = size.events + append.events.length;
    if (window.length > 0 && (events > MAX_WINDOW_EVENTS || size.bytes + bytes > MAX_WINDOW_BYTES)) {
      yield window;
      window = [];
      size = { events: 0, bytes: 0 };
    }
    window.push(append);
    size = { events: size.events + append.events.length, bytes: size.bytes + bytes };
  }
  if (window.length > 0) yield window;
}

type SizedAppend = Append & { readonly events: NewEvent[]; bytes: number };

/** Runs of events that follow each other in one stream, cut to what an append may hold. */
async function* appendsOf(file: string, log: string): AsyncGenerator<SizedAppend> {
  let current: SizedAppend | undefined;
  for await (const line of linesOf(file)) {
    if (line.kind !== "event") continue;
    const event = importedEvent(line, log);
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
