// One room on one socket as its client sees it, and whatever is wrong with what it sees.
import type { Frame } from "./slow-reader.ts";

/** What became of a message, as the log tells it: what happened to it, in order. */
export type Fate = (messageSeq: number) => readonly { readonly seq: number; readonly deletes: boolean }[];

export class RoomView {
  readonly faults: string[] = [];
  phase: "off" | "catching up" | "live" = "off";
  /** The seq of the last event that came. */
  seen = 0;
  readonly #user: string | null;
  readonly #fate: Fate;
  #next = 0;
  /** The room's head when it subscribed. */
  #head = 0;
  /** What the last event must be followed by. */
  #ending: string | undefined;

  /** `user` is null for an observer. */
  constructor(user: string | null, fate: Fate) {
    this.#user = user;
    this.#fate = fate;
  }

  take(frame: Frame): void {
    const seq = Number(frame.seq);
    switch (frame.type) {
      case "subscribed":
        // Again with `after_seq` it starts anew from there.
        this.#expect(this.phase === "off" || frame.ref !== "live", "subscribed twice");
        this.#head = seq;
        this.#next = (frame.ref === "live" ? seq : Number(frame.ref)) + 1;
        this.phase = frame.ref === "live" ? "live" : "catching up";
        return;
      case "caught_up":
        this.#expect(this.phase === "catching up", `caught up while ${this.phase}`);
        this.#expect(seq === this.#next - 1, `caught up at ${seq}, not ${this.#next - 1}`);
        this.phase = "live";
        return;
      case "unsubscribed":
        // One who catches up need not have come as far as what ended it.
        if (this.phase === "live") this.#expect(frame.reason === (this.#ending ?? "asked"), `ended: ${frame.reason}`);
        this.phase = "off";
        this.#ending = undefined;
        return;
      case "event":
        this.#event(frame, seq);
    }
  }

  /** Whether it has everything up to the room's head. */
  has(head: number): boolean {
    return this.phase === "live" && this.#next === head + 1;
  }

  #event({ event, data }: Frame, seq: number): void {
    this.#expect(this.phase !== "off", `seq ${seq} while it was not subscribed`);
    this.#expect(seq === this.#next, `seq ${seq}, not ${this.#next}`);
    this.#expect(this.#ending === undefined, `seq ${seq} after ${this.#ending}`);
    this.#next = seq + 1;
    this.seen = seq;
    const { user_id: user, content, reason } = (data ?? {}) as { user_id?: string; content?: unknown; reason?: string };
    if (this.phase === "live" && event === "room.deleted") this.#ending = "room_deleted";
    if (this.phase === "live" && event === "member.left" && user === this.#user) this.#ending = reason;
    if (event !== "message.posted") return;
    const fate = this.#fate(seq);
    const wasDeleted = fate.findLast((one) => one.seq <= this.#head)?.deletes === true;
    const restored = fate.some((one) => one.seq > this.#head && !one.deletes);
    if (wasDeleted && !restored) this.#expect(content === null, `seq ${seq} shows what was deleted before`);
    if (content === null) this.#expect(fate.length > 0, `seq ${seq} shows nothing, and was never deleted`);
  }

  #expect(holds: boolean, otherwise: string): void {
    if (!holds) this.faults.push(otherwise);
  }
}
