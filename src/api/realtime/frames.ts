// Makes the frames of a room's events, once for all sockets; and hides from members what is older than their joining.
import { messageSeqOf, type StoredRoomEvent } from "../../app/public-room-events.ts";
import { RoomEventMaker } from "../../app/room-event-maker.ts";
import type { Services } from "../../app/services.ts";
import type { ServerFrame } from "../../contract/frames.ts";
import type { RoomId } from "../../contract/ids.ts";
import type { PublicEvent } from "../../contract/public-events.ts";
import { eventSeenFrom } from "../../domain/room-history.ts";
import type { Room } from "../../domain/room-state.ts";
import type { Frame } from "./frame-ring.ts";

/** Makes the frames of one room. `past` remembers where it ended: of consecutive pages the second costs no loading. */
export class FrameMaker {
  readonly #maker: RoomEventMaker;

  constructor(services: Services, room: RoomId) {
    this.#maker = new RoomEventMaker(services, room);
  }

  /** Frames of new events. `states`: the room just before the first of them, then just after each. */
  async live(events: readonly StoredRoomEvent[], states: readonly Room[]): Promise<readonly Frame[]> {
    return framesOf(events, await this.#maker.live(events, states));
  }

  /** Frames of past events, with what has become of their messages in the room as it is `now`. */
  async past(events: readonly StoredRoomEvent[], now: Room): Promise<readonly Frame[]> {
    return framesOf(events, await this.#maker.past(events, now));
  }
}

const framesOf = (events: readonly StoredRoomEvent[], shown: readonly PublicEvent[]): readonly Frame[] =>
  shown.flatMap(({ id, room_id, seq, type, ...more }, index) => {
    const event = events[index];
    if (event === undefined || seq === null) return [];
    // Its data is JSON made of resources.
    const frame = { type: "event", id, room_id, seq, event: type, ...more } as ServerFrame;
    const bytes = Buffer.from(JSON.stringify(frame));
    return [{ seq, messageSeq: messageSeqOf(event), bytes, position: event.position }];
  });

/** What frames show to whom their messages are hidden; made once for all of them. */
const hidden = new WeakMap<Buffer, Buffer>();

/** The frame of an event as it is told to who sees the room from a seq on. `messageSeq`: of the message that it is about. */
export function frameSeenFrom(bytes: Buffer, messageSeq: number | null, from: number): Buffer {
  // fence: hidden-in-frames
  if (messageSeq === null || messageSeq >= from) return bytes;
  const known = hidden.get(bytes);
  if (known !== undefined) return known;
  // Of its message nothing is left, whatever the seq of the frame.
  const frame: Extract<ServerFrame, { type: "event" }> = JSON.parse(bytes.toString());
  const made = Buffer.from(JSON.stringify(eventSeenFrom(frame, frame.seq)));
  hidden.set(bytes, made);
  return made;
}
