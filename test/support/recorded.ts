// Events as a log gives them back to somebody who reads: the same bytes, in arrays that the writer never held.
import { type NewEvent, positionOf, type RecordedEvent } from "../../src/event-store/event-store.ts";
import { NOW } from "./given.ts";

/** As it stands in a stream of a log of its own, at this revision. */
export const recorded = (event: NewEvent, stream: string, revision = 0): RecordedEvent => ({
  ...event,
  data: Uint8Array.from(event.data),
  metadata: Uint8Array.from(event.metadata),
  stream,
  revision,
  position: positionOf("log1", revision + 1),
  recordedAt: NOW,
});
