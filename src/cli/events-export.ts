// `events export`: the whole log and its data keys, as NDJSON.
import type { Writable } from "node:stream";
import { finished } from "node:stream/promises";
import type { Position, RecordedEvent } from "../event-store/event-store.ts";
import { LOG_STREAM } from "../event-store/log-created.ts";
import type { Storage } from "../runtime/storage.ts";
import { EXPORT_VERSION, type Line, lineOf } from "./export-format.ts";

const PAGE = 1_000;

export type Moved = { readonly events: number; readonly keys: number };

/**
 * Writes every event up to the log's end as of the call, then the keys: those are read last, since keys are durable
 * before the events that they seal. The log's own first event stays: each log has its own.
 */
export async function exportEvents(
  storage: Pick<Storage, "store" | "keyring">,
  out: Writable,
  now: Date,
  onProgress: (events: number) => void,
): Promise<Moved> {
  const { store, keyring } = storage;
  const end = await store.tail();
  const write = async (line: Line): Promise<void> => {
    if (!out.write(`${JSON.stringify(line)}\n`)) await new Promise<void>((resolve) => out.once("drain", resolve));
  };
  await write({ kind: "header", version: EXPORT_VERSION, log: store.logId, exported_at: now.toISOString() });
  let events = 0;
  let keys = 0;
  for (let after: Position | "start" = "start"; after !== end; ) {
    const page: readonly RecordedEvent[] = await store.readAll({ after, limit: PAGE });
    const wanted: readonly RecordedEvent[] = page.filter((event) => event.position <= end);
    for (const event of wanted) {
      if (event.stream === LOG_STREAM) continue;
      await write(lineOf(event));
      events += 1;
    }
    onProgress(events);
    after = wanted.length < page.length || page.length === 0 ? end : (page.at(-1)?.position ?? end);
  }
  for await (const key of keyring.exportWrapped()) {
    await write({ kind: "key", ...key });
    keys += 1;
  }
  await write({ kind: "end", events, keys });
  out.end();
  await finished(out, { readable: false });
  return { events, keys };
}
