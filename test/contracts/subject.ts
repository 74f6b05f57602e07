// What the contract suite is run against, and the small tools that its parts share.

import { randomUUID } from "node:crypto";
import { vi } from "vitest";
import type {
  Batch,
  EventStore,
  NewEvent,
  Position,
  RecordedEvent,
  SubscribeOptions,
  Subscription,
} from "../../src/event-store/event-store.ts";

/** A log under test. */
export type Subject = {
  readonly store: EventStore;
  /** The same log through another adapter object, as another process would open it. Absent when it lives in one. */
  readonly second?: () => Promise<EventStore>;
  /** What `writer.ts` needs to open the log in a process of its own. Absent when it lives in one. */
  readonly writer?: WriterStore;
  close(): Promise<void>;
};

export type WriterStore =
  | { readonly kind: "postgres"; readonly url: string }
  | { readonly kind: "eventstore"; readonly url: string; readonly prefix: string };

export type Open = () => Promise<Subject>;

export const newStream = (): string => `contract-${randomUUID()}`;

/** An event with a random id and small JSON, or with the bytes given. */
export const newEvent = (over: Partial<NewEvent> = {}): NewEvent => ({
  id: randomUUID(),
  type: "SomethingHappened",
  data: Buffer.from(JSON.stringify({ random: randomUUID() })),
  metadata: Buffer.from(`{"v":1}`),
  ...over,
});

export const newEvents = (count: number): NewEvent[] => Array.from({ length: count }, () => newEvent());

/** An event with its bytes as text: comparable whatever kind of byte array they are. */
export const comparable = <E extends NewEvent>(event: E) => ({
  ...event,
  data: Buffer.from(event.data).toString("hex"),
  metadata: Buffer.from(event.metadata).toString("hex"),
});

/** What was handed over and must come back: ids, types and bytes. */
export const content = (events: readonly NewEvent[]) =>
  events.map(({ id, type, data, metadata }) => comparable({ id, type, data, metadata }));

export const ids = (events: readonly { readonly id: string }[]): string[] => events.map((event) => event.id);

/** Waits until the check no longer throws; fails with its error after 20 s. */
export const eventually = (check: () => void | Promise<void>): Promise<void> =>
  vi.waitFor(check, { timeout: 20_000, interval: 20 });

export type Collector = AsyncDisposable & {
  readonly subscription: Subscription;
  readonly batches: Batch[];
  readonly events: RecordedEvent[];
};

/** Subscribes and keeps what comes. */
export function collect(
  store: EventStore,
  after: Position | "start",
  options: Partial<Pick<SubscribeOptions, "maxBatch" | "handle">> = {},
): Collector {
  const batches: Batch[] = [];
  const events: RecordedEvent[] = [];
  const subscription = store.subscribe({
    name: "contract",
    after,
    ...options,
    handle: async (batch) => {
      await options.handle?.(batch);
      batches.push(batch);
      events.push(...batch.events);
    },
  });
  return { subscription, batches, events, [Symbol.asyncDispose]: () => subscription[Symbol.asyncDispose]() };
}
