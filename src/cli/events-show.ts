// `events show` and `events tail`: the stored events, with sealed fields masked.
import type { JsonObject } from "../contract/json.ts";
import { decodeMetadata, decodeRaw } from "../event-store/envelope.ts";
import type { EventStore, Position, RecordedEvent } from "../event-store/event-store.ts";
import { SEALED } from "../event-store/sealing.ts";

const PAGE = 500;

/** What an operator sees of an event. Sealed fields read `{"sealed": true}`. */
function shownEvent(event: RecordedEvent): JsonObject {
  const { actor, client, correlation, causation, at } = decodeMetadata(event);
  const { [SEALED]: _blobs, ...data } = decodeRaw(event);
  return {
    id: event.id,
    type: event.type,
    stream: event.stream,
    revision: event.revision,
    position: event.position,
    at: new Date(at).toISOString(),
    client,
    actor,
    correlation_id: correlation,
    causation_id: causation,
    data: masked(data) as JsonObject,
  };
}

function masked(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(masked);
  if (typeof value !== "object" || value === null) return value;
  if (SEALED in value) return { sealed: true };
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, masked(field)]));
}

/** One line for people. */
export const lineFor = (event: JsonObject): string =>
  `${String(event.at)}  ${String(event.position)}  ${String(event.stream)}@${String(event.revision)}  ${String(event.type)}  ${JSON.stringify(event.data)}`;

/** Every event of a stream, oldest first; an empty stream gives none. */
export async function* eventsOfStream(store: EventStore, stream: string): AsyncGenerator<JsonObject> {
  for (let from = 0; ; from += PAGE) {
    const page = await store.readStream(stream, { from, limit: PAGE });
    for (const event of page) yield shownEvent(event);
    if (page.length < PAGE) return;
  }
}

/** Calls back with each event after a position, until the signal says stop. Without one: from the log's end on. */
export async function followEvents(
  store: EventStore,
  after: Position | "start" | undefined,
  show: (event: JsonObject) => void,
  signal: AbortSignal,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => resolve());
  await using _subscription = store.subscribe({
    name: "events tail",
    after: after ?? (await store.tail()),
    handle: async ({ events }) => {
      for (const event of events) show(shownEvent(event));
    },
  });
  if (!signal.aborted) await promise;
}
