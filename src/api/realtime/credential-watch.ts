// Whether what a connection came in with still holds, looked at again whenever that is in doubt.

import type { Services } from "../../app/services.ts";
import { CLOSE, type CloseCode } from "../../contract/errors.ts";
import { messageOf, pause } from "../../platform/supervise.ts";
import { type Identity, identify } from "./identity.ts";
import type { Lifetime } from "./lifetime.ts";

/** How long after a look that brought nothing the next one follows. */
export const RETRY_MS = 200;

type WatchParts = {
  readonly services: Pick<Services, "directory" | "tokens" | "keyring" | "now" | "logger">;
  readonly current: () => Identity | undefined;
  /** It holds; its end may be another one. */
  readonly onHolds: (identity: Identity) => void;
  readonly onEnd: (code: CloseCode) => void;
  /** Aborted when the connection ends. */
  readonly over: Lifetime;
};

export class CredentialWatch {
  readonly #parts: WatchParts;
  #doubted = false;
  #looking = false;

  constructor(parts: WatchParts) {
    this.#parts = parts;
  }

  /** Something changed: looks, and again for as long as a look cannot tell. Never rejects. */
  async doubt(): Promise<void> {
    this.#doubted = true;
    if (this.#looking) return;
    this.#looking = true;
    const { services, over } = this.#parts;
    while (this.#doubted && !over.aborted) {
      this.#doubted = false;
      try {
        await this.#look();
      } catch (error) {
        this.#doubted = true;
        services.logger.warn({ error: messageOf(error) }, "a socket's credential could not be looked at");
      }
      if (this.#doubted) await pause(RETRY_MS, over.signal);
    }
    this.#looking = false;
  }

  async #look(): Promise<void> {
    const { services, current, onHolds, onEnd, over } = this.#parts;
    const identity = current();
    if (identity === undefined) return;
    const again = await identify(services, identity.credential, services.now());
    if (over.aborted) return;
    // Extended meanwhile, or nobody can tell: look again.
    if (current() !== identity || ("refused" in again && again.refused === "unavailable")) this.#doubted = true;
    else if (!("refused" in again)) onHolds(again);
    else {
      const expired = again.refused === "token_expired" || again.refused === "key_expired";
      // fence: socket-revocation
      onEnd(expired ? CLOSE.expired : CLOSE.unauthenticated);
    }
  }
}
