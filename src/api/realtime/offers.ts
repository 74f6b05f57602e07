// A user's notifications on one socket: those that are open, oldest first, then as they come; none twice.

import type { Services } from "../../app/services.ts";
import type { ClientId, Subject } from "../../contract/ids.ts";
import type { Position } from "../../event-store/event-store.ts";
import { failpoint } from "../../platform/failpoint.ts";
import { backoffMs, messageOf, pause } from "../../platform/supervise.ts";
import { type OfferedDelivery, openWebsocketDeliveries } from "../../projections/models/deliveries.ts";
import { Lifetime } from "./lifetime.ts";
import { MAX_AHEAD_BYTES } from "./limits.ts";
import type { DeliveryListener, LiveDeliveries, Offer, OfferContent } from "./live-deliveries.ts";
import type { Outgoing } from "./outgoing.ts";

/** Open deliveries that are read at a time, the next when the socket's queue has drained. */
const PAGE = 100;
/** Live ones that wait for their content; beyond, they are read from the read model like those that were missed. */
const MAX_WAITING = 1_000;
/** How long the read model is waited for before it is said in the log that it lags. */
const READ_MODEL_WAIT_MS = 5_000;

type OfferParts = {
  readonly services: Pick<Services, "readSide" | "logger" | "now">;
  readonly deliveries: LiveDeliveries;
  readonly outgoing: Outgoing;
  readonly client: ClientId;
  readonly subject: Subject;
  readonly connection: string;
};

type Place = Position | "start";

/** Offers until it is disposed. Supervised: what fails is tried again. */
export class Offers implements DeliveryListener, Disposable {
  readonly #parts: OfferParts;
  readonly #over = new Lifetime();
  readonly #listening: ReturnType<LiveDeliveries["listen"]>;
  /** Live ones that are still to be sent; undefined while open ones are read. */
  #waiting: Offer[] | undefined;
  /** Those that started again while open ones were read. */
  readonly #again: Offer[] = [];
  /** Up to where open ones are asked of the read model. */
  #wanted: Place;
  /** The newest that the read model has given. */
  #given: Place = "start";
  #wake: () => void = () => {};

  constructor(parts: OfferParts) {
    this.#parts = parts;
    this.#listening = parts.deliveries.listen(parts.subject, this);
    this.#wanted = this.#listening.after;
  }

  start(): void {
    void this.#run();
  }

  offered(offer: Offer): void {
    const full = this.#waiting !== undefined && this.#waiting.length >= MAX_WAITING;
    if (full) this.#waiting = undefined;
    if (this.#waiting === undefined) this.#wanted = offer.position;
    // One that starts again keeps its place among the open ones: they may have been read beyond it.
    if (offer.again && !full) (this.#waiting ?? this.#again).push(offer);
    else if (this.#given === "start" || /* fence: notification-once */ offer.position > this.#given)
      this.#waiting?.push(offer);
    if (this.#again.length > MAX_WAITING) this.#again.shift();
    this.#wake();
  }

  acknowledged(id: string, correlation: string): void {
    if (correlation !== this.#parts.connection) this.#parts.outgoing.send({ type: "acked", delivery_id: id });
  }

  [Symbol.dispose](): void {
    this.#over.abort();
    this.#listening[Symbol.dispose]();
    this.#wake();
  }

  async #run(): Promise<void> {
    const over = this.#over;
    let failures = 0;
    while (!over.aborted) {
      try {
        if (this.#waiting === undefined) await this.#offerOpen();
        else await this.#offerLive(this.#waiting);
        failures = 0;
      } catch (error) {
        failures += 1;
        const about = { connection: this.#parts.connection, failures, error: messageOf(error) };
        this.#parts.services.logger.warn(about, "notifications could not be offered");
        await pause(backoffMs(failures), over.signal);
      }
    }
  }

  /** What the read model has up to the wanted position; when that is all, live from then on, in the same moment. */
  async #offerOpen(): Promise<void> {
    const { services, outgoing } = this.#parts;
    const wanted = this.#wanted;
    if (wanted !== "start" && !(await services.readSide.waitFor(wanted, READ_MODEL_WAIT_MS))) {
      throw new Error("the read model lags");
    }
    for (let more = true; more; ) {
      const sent = await outgoing.inTurn(() => this.#offerPage());
      if (sent === "not taken") return this[Symbol.dispose]();
      more = sent === "more";
    }
    if (this.#wanted === wanted) this.#waiting = this.#again.splice(0);
  }

  /** The next ones from the read model, as the reader takes them. */
  async #offerPage(): Promise<"more" | "all" | "not taken"> {
    const over = this.#over;
    if (over.aborted) return "not taken";
    const { page, more } = await this.#readPage();
    failpoint("open-offers-read/sent");
    for (const { position, bytes } of page) {
      if (!(await this.#parts.outgoing.sendPaced(() => (over.aborted ? undefined : bytes)))) return "not taken";
      this.#given = position;
    }
    return more ? "more" : "all";
  }

  /** What is behind it stays unread, however large: rows are not kept while a reader takes its time. */
  async #readPage() {
    const { services, client, subject } = this.#parts;
    const cursor = this.#given === "start" ? {} : { cursor: [this.#given] };
    const range = { now: services.now(), limit: PAGE, ...cursor };
    const { rows, next } = await openWebsocketDeliveries(services.readSide.readAs(client), subject, range);
    const page: { position: Position; bytes: Buffer }[] = [];
    let weight = 0;
    for (const row of rows) {
      if (weight >= MAX_AHEAD_BYTES) return { page, more: true };
      const bytes = Buffer.from(JSON.stringify(frameOfRow(row)));
      page.push({ position: row.position, bytes });
      weight += bytes.byteLength;
    }
    return { page, more: next !== null };
  }

  async #offerLive(waiting: Offer[]): Promise<void> {
    const [offer] = waiting;
    if (offer === undefined) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      return;
    }
    const content = await this.#parts.deliveries.contentOf(offer.notification);
    // Meanwhile there may have been too many: then this one too is read with the open ones.
    if (this.#waiting !== waiting) return;
    waiting.shift();
    const expired = offer.expiresAt <= this.#parts.services.now();
    const bytes = content === undefined || expired ? undefined : this.#bytes(frameOf(offer, content));
    failpoint("offer-made/sent");
    if (bytes !== undefined) this.#parts.outgoing.sendAll([bytes]);
    this.#given = this.#given === "start" || offer.position > this.#given ? offer.position : this.#given;
  }

  #bytes(frame: object): Buffer | undefined {
    return this.#over.aborted ? undefined : Buffer.from(JSON.stringify(frame));
  }
}

function frameOf(offer: Offer, { subject, content, meta, priority, room_id }: OfferContent): object {
  const ids = { delivery_id: offer.id, notification_id: offer.notification };
  return { type: "notification", ...ids, subject, content, meta, priority, room_id, at: iso(offer.at) };
}

function frameOfRow({
  id,
  notification_id,
  subject,
  content,
  meta,
  priority,
  room_id,
  ...row
}: OfferedDelivery): object {
  const ids = { delivery_id: id, notification_id };
  return { type: "notification", ...ids, subject, content, meta, priority, room_id, at: iso(row.requested_at) };
}

const iso = (at: number): string => new Date(at).toISOString();
