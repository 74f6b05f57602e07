// Reading one's own writes: a read waits until the read model has what its caller wrote, or the position it names.
import { LRUCache } from "lru-cache";
import type { Caller } from "../../app/authenticate.ts";
import type { Position } from "../../event-store/event-store.ts";
import type { ReadSide } from "../../projections/read-side.ts";
import { Problem } from "./problems.ts";

/** How long a read waits for the position in `Read-After`. */
const ASKED_WAIT_MS = 5_000;
/** How long it waits, without the header, for what its caller wrote through this node. */
const OWN_WAIT_MS = 1_000;
/** Callers whose last write is remembered. */
const REMEMBERED = 50_000;

/** What a read has to wait for. */
type Wait = { readonly position: Position; readonly asked: boolean } | undefined;

/** The last writes through this node, by key and by user. */
export class OwnWrites {
  readonly #readSide: Pick<ReadSide, "compare" | "waitFor">;
  readonly #last = new LRUCache<string, Position>({ max: REMEMBERED });

  constructor(readSide: Pick<ReadSide, "compare" | "waitFor">) {
    this.#readSide = readSide;
  }

  note(caller: Caller, position: Position): void {
    const name = nameOf(caller);
    const before = this.#last.get(name);
    // Positions of one log compare bytewise; answers may overtake each other.
    if (before === undefined || position > before) this.#last.set(name, position);
  }

  /** Reads `Read-After`. Throws Problem (invalid_position), StoreUnavailable. */
  async waitOf(caller: Caller, readAfter: string | undefined): Promise<Wait> {
    if (readAfter === undefined) {
      const position = this.#last.get(nameOf(caller));
      return position === undefined ? undefined : { position, asked: false };
    }
    if (readAfter === "none") return undefined;
    const where = await this.#readSide.compare(readAfter);
    if (where === "beyond" || where === "foreign") throw new Problem("invalid_position");
    return where === "reached" ? undefined : { position: readAfter as Position, asked: true };
  }

  /** Waits. Throws Problem (read_model_behind) when a position that was asked for is not reached. */
  async settle(wait: Wait): Promise<void> {
    if (wait === undefined) return;
    const reached = await this.#readSide.waitFor(wait.position, wait.asked ? ASKED_WAIT_MS : OWN_WAIT_MS);
    if (!reached && wait.asked) throw new Problem("read_model_behind");
  }
}

const nameOf = (caller: Caller): string => (caller.kind === "key" ? caller.keyId : caller.subject);
