// domain/reads.ts: how far each member has read a room; frequent, so kept out of the room's seq.
import { z } from "zod";
import { type RoomId, type Subject, SubjectSchema } from "../contract/ids.ts";
import type { Decider, EventContext, TimedCommand } from "./decider.ts";
import { type EventsOf, event, seal, sealed } from "./event.ts";
import { PersistentMap } from "./persistent-map.ts";

export const readsStream = (room: RoomId) => `reads-${room}`;

// Events. A storage format.
export const readsEvents = {
  ReadMarked: event({
    data: z.object({ subject: SubjectSchema, user: sealed(z.string()), seq: z.number() }),
    seals: { user: "subject" },
  }),
} as const;
export type ReadsEvent = EventsOf<typeof readsEvents>;

// State: the newest marker of each reader.
type Reads = PersistentMap<Subject, number>;

function evolve(state: Reads, event: ReadsEvent, _fact: EventContext): Reads {
  return state.set(event.data.subject, event.data.seq);
}

// Commands. `floor` is what the room itself says was read: the seq of joining, or of the reader's last message.
export type ReadsCommand = TimedCommand & {
  type: "MarkRead";
  subject: Subject;
  user: string;
  seq: number;
  floor: number;
};

function decide(state: Reads, command: ReadsCommand): readonly ReadsEvent[] {
  const before = Math.max(state.get(command.subject) ?? 0, command.floor);
  if (command.seq <= before) return [];
  return [{ type: "ReadMarked", data: { subject: command.subject, user: seal(command.user), seq: command.seq } }];
}

const entries = z.array(z.tuple([SubjectSchema, z.number()]));

export const readsDecider: Decider<Reads, ReadsEvent, ReadsCommand> = {
  name: "reads",
  events: readsEvents,
  initial: PersistentMap.empty(),
  evolve,
  decide,
  snapshot: {
    version: 1,
    toJson: (state) => [...state.entries()],
    fromJson: (json) => PersistentMap.of(entries.parse(json)),
  },
};
