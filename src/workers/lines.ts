// Who may run now: at most so many jobs of one client at once; those that were taken beyond it wait in line.
import type { ClientId } from "../contract/ids.ts";

export type LineLimits = {
  /** Jobs that run at once, of all clients. */
  readonly running: number;
  /** Jobs of one client that run at once. */
  readonly perClient: number;
  /** Jobs of one client that wait in memory beside them. */
  readonly waitingPerClient: number;
};

type Line<J> = { running: number; readonly waiting: J[] };

/** The lines of one worker's queue. Bounded by what `room` lets in. */
export class Lines<J extends { readonly client: ClientId }> {
  readonly #limits: LineLimits;
  readonly #lines = new Map<ClientId, Line<J>>();
  #running = 0;
  #waiting = 0;

  constructor(limits: LineLimits) {
    this.#limits = limits;
  }

  get running(): number {
    return this.#running;
  }
  get waiting(): number {
    return this.#waiting;
  }
  /** How many jobs more may be taken from the queue. */
  get room(): number {
    return Math.max(0, 2 * this.#limits.running - this.#running - this.#waiting);
  }

  /** Clients whose lines are still half full: taking more of their jobs would only bring them back. */
  busy(): readonly ClientId[] {
    return [...this.#lines.keys()].filter((client) => this.#isBusy(client));
  }

  /** Whether it is worth taking more, now that a job of this client has ended. */
  wants(client: ClientId): boolean {
    return this.#waiting < this.#limits.running && !this.#isBusy(client);
  }

  #isBusy(client: ClientId): boolean {
    return (this.#lines.get(client)?.waiting.length ?? 0) >= Math.ceil(this.#limits.waitingPerClient / 2);
  }

  /** What becomes of a job that was taken: it starts now, waits in line, or has to go back. */
  enter(job: J): "start" | "wait" | "back" {
    const line = this.#lines.get(job.client) ?? { running: 0, waiting: [] };
    this.#lines.set(job.client, line);
    if (line.running < this.#limits.perClient && this.#running < this.#limits.running) {
      line.running += 1;
      this.#running += 1;
      return "start";
    }
    if (line.waiting.length >= this.#limits.waitingPerClient) return "back";
    line.waiting.push(job);
    this.#waiting += 1;
    return "wait";
  }

  /** A job of this client has ended. Gives those that start in its place. */
  leave(client: ClientId): readonly J[] {
    const line = this.#lines.get(client);
    if (line !== undefined) line.running -= 1;
    this.#running -= 1;
    const next: J[] = [];
    // The client's own line first, then whoever could not start because all places were taken.
    for (const candidate of [client, ...this.#lines.keys()]) {
      while (this.#running < this.#limits.running) {
        const job = this.#takeNext(candidate);
        if (job === undefined) break;
        next.push(job);
      }
    }
    for (const [other, { running, waiting }] of this.#lines) {
      if (running === 0 && waiting.length === 0) this.#lines.delete(other);
    }
    return next;
  }

  /** Empties the lines; what waited goes back. */
  drain(): readonly J[] {
    const jobs = [...this.#lines.values()].flatMap((line) => line.waiting.splice(0));
    this.#waiting = 0;
    return jobs;
  }

  #takeNext(client: ClientId): J | undefined {
    const line = this.#lines.get(client);
    if (line === undefined || line.running >= this.#limits.perClient) return undefined;
    const job = line.waiting.shift();
    if (job === undefined) return undefined;
    line.running += 1;
    this.#running += 1;
    this.#waiting -= 1;
    return job;
  }
}
