// domain/reads.ts: how far each member has read a room and received it; frequent, so kept out of the room's seq.
import { z } from "zod";
import { type RoomId, type Subject, SubjectSchema } from "../contract/ids.ts";
import type { JsonObject } from "../contract/json.ts";
import type { Decider, EventContext, TimedCommand } from "./decider.ts";
import { type EventsOf, event, seal, sealed } from "./event.ts";
import { PersistentMap } from "./persistent-map.ts";

/** What the name of each stream of a room's markers begins with. */
export const READS_STREAMS = "reads-";
export const readsStream = (room: RoomId) => `${READS_STREAMS}${room}`;

const whose = { subject: SubjectSchema, user: sealed(z.string()), seq: z.number() };

// Events. A storage format.
export const readsEvents = {
  ReadMarked: event({
    v: 2,
    /** `base`: of a marker that was set back, the room's head then: own messages up to there read nothing any more. */
    data: z.object({ ...whose, base: z.number().nullable() }),
    seals: { user: "subject" },
    // Until version 1 markers only moved forward.
    upcasts: { 1: (data: JsonObject) => ({ ...data, base: null }) },
  }),
  DeliveredMarked: event({ data: z.object(whose), seals: { user: "subject" } }),
} as const;
export type ReadsEvent = EventsOf<typeof readsEvents>;

// State: the markers of each reader. `base` is 0 until one was set back; `delivered` is never below `read`.
type Markers = { readonly read: number; readonly base: number; readonly delivered: number };
type Reads = PersistentMap<Subject, Markers>;
const UNMARKED: Markers = { read: 0, base: 0, delivered: 0 };

/** The markers after an event; the read model folds by it too. */
export function markersAfter(before: Markers = UNMARKED, { type, data }: ReadsEvent): Markers {
  const delivered = Math.max(before.delivered, before.read, data.seq);
  return type === "DeliveredMarked"
    ? { ...before, delivered }
    : { read: data.seq, base: data.base ?? before.base, delivered };
}

const evolve = (state: Reads, event: ReadsEvent, _context: EventContext): Reads =>
  state.set(event.data.subject, markersAfter(state.get(event.data.subject), event));

// Commands. Floors are what the room itself says, as the read model knows it: joining and one's own messages move markers.
export type ReadsCommand = TimedCommand & { subject: Subject; user: string; seq: number } & (
    | {
        type: "MarkRead";
        /** What joining or the reader's last message has read, if the marker's base is still this one. */
        floor: { readonly seq: number; readonly base: number };
      }
    /** Sets the marker to the seq, which is that of joining at least; `readSeq` is how far was read, `head` the room's. */
    | { type: "MarkUnread"; readSeq: number; head: number }
    | { type: "MarkDelivered"; floor: number }
  );

function decide(state: Reads, command: ReadsCommand): readonly ReadsEvent[] {
  const markers = state.get(command.subject) ?? UNMARKED;
  const { subject, seq } = command;
  const data = { subject, user: seal(command.user), seq };
  switch (command.type) {
    case "MarkRead": {
      const { floor } = command;
      const known = /* fence: floor-of-base */ floor.base === markers.base ? floor.seq : 0;
      return seq <= Math.max(markers.read, known) ? [] : [{ type: "ReadMarked", data: { ...data, base: null } }];
    }
    case "MarkUnread": {
      const { readSeq, head } = command;
      const isSet = markers.read === seq && markers.base === head;
      if (isSet || (readSeq === seq && markers.read <= seq)) return [];
      return [{ type: "ReadMarked", data: { ...data, base: head } }];
    }
    case "MarkDelivered":
      return seq <= Math.max(markers.delivered, command.floor) ? [] : [{ type: "DeliveredMarked", data }];
  }
}

/** By reader: how far was read, the base, how far was delivered. */
const entries = z.array(z.tuple([SubjectSchema, z.number(), z.number(), z.number()]));

export const readsDecider: Decider<Reads, ReadsEvent, ReadsCommand> = {
  name: "reads",
  events: readsEvents,
  initial: PersistentMap.empty(),
  evolve,
  decide,
  snapshot: {
    version: 2,
    toJson: (state) => Array.from(state.entries(), ([who, { read, base, delivered }]) => [who, read, base, delivered]),
    fromJson: (json) =>
      PersistentMap.of(
        entries.parse(json).map(([subject, read, base, delivered]) => [subject, { read, base, delivered }]),
      ),
  },
};
