// `events import`: an export into this log. Every stream keeps its revisions and every event its id.
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { type EventStore, MAX_APPEND_BYTES, type NewEvent, sizeOf } from "../event-store/event-store.ts";
import type { WrappedKey } from "../event-store/keyring-moving.ts";
import type { Storage } from "../runtime/storage.ts";
import type { Moved } from "./events-export.ts";
import { type EventLine, importedEvent, type Line, LineSchema } from "./export-format.ts";

const MAX_EVENTS = 500;

/** The file is not a whole export, or does not fit into this log. */
export class ImportError extends Error {
  override readonly name = "ImportError";
}

async function* linesOf(file: string): AsyncGenerator<Line> {
  let number = 0;
  for await (const text of createInterface({ input: createReadStream(file), crlfDelay: Number.POSITIVE_INFINITY })) {
    number += 1;
    yield parseLine(text, number);
  }
}

function parseLine(text: string, number: number): Line {
  try {
    return LineSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new ImportError(`line ${number} is not a line of an export: ${error instanceof Error ? error.message : ""}`);
  }
}

/** Reads the file once without writing: it must be whole, and of another log than this one. */
async function checkWhole(file: string, store: EventStore): Promise<{ log: string; events: number }> {
  let log: string | undefined;
  let events = 0;
  let end: { events: number } | undefined;
  for await (const line of linesOf(file)) {
    if (line.kind === "header") log = line.log;
    if (line.kind === "event") events += 1;
    if (line.kind === "end") end = line;
  }
  if (log === undefined) throw new ImportError("the file does not begin with an export's header");
  if (end === undefined || end.events !== events) throw new ImportError("the file was cut short: its end is missing");
  if (log === store.logId) throw new ImportError("the file was exported from this very log");
  return { log, events };
}

async function* keysOf(file: string): AsyncGenerator<WrappedKey> {
  for await (const line of linesOf(file)) {
    if (line.kind !== "key") continue;
    const { kind: _kind, ...key } = line;
    yield key;
  }
}

/**
 * Imports keys first, so that nobody reads an event whose key is still missing, then the events in their order. Events
 * that are there already, from an import that was cut short, are recognised by their ids and not written again.
 * Throws ImportError, KeyConflict, WrongEncryptionKeys, WrongExpectedRevision (the stream has other events here).
 */
export async function importEvents(
  storage: Pick<Storage, "store" | "keyring">,
  file: string,
  onProgress: (events: number, total: number) => void,
): Promise<Moved> {
  const { log, events: total } = await checkWhole(file, storage.store);
  const { imported: keys } = await storage.keyring.importWrapped(keysOf(file));
  let events = 0;
  const append = async ({ stream, first, batch }: Batch): Promise<void> => {
    await storage.store.append(stream, first - 1, batch);
    events += batch.length;
    onProgress(events, total);
  };
  // In the file's order, one append after the other: positions grow as they did, and lists sort by them.
  for await (const batch of batches(file, log)) await append(batch);
  return { events, keys };
}

type Batch = { readonly stream: string; readonly first: number; readonly batch: NewEvent[]; bytes: number };

/** Runs of events that follow each other in one stream, cut to what an append may hold. */
async function* batches(file: string, log: string): AsyncGenerator<Batch> {
  let current: Batch | undefined;
  for await (const line of linesOf(file)) {
    if (line.kind !== "event") continue;
    const event = importedEvent(line, log);
    if (current !== undefined && !fits(current, line, event)) {
      yield current;
      current = undefined;
    }
    current ??= { stream: line.stream, first: line.revision, batch: [], bytes: 0 };
    current.batch.push(event);
    current.bytes += sizeOf(event);
  }
  if (current !== undefined) yield current;
}

const fits = (batch: Batch, line: EventLine, event: NewEvent): boolean =>
  batch.stream === line.stream &&
  batch.first + batch.batch.length === line.revision &&
  batch.batch.length < MAX_EVENTS &&
  batch.bytes + sizeOf(event) <= MAX_APPEND_BYTES;
