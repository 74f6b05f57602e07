// What the parts of a node count where it happens. No label names a client, a user or an address.
import { Counter, Histogram, Registry } from "@prometheus-io/client";
import type { Channel } from "./contract/deliveries.ts";
import type { ClientId } from "./contract/ids.ts";
import { type ProviderType, ProviderTypeSchema } from "./contract/providers.ts";
import { SECOND_MS } from "./contract/time.ts";
import type { DomainEvent } from "./domain/catalogue.ts";
import { clientDecider, clientStream } from "./domain/client.ts";
import type { Delivery, StatusEvent } from "./domain/delivery-state.ts";
import { DEVELOPMENT_MAILBOX } from "./domain/provider.ts";
import { type EventStore, WrongExpectedRevision } from "./event-store/event-store.ts";
import type { Commands } from "./event-store/handle-command.ts";
import { type ObserveStage, STAGES } from "./platform/metrics.ts";
import type { JobServices } from "./workers/job-services.ts";

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** Deciding and sealing take less than a millisecond. */
const STAGE_SECONDS = [0.0001, 0.00025, 0.0005, ...SECONDS];
/** Attempts wait for others, which may take their time. */
const ATTEMPT_SECONDS = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60];
const EVENTS = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000];

const APPEND_OUTCOMES = ["written", "conflict", "failed"] as const;

/** The events after which a delivery has come to something. */
const OUTCOMES: ReadonlySet<string> = new Set([
  "DeliverySucceeded",
  "DeliveryExhausted",
  "DeliveryAcknowledged",
  "DeliveryFallbackRequested",
  "DeliveryCancelled",
  "DeliveryExpired",
  "DeliveryReported",
] satisfies StatusEvent["type"][]);

const PROVIDER_CHANGES: Readonly<Record<string, string>> = {
  ...{ ProviderDown: "down", ProviderUp: "up", ProviderFailedOver: "failed_over" },
} satisfies Partial<Record<DomainEvent["type"], string>>;

type Reports = { readonly recorded: number; readonly unknown: number };
const NO_REPORTS: Reports = { recorded: 0, unknown: 0 };
/** The types of providers; of smtp, receiving servers report what becomes of mails. */
const PROVIDER_TYPES = ProviderTypeSchema.options;

/** The type of a client's provider, by its name. */
type ProviderTypeOf = (name: string) => ProviderType | "none" | "unknown";

/** The development mailbox is one of SMTP; what a provider is that this process does not know, it does not say. */
export function providerTypeOf(commands: Commands, client: ClientId | null, name: string): ReturnType<ProviderTypeOf> {
  if (name === "none" || name === "") return "none";
  if (name === DEVELOPMENT_MAILBOX) return "smtp";
  const known = client === null ? undefined : commands.known(clientDecider, clientStream(client));
  const providers = known?.status === "live" ? known.providers : [];
  return providers.find((one) => one.name === name)?.type ?? "unknown";
}

/** Never a client's name for one. */
const providerLabel = (channel: Channel, name: string, typeOf: ProviderTypeOf): string =>
  channel === "email" ? typeOf(name) : channel;

/** The metrics of a node, and where its parts count. */
export class NodeMetrics {
  readonly registry = new Registry();
  readonly #appends = this.#counter("chatapi_appends_total", "Appends to the log.", ["outcome"]);
  readonly #appendSeconds = this.#histogram(
    "chatapi_append_duration_seconds",
    "From an append to its answer.",
    SECONDS,
  );
  readonly #stageSeconds = this.#histogram(
    "chatapi_write_stage_duration_seconds",
    "How long a request that writes took for each stage.",
    STAGE_SECONDS,
    ["stage"],
  );
  readonly #stages = new Map(STAGES.map((stage) => [stage, this.#stageSeconds.labels(stage)]));
  readonly #appendEvents = this.#histogram("chatapi_append_events", "Events of an append that was written.", EVENTS);
  readonly #forged = this.#counter("chatapi_forged_events_total", "Forged events found in the log, each counted once.");
  readonly #deliveries = this.#counter("chatapi_deliveries_total", "Deliveries that came to an outcome.", [
    "channel",
    "provider",
    "source",
    "outcome",
  ]);
  readonly #providers = this.#counter("chatapi_provider_changes_total", "What became of email providers.", ["change"]);
  readonly #attemptSeconds = this.#histogram(
    "chatapi_attempt_duration_seconds",
    "From the start of an attempt's sending to its end.",
    ATTEMPT_SECONDS,
    ["channel", "source", "outcome"],
  );

  readonly #reports = this.#counter("chatapi_mail_reports_total", "Events of mails that vendors posted.", [
    "provider",
    "outcome",
  ]);

  constructor() {
    // From the start on, so that the first of each is seen as an increase.
    for (const outcome of APPEND_OUTCOMES) this.#appends.inc({ outcome }, 0);
    for (const stage of STAGES) this.#stageSeconds.zero({ stage });
    for (const change of Object.values(PROVIDER_CHANGES)) this.#providers.inc({ change }, 0);
    for (const provider of PROVIDER_TYPES) this.reported(provider, NO_REPORTS);
  }

  /** The same log, whose appends are measured. */
  measured(store: EventStore): EventStore {
    return {
      ...store,
      append: async (stream, expected, events) => {
        const startedAt = performance.now();
        let outcome: (typeof APPEND_OUTCOMES)[number] = "failed";
        try {
          const appended = await store.append(stream, expected, events);
          outcome = "written";
          this.#appendEvents.observe(events.length);
          return appended;
        } catch (error) {
          if (error instanceof WrongExpectedRevision) outcome = "conflict";
          throw error;
        } finally {
          this.#appends.inc({ outcome });
          this.#appendSeconds.observe((performance.now() - startedAt) / SECOND_MS);
        }
      },
    };
  }

  /** Counts a stage that a request has passed. */
  readonly stagePassed: ObserveStage = (stage, ms) => this.#stages.get(stage)?.observe(ms / SECOND_MS);

  forgedFound(): void {
    this.#forged.inc();
  }

  /** Counts what deliveries came to. `state` is the stream's after the events. */
  written(
    state: unknown,
    events: readonly { readonly type: string; readonly data: unknown }[],
    typeOf: ProviderTypeOf,
  ): void {
    for (const { type, data } of events) {
      const change = PROVIDER_CHANGES[type];
      if (change !== undefined) this.#providers.inc({ change });
      if (!OUTCOMES.has(type)) continue;
      // The type says whose state and data they are.
      const delivery = state as Delivery;
      const { from, to } = data as StatusEvent["data"];
      if (delivery.status === "none" || from === to) continue;
      const { channel, endpoint } = delivery.request;
      const source = endpoint === undefined ? "notification" : "endpoint";
      const provider = providerLabel(channel, delivery.provider, typeOf);
      this.#deliveries.inc({ channel, provider, source, outcome: to });
    }
  }

  /** Counts the events of a vendor. `unknown`: of mails that are none of this client's. */
  reported(provider: ProviderType, outcomes: Reports): void {
    for (const [outcome, count] of Object.entries(outcomes)) this.#reports.inc({ provider, outcome }, count);
  }

  attempted({ ms, ...labels }: Parameters<NonNullable<JobServices["onAttempt"]>>[0]): void {
    this.#attemptSeconds.observe(labels, ms / SECOND_MS);
  }

  #counter<L extends string>(name: string, help: string, labelNames: L[] = []): Counter<L> {
    return new Counter({ name, help, labelNames, registers: [this.registry] });
  }

  #histogram<L extends string>(name: string, help: string, buckets: number[], labelNames: L[] = []): Histogram<L> {
    return new Histogram({ name, help, buckets, labelNames, registers: [this.registry] });
  }
}
