// The text of messages that grow, as it comes: for whoever follows a room on this node, by sockets and SSE alike.
import { textSoFar } from "../../app/growing-messages.ts";
import type { Growth } from "../../app/growth-feed.ts";
import type { Services } from "../../app/services.ts";
import { afterCodePoints, codePoints } from "../../contract/fields.ts";
import type { ServerFrame } from "../../contract/frames.ts";
import type { MessageId, RoomId } from "../../contract/ids.ts";
import { messageOf } from "../../platform/supervise.ts";
import type { RoomChannel } from "./room-channel.ts";

/** Shortest time between two frames of one message: 20 a second. */
const FRAME_EVERY_MS = 50;
/** How often a text is looked at again whose posting has not come to this node yet. */
const MAX_AHEAD = 200;

/** Where a follower's frames go. */
type Sink = {
  /** A frame that others may share; must not throw. */
  send(bytes: Buffer): void;
  /** One of its own, once its reader is ready; `make` gives undefined when it is not wanted any more. */
  sendPaced(make: () => Buffer | undefined): Promise<boolean>;
  /** Whether the message that was posted at a seq may be sent to it. */
  sees(seq: number): boolean;
};

/** One that follows a room: how much of each message it was sent, and which it is just being sent. */
type Follower = Sink & { readonly sent: Map<number, number>; readonly behind: Set<number>; ended: boolean };
/** A message: `published` of it went to all, and `next` follows; `stale`: what follows has to be read. */
type Flow = {
  readonly message: MessageId;
  readonly seq: number;
  published: number;
  next: string;
  stale: boolean;
  timer: NodeJS.Timeout | undefined;
  flushedAt: number;
  ahead: number;
};
type Followed = { readonly channel: RoomChannel; readonly followers: Set<Follower>; readonly flows: Map<number, Flow> };

export class GrowingFrames implements Disposable {
  readonly #services: Services;
  readonly #rooms = new Map<RoomId, Followed>();
  readonly #listening: Disposable;

  constructor(services: Services) {
    this.#services = services;
    this.#listening = services.growth.on((growth) => this.#grew(growth));
  }

  /**
   * Sends what grows in a room until it is disposed: first what there is of each message, then what comes. The follower must
   * have been sent all events of the room up to the channel's head.
   */
  follow(channel: RoomChannel, sink: Sink): Disposable {
    const room = this.#rooms.get(channel.id) ?? { channel, followers: new Set(), flows: new Map() };
    this.#rooms.set(channel.id, room);
    const follower: Follower = { ...sink, sent: new Map(), behind: new Set(), ended: false };
    room.followers.add(follower);
    for (const [seq, { id }] of channel.state?.growing.entries() ?? [])
      void this.#bringUp(room, follower, this.#flow(room, seq, id));
    return {
      [Symbol.dispose]: () => {
        follower.ended = true;
        room.followers.delete(follower);
        if (room.followers.size === 0) this.#close(room);
      },
    };
  }

  [Symbol.dispose](): void {
    this.#listening[Symbol.dispose]();
    for (const room of this.#rooms.values()) this.#close(room);
  }

  #close(room: Followed): void {
    for (const { timer } of room.flows.values()) clearTimeout(timer);
    room.flows.clear();
    if (this.#rooms.get(room.channel.id) === room) this.#rooms.delete(room.channel.id);
  }

  #flow({ flows }: Followed, seq: number, message: MessageId): Flow {
    const known = flows.get(seq);
    if (known !== undefined) return known;
    const never = Number.NEGATIVE_INFINITY;
    const nothing = { published: 0, next: "", stale: true, timer: undefined, flushedAt: never, ahead: 0 };
    const flow: Flow = { message, seq, ...nothing };
    flows.set(seq, flow);
    return flow;
  }

  #grew({ room: id, message, seq, added }: Growth): void {
    const room = this.#rooms.get(id);
    if (room === undefined) return;
    const flow = this.#flow(room, seq, message);
    if (!flow.stale && added?.offset === flow.published + codePoints(flow.next)) flow.next += added.text;
    else flow.stale = true;
    this.#schedule(room, flow);
  }

  #schedule(room: Followed, flow: Flow): void {
    // fence: growing-rate
    const wait = Math.max(0, flow.flushedAt + FRAME_EVERY_MS - performance.now());
    flow.timer ??= setTimeout(() => void this.#flush(room, flow), wait);
  }

  /** Whether a message still grows, as far as this node's followers know; null: its posting has not come yet. */
  #grows({ channel }: Followed, { seq, message }: Flow): boolean | null {
    if (channel.head < seq) return null;
    return channel.state?.growing.get(seq)?.id === message;
  }

  async #flush(room: Followed, flow: Flow): Promise<void> {
    const grows = this.#grows(room, flow);
    flow.flushedAt = performance.now();
    flow.ahead += grows === null ? 1 : 0;
    try {
      if (grows === false || flow.ahead > MAX_AHEAD) return this.#end(room, flow);
      if (grows === true) await this.#publish(room, flow);
      flow.timer = undefined;
      if ((flow.stale || flow.next !== "") && room.flows.get(flow.seq) === flow) this.#schedule(room, flow);
    } catch (error) {
      flow.timer = undefined;
      const about = { message: flow.message, error: messageOf(error) };
      this.#services.logger.warn(about, "growing text not read; followers get it with what comes next");
    }
  }

  #end({ flows, followers }: Followed, { seq, timer }: Flow): void {
    clearTimeout(timer);
    flows.delete(seq);
    for (const { sent } of followers) sent.delete(seq);
  }

  async #publish(room: Followed, flow: Flow): Promise<void> {
    const offset = flow.published;
    const { stale, next } = flow;
    Object.assign(flow, { stale: false, next: "" });
    const text = stale ? await this.#read(room, flow, offset) : next;
    if (text === null || this.#grows(room, flow) !== true) return this.#end(room, flow);
    flow.published = offset + codePoints(text);
    // Of what came while it was read one cannot tell whether it is in it.
    if (flow.next !== "") Object.assign(flow, { stale: true, next: "" });
    if (text === "") return;
    const bytes = this.#frame(room, flow, offset, text);
    for (const follower of room.followers) {
      const sent = follower.sent.get(flow.seq) ?? 0;
      if (follower.behind.has(flow.seq) || !follower.sees(flow.seq)) continue;
      if (sent < offset) void this.#bringUp(room, follower, flow);
      else if (sent < flow.published) {
        follower.sent.set(flow.seq, flow.published);
        const rest = () => this.#frame(room, flow, sent, afterCodePoints(text, sent - offset));
        follower.send(sent === offset ? bytes : rest());
      }
    }
  }

  /** Sends one follower what it lacks, until it has what all have. */
  async #bringUp(room: Followed, follower: Follower, flow: Flow): Promise<void> {
    const { seq } = flow;
    // fence: growing-unseen
    if (!follower.sees(seq)) return;
    follower.behind.add(seq);
    try {
      for (;;) {
        const offset = follower.sent.get(seq) ?? 0;
        const text = await this.#read(room, flow, offset);
        if (text === null) break;
        const wanted = () => !follower.ended && this.#grows(room, flow) === true;
        const make = () => (wanted() ? this.#frame(room, flow, offset, text) : undefined);
        if (text !== "" && !(await follower.sendPaced(make))) break;
        follower.sent.set(seq, offset + codePoints(text));
        if (flow.published > offset + codePoints(text)) continue;
        // Whoever comes first need not wait for the next to be read again.
        if (flow.stale && flow.timer === undefined)
          Object.assign(flow, { published: offset + codePoints(text), stale: false });
        break;
      }
    } catch (error) {
      const about = { message: flow.message, error: messageOf(error) };
      this.#services.logger.warn(about, "growing text not read; a follower gets it with what comes next");
    }
    follower.behind.delete(seq);
  }

  #read({ channel }: Followed, { message, seq }: Flow, offset: number): Promise<string | null> {
    return textSoFar(this.#services, { room: channel.id, message, seq }, offset);
  }

  #frame({ channel }: Followed, { message, seq }: Flow, offset: number, text: string): Buffer {
    const frame: ServerFrame = { type: "growing", room_id: channel.id, id: message, seq, text, offset };
    return Buffer.from(JSON.stringify(frame));
  }
}
