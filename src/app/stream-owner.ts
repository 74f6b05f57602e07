// Whose a stream is: the client of its first event, which never changes.
import { LRUCache } from "lru-cache";
import type { ClientId } from "../contract/ids.ts";
import { decodeMetadata } from "../event-store/envelope.ts";
import type { EventStore } from "../event-store/event-store.ts";
import { maxEntries } from "../platform/bounded.ts";

/** Streams whose client is kept in memory on this node. */
const MAX_OWNERS = 200_000;

/** What was found once holds for ever; what was not found may still come, and is looked for again. */
const owners = new WeakMap<EventStore, LRUCache<string, ClientId>>();

/** The client that a stream belongs to; undefined when there is no such stream, or it is the system's own. */
export async function streamOwner(store: EventStore, stream: string): Promise<ClientId | undefined> {
  const known = owners.get(store) ?? new LRUCache<string, ClientId>(maxEntries(MAX_OWNERS));
  owners.set(store, known);
  const kept = known.get(stream);
  if (kept !== undefined) return kept;
  const [first] = await store.readStream(stream, { from: 0, limit: 1 });
  const client = first === undefined ? null : decodeMetadata(first).client;
  if (client === null) return undefined;
  known.set(stream, client);
  return client;
}
