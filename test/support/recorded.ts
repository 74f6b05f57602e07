// Events as a log gives them back to somebody who reads: the same bytes, in arrays that the writer never held.

import type { CommandContext } from "../../src/event-store/envelope.ts";
import { type NewEvent, positionOf, type RecordedEvent } from "../../src/event-store/event-store.ts";
import { NOW } from "./given.ts";

/** Of the command that wrote them. */
export const context: CommandContext = {
  client: "cli_a",
  actor: { type: "key", id: "key_a" },
  commandId: "command-1",
  correlation: "request-1",
  causation: "command-1",
};

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
