// Read markers of one room on their way to those who follow it: of each reader the newest alone.

import type { RoomId } from "../../contract/ids.ts";
import { reveal } from "../../domain/event.ts";
import { readsStream } from "../../domain/reads.ts";
import { decode, decodeRaw } from "../../event-store/envelope.ts";
import type { RecordedEvent } from "../../event-store/event-store.ts";
import type { Keyring } from "../../event-store/sealing.ts";
import { batchPerTick } from "../../platform/batch-loader.ts";
import { backoffMs, messageOf, pause } from "../../platform/supervise.ts";

type MarkerParts = {
  readonly keyring: Keyring;
  readonly logger: { warn(fields: object, message: string): void };
};

/** Supervised: what cannot be opened now is tried again. */
export class Markers {
  readonly #parts: MarkerParts;
  readonly #room: RoomId;
  readonly #tell: (frame: Buffer) => void;
  readonly #closing: AbortSignal;
  /** By reader, the newest marker that was not passed on yet. */
  readonly #waiting = new Map<string, RecordedEvent>();
  #passing = false;

  /** `tell` hands a frame to all who follow the room; must not throw. Nothing is told once the room is `closing`. */
  constructor(parts: MarkerParts, room: RoomId, tell: (frame: Buffer) => void, closing: AbortSignal) {
    this.#parts = parts;
    this.#room = room;
    this.#tell = tell;
    this.#closing = closing;
  }

  /** A read marker, from the feed. Of several that wait only the newest of each reader is passed on. */
  offer(event: RecordedEvent): void {
    this.#waiting.set(readerOf(event), event);
    if (!this.#passing) void this.#pass();
  }

  async #pass(): Promise<void> {
    this.#passing = true;
    let failures = 0;
    await batchPerTick(); // with what else the log tells meanwhile, and after the answer to who marked it here
    while (this.#waiting.size > 0 && !this.#closing.aborted) {
      const events = [...this.#waiting.values()];
      this.#waiting.clear();
      try {
        const opened = await decode(this.#parts.keyring, events);
        if (this.#closing.aborted) return;
        for (const event of opened) {
          if (event.type !== "ReadMarked") continue;
          const at = new Date(event.meta.at).toISOString();
          const { user, seq } = event.data;
          const frame = { type: "read", room_id: this.#room, user_id: reveal(user), seq, at };
          this.#tell(Buffer.from(JSON.stringify(frame)));
        }
        failures = 0;
      } catch (error) {
        for (const event of events) {
          if (!this.#waiting.has(readerOf(event))) this.#waiting.set(readerOf(event), event);
        }
        failures += 1;
        const about = { stream: readsStream(this.#room), failures, error: messageOf(error) };
        this.#parts.logger.warn(about, "read markers could not be passed on");
        await pause(backoffMs(failures), this.#closing);
      }
    }
    this.#passing = false;
  }
}

const readerOf = (event: RecordedEvent): string => String(decodeRaw(event).subject);
