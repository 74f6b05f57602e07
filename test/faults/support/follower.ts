// A listener that keeps what it was shown on which connection, to be held against the history of those who wrote.
import type { Body } from "../../e2e/support/api.ts";
import type { ClientHistory, Write } from "./history.ts";
import { Listener, SILENT } from "./listener.ts";

/** Who hears nothing for so long connects anew. */
const QUIET_MS = 2_000;

type Offer = { readonly id: string; readonly connection: number };

export class Follower extends Listener {
  readonly offers: Offer[] = [];
  /** By delivery, the connection on which its acknowledgement was answered. */
  readonly #answeredOn = new Map<string, number>();
  /** Contents of messages, by room and seq. */
  readonly #contents = new Map<string, string>();

  constructor(url: string, user: string, token: string, rooms: readonly string[]) {
    super(url, user, token, rooms, { quietMs: QUIET_MS, heard: (frame) => this.#note(frame) });
  }

  /** Whether it has come as far as the answers to all writes, and was answered each acknowledgement that it owes. */
  hasAll(history: ClientHistory): boolean {
    const rooms = [...this.seqs].every(([room, seqs]) => seqs.length >= headOf(history, room));
    return rooms && this.owed(history, false).every((id) => this.acknowledged.has(id));
  }

  /** The deliveries to this user, in the order of asking; those that are to be left alone, or the others. */
  owed({ writes }: ClientHistory, silent: boolean): readonly string[] {
    return writes.flatMap(({ kind, body, answer }) => {
      if (kind !== "notify" || body.content.startsWith(SILENT) !== silent) return [];
      const place = body.user_ids.indexOf(this.user);
      return place === -1 ? [] : [String(answer?.body.deliveries[place].id)];
    });
  }

  /** In words, all that does not hold. */
  faults(history: ClientHistory): readonly string[] {
    return [...this.strange, ...this.#eventFaults(history), ...this.#offerFaults()];
  }

  *#eventFaults(history: ClientHistory): Generator<string> {
    for (const [room, seqs] of this.seqs) {
      const wanted = Array.from({ length: headOf(history, room) }, (_, index) => index + 1);
      if (String(seqs) !== String(wanted)) yield `${this.user} saw of ${room}, of ${wanted.length}: ${seqs}`;
      for (const { body, answer } of postsTo(history, room)) {
        const shown = this.#contents.get(`${room} ${answer?.body.seq}`);
        if (shown !== body.content) yield `${this.user} saw ${shown} in place of ${body.content}`;
      }
    }
  }

  /** Nothing comes twice on one connection, and nothing on one that was made after its acknowledgement was answered. */
  *#offerFaults(): Generator<string> {
    const seen = new Set<string>();
    for (const { id, connection } of this.offers) {
      const answeredOn = this.#answeredOn.get(id) ?? Number.POSITIVE_INFINITY;
      if (seen.has(`${id} ${connection}`)) yield `${this.user} was offered ${id} twice on connection ${connection}`;
      if (connection > answeredOn) yield `${this.user} was offered ${id} again on ${connection}, after ${answeredOn}`;
      seen.add(`${id} ${connection}`);
    }
  }

  #note(frame: Body): void {
    const connection = this.connections;
    if (frame.type === "notification") this.offers.push({ id: frame.delivery_id, connection });
    else if (frame.type === "ok" && !this.#answeredOn.has(frame.ref)) this.#answeredOn.set(frame.ref, connection);
    else if (frame.event === "message.posted") {
      this.#contents.set(`${frame.room_id} ${frame.seq}`, frame.data.content);
    }
  }
}

const postsTo = ({ writes }: ClientHistory, room: string): readonly Write[] =>
  writes.filter(
    ({ kind, path, answer }) => kind === "post" && answer !== undefined && path.startsWith(`/rooms/${room}/`),
  );

/** The seq of the last post: before the first one there is only the room's creation. */
const headOf = (history: ClientHistory, room: string): number =>
  postsTo(history, room).reduce((head, { answer }) => Math.max(head, answer?.body.seq ?? 0), 1);
