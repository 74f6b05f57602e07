// Acknowledgements and the deadline, from two nodes and with answers lost: never both, never neither, never two mails.
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { acknowledge } from "../../src/app/notifications.ts";
import type { Services } from "../../src/app/services.ts";
import type { DeliveryId, Subject } from "../../src/contract/ids.ts";
import { type DeliveryCommand, deliveryDecider } from "../../src/domain/delivery.ts";
import { deliveryStream } from "../../src/domain/delivery-state.ts";
import { seal } from "../../src/domain/event.ts";
import { notificationStream } from "../../src/domain/notification.ts";
import { deliveryId, fallbackMailId } from "../../src/event-store/derived-ids.ts";
import { decode, type StoredEvent } from "../../src/event-store/envelope.ts";
import { type EventStore, StoreUnavailable } from "../../src/event-store/event-store.ts";
import { Commands, CommandTimedOut } from "../../src/event-store/handle-command.ts";
import { fallBack, requestFallbackMail } from "../../src/workers/fallback.ts";
import type { JobServices } from "../../src/workers/job-services.ts";
import { createJob, type TakenJob, type Verdict, type Work } from "../../src/workers/jobs.ts";
import {
  ANNA,
  BEN,
  CLIENT,
  deliveryRequested,
  NOTIFICATION,
  requestedNotification,
  writerTo,
} from "../projections/log.ts";
import { openInMemoryLog } from "../support/in-memory-log.ts";
import { jobServices } from "../support/job-services.ts";
import { contextOf } from "../support/live.ts";
import { memoryKeyring } from "../support/memory-keyring.ts";
import fc from "../support/seed.ts";
import { Interleaving, orders } from "./support/interleaving.ts";
import { noChoices } from "./support/no-choices.ts";
import { type Fates, fates, racingStore } from "./support/racing-store.ts";
import { scheduledTimers } from "./support/scheduled-timers.ts";

const DEADLINE = 30_000;
const MAIL: Subject = "sub_mail";
/** Both deliveries fall back to one address: they share one mail. */
const mail = fallbackMailId(NOTIFICATION, MAIL);
const keyring = memoryKeyring();

/** What happens to a delivery on a node, after so many steps: a device, a worker's job, somebody who stops it. */
const happening = fc.record({
  whose: fc.constantFrom(ANNA, BEN),
  node: fc.nat({ max: 1 }),
  what: fc.constantFrom("acknowledge", "acknowledge", "acknowledge", "deadline", "deadline", "stop", "overflow"),
  late: fc.nat({ max: 12 }),
});
type Happening = typeof happening extends fc.Arbitrary<infer H> ? H : never;

/** Both nodes of one system, their clock, and what devices were told. */
class Scene {
  readonly acknowledged = new Set<DeliveryId>();
  readonly #interleaving: Interleaving;
  readonly #nodes: readonly Commands[];
  readonly #store: EventStore;
  #now = DEADLINE - 1_000;

  constructor(interleaving: Interleaving, nodes: readonly Commands[], store: EventStore) {
    this.#interleaving = interleaving;
    this.#nodes = nodes;
    this.#store = store;
  }

  async happen({ whose, node, what, late }: Happening): Promise<void> {
    for (let steps = 0; steps < late; steps += 1) await this.#interleaving.step(`${what} comes later`);
    const delivery = deliveryId(NOTIFICATION, whose, "websocket");
    if (what === "deadline") return this.deadline(delivery, node);
    await this.#untilTold(node, async (parts) => {
      if (what === "acknowledge") {
        // Acknowledging needs commands alone.
        const services = parts as unknown as Services;
        await acknowledge({ services, at: parts.now(), context: contextOf(CLIENT) }, delivery, whose);
        this.acknowledged.add(delivery);
      } else {
        const at = parts.now();
        const stop: DeliveryCommand =
          what === "stop" ? { type: "Cancel", at } : { type: "Expire", at, reason: "too_many_open" };
        await parts.commands.execute(deliveryDecider, deliveryStream(delivery), stop, contextOf(CLIENT));
      }
    });
  }

  /** The job of the deadline, and the one that a fallback leads to: each comes again until it is done. */
  async deadline(delivery: DeliveryId, node: number): Promise<void> {
    await this.#job(node, { kind: "fallback", delivery }, fallBack);
    await this.#job(node, { kind: "mail", delivery }, requestFallbackMail);
  }

  async #job(
    node: number,
    work: Extract<Work, { delivery: DeliveryId }>,
    handle: (services: JobServices, job: TakenJob, delivery: DeliveryId) => Promise<Verdict>,
  ): Promise<void> {
    const fields = { client: CLIENT, priority: "normal", cause: null, work, at: null } as const;
    const job: TakenJob = { ...createJob(fields, randomUUID()), queue: "tasks", round: 1, retryCount: 0, failures: 0 };
    await this.#untilTold(node, async (parts) => {
      const verdict = await handle(parts, job, work.delivery);
      if (verdict.kind === "done") return;
      this.#now = Math.max(this.#now, verdict.at);
      throw new CommandTimedOut("its time had not come");
    });
  }

  /** Again, on one node after the other, until somebody says how it ended. */
  async #untilTold(first: number, work: (services: JobServices) => Promise<void>): Promise<void> {
    for (let node = first; ; node += 1) {
      try {
        return await work(this.services(node));
      } catch (error) {
        if (!(error instanceof CommandTimedOut) && !(error instanceof StoreUnavailable)) throw error;
        await this.#interleaving.step("tries again");
      }
    }
  }

  services(node: number): JobServices {
    const commands = this.#nodes[node % this.#nodes.length];
    if (commands === undefined) throw new Error("there are no nodes");
    return jobServices({ store: this.#store, keyring, commands, readSide: noChoices(), now: () => this.#now });
  }
}

async function race(scheduler: fc.Scheduler, list: readonly Happening[], drawn: Fates) {
  const interleaving = new Interleaving(scheduler);
  const log = await openInMemoryLog();
  const store = racingStore(log, interleaving, drawn);
  const write = writerTo(log, keyring);
  const to = { subject: MAIL, address: seal("ada@example.com") };
  const fallback = { to, subject: null, content: null, afterMs: DEADLINE };
  const expiresAt = 10 * DEADLINE;
  await write(notificationStream(NOTIFICATION), [
    requestedNotification("websocket", [ANNA, BEN], { fallback, expiresAt }),
    { type: "NotificationReleased", data: {} },
  ]);
  const deliveries = [ANNA, BEN].map((whose) => deliveryId(NOTIFICATION, whose, "websocket"));
  for (const [index, whose] of [ANNA, BEN].entries()) {
    const requested = deliveryRequested(whose, "websocket", { fallbackAt: DEADLINE, expiresAt });
    await write(deliveryStream(deliveries[index] ?? "dlv_none"), [requested]);
  }
  const parts = { store, keyring, snapshots: undefined, olderCommands: undefined, warn: () => undefined };
  using _timers = scheduledTimers(interleaving, 20_000);
  const scene = new Scene(interleaving, [new Commands(parts), new Commands(parts)], store);
  await interleaving.until(Promise.all(list.map((one) => scene.happen(one))));
  // In the end the deadline's job runs, whatever happened before.
  await interleaving.until(Promise.all(deliveries.map((one, node) => scene.deadline(one, node))));
  await interleaving.until(store.quiet());
  const logOf = async (id: DeliveryId) => decode(keyring, await log.readStream(deliveryStream(id), { limit: 100 }));
  return {
    acknowledged: scene.acknowledged,
    deliveries: await Promise.all(deliveries.map(logOf)),
    mail: await logOf(mail),
  };
}

/** How a delivery ended; what was read after it fell back says so, once, and nothing else comes after an end. */
function endOf(stored: readonly StoredEvent[], acknowledged: boolean): string {
  const [requested, end = "nothing", ...rest] = stored.map((event) => event.type);
  expect(requested).toBe("DeliveryRequested");
  expect(rest).toEqual(end === "DeliveryFallbackRequested" && acknowledged ? ["DeliveryAcknowledged"] : []);
  if (end === "DeliveryAcknowledged") expect(acknowledged).toBe(true);
  return end;
}

test("the first appended wins, and the log says only that", { timeout: orders.timeout }, async () => {
  const seen = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(
      fc.scheduler(),
      fc.array(happening, { minLength: 4, maxLength: 10, size: "max" }),
      fates(),
      async (scheduler, list, drawn) => {
        const raced = await race(scheduler, list, drawn);
        const ends = raced.deliveries.map((stored, index) => {
          const whose = [ANNA, BEN][index] ?? ANNA;
          return endOf(stored, raced.acknowledged.has(deliveryId(NOTIFICATION, whose, "websocket")));
        });
        for (const end of ends) seen.set(end, (seen.get(end) ?? 0) + 1);
        const fellBack = ends.includes("DeliveryFallbackRequested");
        expect(raced.mail.map((event) => event.type)).toEqual(fellBack ? ["DeliveryRequested"] : []);
      },
    ),
    orders.of(200, 10_000),
  );
  expect([...seen.keys()].toSorted()).toEqual([
    "DeliveryAcknowledged",
    "DeliveryCancelled",
    "DeliveryExpired",
    "DeliveryFallbackRequested",
  ]);
  for (const times of seen.values()) expect(times).toBeGreaterThan(20);
});
