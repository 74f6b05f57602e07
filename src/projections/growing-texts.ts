// The texts of messages that grow, between their posting and their end: in pieces, sealed for their senders, in the schema
// `jobs`. Any node appends: whoever knows the length that is there writes what comes next.
import { LRUCache } from "lru-cache";
import type pg from "pg";
import { afterCodePoints, codePoints } from "../contract/fields.ts";
import type { ClientId, MessageId, RoomId, Subject } from "../contract/ids.ts";
import { MAX_GROWN } from "../contract/messages.ts";
import type { Instant } from "../contract/time.ts";
import { DomainError } from "../domain/decider.ts";
import type { Sealed } from "../domain/event.ts";
import { grownContent } from "../domain/growing-message.ts";
import { type Keyring, openText, type SealedText, sealText } from "../event-store/sealing.ts";
import { maxEntries } from "../platform/bounded.ts";
import { failpoint } from "../platform/failpoint.ts";
import { LOCKS, setUpInTransaction } from "../platform/locks.ts";

/** A piece that is longer gets no more: each append writes the last piece anew, and it must stay within a row of a page. */
const PIECE_LENGTH = 500;
/** Last pieces kept in memory, so that an append need not read before it writes. */
const MAX_CACHED = 5_000;
/** How often an append that others were faster than is tried again. */
const ATTEMPTS = 20;

/** `length` in code points. A row is there from the first append on, or before; `closing`: nothing more is taken. */
const CREATE_GROWING_TEXTS = `create schema if not exists jobs;
  create table if not exists jobs.growing_messages (
    message text primary key, client text not null, room text not null, sender text not null, seq integer not null,
    length integer not null, closing boolean not null, touched_at bigint not null) with (fillfactor = 50);
  create index if not exists growing_messages_client on jobs.growing_messages (client, sender);
  create table if not exists jobs.growing_pieces (
    message text not null, nth integer not null, begins integer not null, key text not null, box text not null,
    primary key (message, nth)) with (fillfactor = 50);
  create table if not exists jobs.growing_keys (
    command text primary key, message text not null, fingerprint text not null, length integer not null,
    used_at bigint not null);
  create index if not exists growing_keys_used_at on jobs.growing_keys (used_at)`;

/** Makes the tables where there are none; several processes may do so at once. */
export const createGrowingTexts = (pool: pg.Pool): Promise<unknown> =>
  setUpInTransaction(pool, LOCKS.jobTables, (client) => client.query(CREATE_GROWING_TEXTS));

/** A message that grows. */
export type GrowingMessage = {
  readonly client: ClientId;
  readonly room: RoomId;
  readonly message: MessageId;
  readonly seq: number;
  readonly sender: Subject;
};
/** A part of a text, null: its writer was erased; and how long the whole text is, in code points. */
type TextPart = { readonly text: string | null; readonly length: number };
/** The idempotency key of an append: the id of its command, and what tells equal bodies. */
type AppendKey = { readonly command: string; readonly fingerprint: string };
/** What was appended under a key: how long the text was then, in code points. */
type UsedKey = { readonly message: MessageId; readonly length: number };
/** What an append came to: `offset` says where `added` went, which is empty when all of it was there already. */
type Appended =
  | { readonly kind: "appended"; readonly offset: number; readonly added: string; readonly length: number }
  | ({ readonly kind: "repeated" } & UsedKey)
  | { readonly kind: "mismatch"; readonly expected: number }
  | { readonly kind: "too_long" | "closed" | "unknown" };

/** Where the text ends: its last piece, which the next append is added to. */
type Tail = { readonly length: number; readonly nth: number; readonly begins: number; readonly text: string };
type PieceRow = SealedText & { readonly nth: number; readonly begins: number };

/** A key is remembered by the statement that appends, unless another node has remembered it since it was looked for. */
const UNUSED = "and /* fence: append-key */ not exists (select from jobs.growing_keys where command = $9) /* end */";
const REMEMBERED = `, remembered as (
  insert into jobs.growing_keys (command, message, fingerprint, length, used_at) select $9, $1, $10, $3, $4 from head)`;

/** Every write is one statement whose commit does not wait for the disk: the log, not this, is what must not be lost. */
const WITHOUT_WAITING = "set_config('synchronous_commit', 'off', true) is not null";

export class GrowingTexts {
  readonly #pool: pg.Pool;
  readonly #keyring: Keyring;
  readonly #now: () => Instant;
  readonly #tails = new LRUCache<MessageId, Tail>(maxEntries(MAX_CACHED));

  constructor({ pool, keyring, now }: { pool: pg.Pool; keyring: Keyring; now: () => Instant }) {
    this.#pool = pool;
    this.#keyring = keyring;
    this.#now = now;
  }

  /** How many grow of a client, and of one of its users. */
  async count(client: ClientId, sender: Subject): Promise<{ readonly ofClient: number; readonly ofSender: number }> {
    const { rows } = await this.#pool.query<{ client: number; sender: number }>(
      `select count(*)::int as client, (count(*) filter (where sender = $2))::int as sender
       from jobs.growing_messages where client = $1`,
      [client, sender],
    );
    return { ofClient: rows[0]?.client ?? 0, ofSender: rows[0]?.sender ?? 0 };
  }

  /** Keeps a text for the message, beginning with this; does nothing when there is one. */
  async begin(about: GrowingMessage, text: string): Promise<void> {
    const { message, client, room, sender, seq } = about;
    const { key, box } = await this.#seal(about, 0, text);
    await this.#pool.query(
      `with head as (
         insert into jobs.growing_messages (message, client, room, sender, seq, length, closing, touched_at)
         values ($1, $2, $3, $4, $5, $6, false, $7) on conflict (message) do nothing returning message)
       insert into jobs.growing_pieces (message, nth, begins, key, box)
       select message, 0, 0, $8, $9 from head where ${WITHOUT_WAITING}
       on conflict (message, nth) do update set begins = 0, key = excluded.key, box = excluded.box`,
      [message, client, room, sender, seq, codePoints(text), this.#now(), key, box],
    );
  }

  /**
   * Adds a text at an offset. What is there already is not added again; other text there, or a gap, is a mismatch.
   * `unknown`: there is no text of this message, see `begin`. `key`: not used when it was looked for; `repeated`: it is
   * now. What adds nothing leaves its key free. Throws idempotency_key_reused.
   */
  async append(about: GrowingMessage, offset: number, text: string, key?: AppendKey): Promise<Appended> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const used = attempt > 0 && key !== undefined ? await this.used(key) : undefined;
      if (used !== undefined) return { kind: "repeated", ...used };
      const cached = this.#tails.get(about.message);
      const tail = cached ?? (await this.#readTail(about));
      if (tail === undefined || tail === "closing") return { kind: tail === undefined ? "unknown" : "closed" };
      if (offset > tail.length) {
        if (cached === undefined) return { kind: "mismatch", expected: tail.length };
        this.#tails.delete(about.message); // another node may have gone on
        continue;
      }
      // fence: append-repeated
      const added = offset < tail.length ? await this.#newPart(about, offset, text) : text;
      if (added === undefined) return { kind: "mismatch", expected: tail.length };
      if (added === "") return { kind: "appended", offset: tail.length, added, length: tail.length };
      const length = tail.length + codePoints(added);
      if (length > MAX_GROWN) return { kind: "too_long" };
      if (await this.#write(about, tail, { added, length, key }))
        return { kind: "appended", offset: tail.length, added, length };
    }
    // Others append to it all the time.
    return { kind: "mismatch", expected: (await this.read(about))?.length ?? 0 };
  }

  /** The text from an offset in code points on; undefined when there is none of this message. */
  async read({ message, room }: Pick<GrowingMessage, "message" | "room">, from = 0): Promise<TextPart | undefined> {
    const { rows } = await this.#pool.query<PieceRow & { length: number }>(
      `select p.nth, p.begins, p.key, p.box, m.length from jobs.growing_messages m
       join jobs.growing_pieces p on p.message = m.message
       where m.message = $1 and p.nth >= (
         select max(o.nth) from jobs.growing_pieces o where o.message = $1 and o.begins <= $2)
       order by p.nth`,
      [message, from],
    );
    const [first] = rows;
    if (first === undefined) return undefined;
    const texts = await this.#open({ message, room }, rows);
    const text = texts === undefined ? null : afterCodePoints(texts.join(""), from - first.begins);
    return { text, length: first.length };
  }

  /**
   * Takes no more for a message that is about to end, and gives its text; null when there is none. `silentSince`: only if
   * nothing was written since; undefined otherwise.
   */
  async close(
    about: Pick<GrowingMessage, "message" | "room">,
    silentSince?: Instant,
  ): Promise<Sealed<string> | null | undefined> {
    // fence: growing-closed
    const { rowCount } = await this.#pool.query(
      "update jobs.growing_messages set closing = true where message = $1 and touched_at <= $2",
      [about.message, silentSince ?? Number.MAX_SAFE_INTEGER],
    );
    this.#tails.delete(about.message);
    failpoint("growing-closed/ended");
    if (rowCount === 0 && silentSince !== undefined) return undefined;
    const part = await this.read(about);
    return part === undefined ? null : grownContent(part.text);
  }

  /** The message did not end after all. */
  async reopen(message: MessageId): Promise<void> {
    await this.#pool.query("update jobs.growing_messages set closing = false where message = $1", [message]);
  }

  /** The message has ended, and the log has its content. */
  async forget(message: MessageId): Promise<void> {
    this.#tails.delete(message);
    await this.#pool.query(
      `with head as (delete from jobs.growing_messages where message = $1)
       delete from jobs.growing_pieces where message = $1`,
      [message],
    );
  }

  /** What was appended under this key, if anything was. Throws idempotency_key_reused when that was another text. */
  async used({ command, fingerprint }: AppendKey): Promise<UsedKey | undefined> {
    const { rows } = await this.#pool.query<UsedKey & { fingerprint: string }>(
      "select message, length, fingerprint from jobs.growing_keys where command = $1",
      [command],
    );
    const [row] = rows;
    // fence: append-key-reused
    if (row !== undefined && row.fingerprint !== fingerprint)
      throw new DomainError("idempotency_key_reused", "the key was used with another body");
    return row && { message: row.message, length: row.length };
  }

  /** Forgets the keys that were used before then. */
  async forgetKeys(before: Instant): Promise<void> {
    await this.#pool.query("delete from jobs.growing_keys where used_at < $1", [before]);
  }

  /** Those to which nothing was added since then, longest silent first. */
  async silent(since: Instant, limit: number): Promise<readonly GrowingMessage[]> {
    const { rows } = await this.#pool.query<GrowingMessage>(
      `select client, room, message, seq, sender from jobs.growing_messages
       where touched_at <= $1 order by touched_at limit $2`,
      [since, limit],
    );
    return rows;
  }

  /** Which of these have a text here. */
  async among(messages: readonly MessageId[]): Promise<ReadonlySet<MessageId>> {
    const { rows } = await this.#pool.query<{ message: MessageId }>(
      "select message from jobs.growing_messages where message = any($1)",
      [messages],
    );
    return new Set(rows.map(({ message }) => message));
  }

  /** What of a text at a known offset is new; undefined when what is there is another. */
  async #newPart(about: GrowingMessage, offset: number, text: string): Promise<string | undefined> {
    const there = await this.read(about, offset);
    if (there === undefined || there.text === null) return undefined;
    const known = there.text.slice(0, text.length);
    return text.startsWith(known) ? text.slice(known.length) : undefined;
  }

  /** False when another was faster. */
  async #write(
    about: GrowingMessage,
    tail: Tail,
    { added, length, key }: { added: string; length: number; key: AppendKey | undefined },
  ): Promise<boolean> {
    const { message } = about;
    const full = tail.length - tail.begins >= PIECE_LENGTH;
    const next: Tail = full
      ? { length, nth: tail.nth + 1, begins: tail.length, text: added }
      : { ...tail, length, text: tail.text + added };
    const sealed = await this.#seal(about, next.nth, next.text);
    this.#tails.delete(message); // what comes of it is not known until the answer
    const { rowCount } = await this.#pool.query(
      `with head as (
         update jobs.growing_messages set length = $3, touched_at = $4
         where message = $1 and /* fence: append-length */ length = $2 /* end */ and not closing and ${WITHOUT_WAITING}
           ${key === undefined ? "" : UNUSED}
         returning message)${key === undefined ? "" : REMEMBERED}
       insert into jobs.growing_pieces (message, nth, begins, key, box) select message, $5, $6, $7, $8 from head
       on conflict (message, nth) do update set key = excluded.key, box = excluded.box`,
      [
        message,
        tail.length,
        length,
        this.#now(),
        next.nth,
        next.begins,
        sealed.key,
        sealed.box,
        ...(key ? [key.command, key.fingerprint] : []),
      ],
    );
    if (rowCount !== 1) return false;
    this.#tails.set(message, next);
    return true;
  }

  async #readTail({ message, room }: GrowingMessage): Promise<Tail | "closing" | undefined> {
    const { rows } = await this.#pool.query<PieceRow & { length: number; closing: boolean }>(
      `select p.nth, p.begins, p.key, p.box, m.length, m.closing from jobs.growing_messages m
       join jobs.growing_pieces p on p.message = m.message where m.message = $1 order by p.nth desc limit 1`,
      [message],
    );
    const [row] = rows;
    if (row === undefined) return undefined;
    const texts = row.closing ? undefined : await this.#open({ message, room }, [row]);
    // Nobody goes on with the words of a person who was erased.
    if (texts === undefined) return "closing";
    const tail = { length: row.length, nth: row.nth, begins: row.begins, text: texts.join("") };
    this.#tails.set(message, tail);
    return tail;
  }

  async #seal({ client, sender, message, room }: GrowingMessage, nth: number, text: string): Promise<SealedText> {
    const key = (await this.#keyring.keysFor(client, new Set([sender]))).get(sender);
    if (key === undefined) throw new Error(`the keyring gave no key for ${sender}`);
    return sealText(key, slotOf(message, room, nth), text);
  }

  /** The texts of pieces; undefined when their writer was erased. */
  async #open(
    { message, room }: Pick<GrowingMessage, "message" | "room">,
    rows: readonly PieceRow[],
  ): Promise<readonly string[] | undefined> {
    const ids = new Set(rows.map(({ key }) => key));
    const keys = await this.#keyring.keysById(ids);
    if (keys.size < ids.size && (await this.#keyring.destroyedAmong(ids)).size > 0) return undefined;
    return rows.map((row) => {
      const key = keys.get(row.key);
      if (key === undefined) throw new Error(`the key of ${message} is missing`);
      return openText(row, key, slotOf(message, room, row.nth));
    });
  }
}

/** A piece opens as that piece of that message alone. */
const slotOf = (message: MessageId, room: RoomId, nth: number) => ({
  ...{ id: message, stream: room, revision: nth },
  type: "GrowingText",
});
