// Deliveries have their ids before they are made: who acknowledges in between is answered when they are there.
import { setTimeout } from "node:timers/promises";
import { SECOND_MS } from "../../contract/time.ts";
import { DomainError } from "../../domain/errors.ts";

/** How long one is waited for. A delivery is made a moment after its notification was accepted, or released. */
const MAKING_WAIT_MS = SECOND_MS;
const LOOK_AGAIN_MS = 50;

/**
 * Acknowledges, again for a while as long as the delivery is not found. Another's is waited for like one that is not
 * there: the time tells nothing. Throws what acknowledging throws.
 */
export async function onceMade<T>(acknowledge: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + MAKING_WAIT_MS;
  for (;;) {
    try {
      return await acknowledge();
    } catch (error) {
      const missing = error instanceof DomainError && error.code === "not_found";
      if (!missing || performance.now() >= deadline) throw error;
    }
    await setTimeout(LOOK_AGAIN_MS);
  }
}
