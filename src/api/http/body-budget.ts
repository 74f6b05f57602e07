// What the bodies of requests may take of memory: those of one client together, and those of all.
import { MAX_BODIES_BYTES, MAX_CLIENT_BODIES_BYTES } from "./limits.ts";
import { Problem } from "./problems.ts";

/** What one request's body takes; dispose it when the request is answered. */
export type BodyShare = Disposable & {
  /** Throws Problem (rate_limited, unavailable) when there is no room for so many bytes more. */
  take(bytes: number): void;
};

type BudgetLimits = { readonly perClient: number; readonly all: number };

/** The bodies of this node. A client's slow or many uploads fill its own share, not that of others. */
export class BodyBudget {
  readonly #limits: BudgetLimits;
  /** Of those that have any. */
  readonly #byClient = new Map<string, number>();
  #all = 0;

  constructor(limits: BudgetLimits = { perClient: MAX_CLIENT_BODIES_BYTES, all: MAX_BODIES_BYTES }) {
    this.#limits = limits;
  }

  open(client: string): BodyShare {
    let taken = 0;
    return {
      take: (bytes) => {
        const own = (this.#byClient.get(client) ?? 0) + bytes;
        // fence: bodies-at-once
        if (own > this.#limits.perClient) {
          const detail = "Too much of what this client sends is still arriving or being handled.";
          throw new Problem("rate_limited", { detail, retryAfterSeconds: 1 });
        }
        if (this.#all + bytes > this.#limits.all) throw new Problem("unavailable");
        this.#byClient.set(client, own);
        this.#all += bytes;
        taken += bytes;
      },
      [Symbol.dispose]: () => {
        const left = (this.#byClient.get(client) ?? 0) - taken;
        if (left > 0) this.#byClient.set(client, left);
        else this.#byClient.delete(client);
        this.#all -= taken;
        taken = 0;
      },
    };
  }
}
