// `events export`: the whole log and its data keys, as NDJSON.
import { createWriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import { Readable, type Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { EventStore, Position } from "../event-store/event-store.ts";
import { LOG_STREAM } from "../event-store/log-created.ts";
import { failpoint } from "../platform/failpoint.ts";
import type { Storage } from "../storage.ts";
import { EXPORT_VERSION, type Line, lineOf } from "./export-format.ts";

const PAGE = 1_000;

export type Moved = { readonly events: number; readonly keys: number };

/** Exports into a new file that only its owner can read, on disk when this returns. On failure no part of it stays. */
export async function exportToFile(
  storage: Pick<Storage, "store" | "keyring">,
  file: string,
  now: Date,
  onProgress: (events: number) => void,
): Promise<Moved> {
  try {
    return await exportEvents(
      storage,
      createWriteStream(file, { flags: "wx", mode: 0o600, flush: true }),
      now,
      onProgress,
    );
  } catch (error) {
    const isAnothers = error instanceof Error && "code" in error && error.code === "EEXIST";
    if (!isAnothers) await rm(file, { force: true });
    throw error;
  }
}

/**
 * Writes every event up to the log's end as of the call, then the keys: those are read last, since keys are durable
 * before the events that they seal. The log's own first event stays: each log has its own. Ends `out` unless it is
 * standard output. Throws what the stores throw, and what `out` fails with.
 */
export async function exportEvents(
  storage: Pick<Storage, "store" | "keyring">,
  out: Writable,
  now: Date,
  onProgress: (events: number) => void,
): Promise<Moved> {
  const moved = { events: 0, keys: 0 };
  const lines = linesOf(storage, now, moved, onProgress);
  await pipeline(Readable.from(lines, { highWaterMark: 2 }), out, { end: out !== process.stdout });
  return moved;
}

/** The file, a page of lines at a time; counts what it has given. */
async function* linesOf(
  { store, keyring }: Pick<Storage, "store" | "keyring">,
  now: Date,
  moved: { events: number; keys: number },
  onProgress: (events: number) => void,
): AsyncGenerator<string> {
  const end = await store.tail();
  yield text({ kind: "header", version: EXPORT_VERSION, log: store.logId, exported_at: now.toISOString() });
  for await (const page of eventsUpTo(store, end)) {
    const events = page.filter((event) => event.stream !== LOG_STREAM);
    moved.events += events.length;
    yield events.map((event) => text(lineOf(event))).join("");
    onProgress(moved.events);
  }
  failpoint("events-exported/keys-exported");
  for await (const key of keyring.exportWrapped()) {
    moved.keys += 1;
    yield text({ kind: "key", ...key });
  }
  yield text({ kind: "end", ...moved });
}

const text = (line: Line): string => `${JSON.stringify(line)}\n`;

/** Pages up to a position, inclusive. */
async function* eventsUpTo(store: EventStore, end: Position) {
  for (let after: Position | "start" = "start"; after !== end; ) {
    const page = await store.readAll({ after, limit: PAGE });
    const last: Position | undefined = page.at(-1)?.position;
    yield page.filter((event) => event.position <= end);
    if (last === undefined || last >= end) return;
    after = last;
  }
}
