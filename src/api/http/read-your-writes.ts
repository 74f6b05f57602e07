// Reading one's own writes: a read waits until the read model has what its caller wrote, or the position it names.
import { LRUCache } from "lru-cache";
import type { Positions } from "../../app/positions.ts";
import type { Caller, Services } from "../../app/services.ts";
import type { Position } from "../../event-store/event-store.ts";
import type { ReadSide } from "../../projections/read-side.ts";
import { Problem } from "./problems.ts";
import type { ApiMiddleware, ReadTarget } from "./route.ts";

/** How long a read waits for the position in `Read-After`. */
const NAMED_WAIT_MS = 5_000;
/** How long it waits, without the header, for what its caller wrote through this node. */
const OWN_WAIT_MS = 1_000;
/** Callers whose last write is remembered. */
const REMEMBERED_CALLERS = 50_000;

/** The last writes through this node, by key and by user. */
export class ReadYourWrites {
  readonly #readSide: Pick<ReadSide, "compare" | "waitFor">;
  readonly #positions: Positions;
  readonly #lastWrites = new LRUCache<string, Position>({ max: REMEMBERED_CALLERS });

  constructor({ readSide, positions }: Pick<Services, "readSide" | "positions">) {
    this.#readSide = readSide;
    this.#positions = positions;
  }

  record(caller: Caller, position: Position): void {
    const name = nameOf(caller);
    const before = this.#lastWrites.get(name);
    // Positions of one log compare bytewise; answers may overtake each other.
    if (before === undefined || position > before) this.#lastWrites.set(name, position);
  }

  /** What a read with this `Read-After` waits for. Throws Problem (invalid_position), StoreUnavailable. */
  async targetOf(caller: Caller, readAfter: string | undefined): Promise<ReadTarget | undefined> {
    if (readAfter === undefined) {
      const position = this.#lastWrites.get(nameOf(caller));
      return position === undefined ? undefined : { position, named: false };
    }
    if (readAfter === "none") return undefined;
    const position = this.#positions.open(caller.client, readAfter);
    if (position === undefined) throw new Problem("invalid_position");
    const found = await this.#readSide.compare(position);
    if (found === "beyond" || found === "foreign") throw new Problem("invalid_position");
    return found === "reached" ? undefined : { position, named: true };
  }

  /** Throws Problem (read_model_behind) when a named position is not reached in time. */
  async waitFor(target: ReadTarget | undefined): Promise<void> {
    if (target === undefined) return;
    const isReadable = await this.#readSide.waitFor(target.position, target.named ? NAMED_WAIT_MS : OWN_WAIT_MS);
    if (!isReadable && target.named) throw new Problem("read_model_behind");
  }
}

const nameOf = (caller: Caller): string => (caller.kind === "key" ? caller.keyId : caller.subject);

/** Reads `Read-After`. A wrong one is refused before any other fault of the request. */
export function readReadAfter(writes: ReadYourWrites): ApiMiddleware {
  return async ({ req: { headers }, state }, next) => {
    const readAfter = headers["read-after"];
    const target = await writes.targetOf(state.caller, readAfter === undefined ? undefined : String(readAfter));
    if (target !== undefined) state.readTarget = target;
    return next();
  };
}

/** Waits for it: only once the request is known to be valid. */
export function waitForWrites(writes: ReadYourWrites): ApiMiddleware {
  return async ({ state: { readTarget } }, next) => {
    await writes.waitFor(readTarget);
    return next();
  };
}
