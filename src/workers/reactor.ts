// What a reactor is: from an event to the jobs that it owes. It is never run again over the past.

import type { ClientId } from "../contract/ids.ts";
import type { Priority } from "../contract/resources.ts";
import type { Instant } from "../contract/time.ts";
import type { DomainEvent } from "../domain/catalogue.ts";
import type { StoredEvent } from "../event-store/envelope.ts";
import { createJob, type Job, type Work } from "./jobs.ts";

type Handlers = {
  readonly [T in DomainEvent["type"]]?: (
    event: StoredEvent<Extract<DomainEvent, { type: T }>>,
  ) => readonly (Job | undefined)[];
};

/** Pure: the same event gives the same jobs with the same ids. */
export type Reactor = { readonly name: string; readonly on: Handlers };

/**
 * The job that an event leads to; undefined for an event of no client. `reason` makes its id, by default the event's:
 * events that give the same reason share one job.
 */
export function jobFor(
  event: StoredEvent,
  work: Work,
  options: { at?: Instant; priority?: Priority; reason?: string | number } = {},
): Job | undefined {
  const client: ClientId | null = event.meta.client;
  if (client === null) return undefined;
  return createJob(
    {
      client,
      priority: options.priority ?? "normal",
      cause: { correlation: event.meta.correlation, causation: event.id },
      work,
      at: options.at ?? null,
    },
    options.reason ?? event.id,
  );
}

/** The types that any of the reactors wants; events of other types need not be opened. */
export const wantedTypes = (reactors: readonly Reactor[]): ReadonlySet<string> =>
  new Set(reactors.flatMap((reactor) => Object.keys(reactor.on)));

/** The jobs that an event leads to in all reactors. */
export function jobsOf(reactors: readonly Reactor[], event: StoredEvent): readonly Job[] {
  return reactors.flatMap(({ on }) => {
    // The handler under an event's type takes that event: what the mapped type says, tsc cannot follow.
    const handler = on[event.type] as ((event: StoredEvent) => readonly (Job | undefined)[]) | undefined;
    return (handler?.(event) ?? []).filter((job) => job !== undefined);
  });
}
