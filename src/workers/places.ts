// Places at a host: at most so many attempts reach one host at once, and at most so many a second where that is asked.
import type { ClientId } from "../contract/ids.ts";
import { type Instant, SECOND_MS } from "../contract/time.ts";

/** How long an attempt waits for a place before it goes back, so that a slow host does not hold its client up. */
export const PLACE_WAIT_MS = SECOND_MS;

type Turn = { readonly client: ClientId; readonly start: () => void };
type Host = { taken: number; readonly byClient: Map<ClientId, number>; readonly waiting: Set<Turn> };
type PlaceRequest = {
  readonly host: string;
  readonly client: ClientId;
  /** How many places the host has. */
  readonly limit: number;
  readonly waitMs: number;
  readonly signal: AbortSignal;
};

/** The places of this process. A place that comes free goes to the client that has the fewest at that host. */
export class Places {
  readonly #hosts = new Map<string, Host>();

  /** Gives how to leave the place again, once; undefined when none came free in time or the signal aborted. */
  async enter({ host: name, client, limit, waitMs, signal }: PlaceRequest): Promise<(() => void) | undefined> {
    const host = this.#hosts.get(name) ?? { taken: 0, byClient: new Map(), waiting: new Set() };
    this.#hosts.set(name, host);
    if (host.taken < limit && host.waiting.size === 0) take(host, client);
    else if (!(await waitForTurn(host, client, waitMs, signal))) return undefined;
    let left = false;
    return () => {
      if (!left) this.#leave(name, host, client);
      left = true;
    };
  }

  #leave(name: string, host: Host, client: ClientId): void {
    host.taken -= 1;
    host.byClient.set(client, (host.byClient.get(client) ?? 1) - 1);
    if (host.byClient.get(client) === 0) host.byClient.delete(client);
    let next: Turn | undefined;
    for (const turn of host.waiting) {
      const fewer = (host.byClient.get(turn.client) ?? 0) < (host.byClient.get(next?.client ?? turn.client) ?? 0);
      if (next === undefined || fewer) next = turn;
    }
    if (next !== undefined) {
      // Taken here, so that nobody slips in before it runs.
      take(host, next.client);
      next.start();
    } else if (host.taken === 0) this.#hosts.delete(name);
  }
}

function take(host: Host, client: ClientId): void {
  host.taken += 1;
  host.byClient.set(client, (host.byClient.get(client) ?? 0) + 1);
}

function waitForTurn(host: Host, client: ClientId, waitMs: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    const settle = (given: boolean) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", giveUp);
      host.waiting.delete(turn);
      resolve(given);
    };
    const turn: Turn = { client, start: () => settle(true) };
    const giveUp = () => settle(false);
    const timer = setTimeout(giveUp, waitMs);
    signal.addEventListener("abort", giveUp, { once: true });
    host.waiting.add(turn);
  });
}

/** Spaces what goes out under a name evenly. */
export class Pace {
  readonly #next = new Map<string, Instant>();

  /** How long to wait for the next turn; the turn is taken when that is at most `patienceMs`. */
  take(name: string, perSecond: number, now: Instant, patienceMs: number): number {
    for (const [other, at] of this.#next) if (at <= now) this.#next.delete(other);
    const turn = Math.max(now, this.#next.get(name) ?? now);
    if (turn - now <= patienceMs) this.#next.set(name, turn + SECOND_MS / perSecond);
    return turn - now;
  }
}
