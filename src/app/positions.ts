// Positions as callers see them: opaque, sealed for their client, and telling nothing of what other clients write.
import { type Cipheriv, createCipheriv, createDecipheriv, createHash, createHmac, type Decipheriv } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { ClientId } from "../contract/ids.ts";
import { type EventStore, type Position, parsePosition, positionOf } from "../event-store/event-store.ts";
import { maxEntries } from "../platform/bounded.ts";

/** Clients whose ciphers are kept, by purpose. */
const MAX_CLIENTS = 10_000;
/** One block of AES: the position's number, a part of the log's hash, and a salt. */
const BLOCK_BYTES = 16;
const NUMBER_BYTES = 8;
const LOG_BYTES = 4;
const SEALED = /^[\w-]{22}$/;

/** Bits of a cursor's salt that count frames of one event. */
const HAD_BITS = 8;

/** Neither serves as the other. */
type Purpose = "position" | "cursor";
type Ciphers = { readonly seal: Cipheriv; readonly open: Decipheriv };

/** Where a follower is: after an event; or, `had` counted, after the first of several frames that tell of it. */
export type FollowCursor = { readonly position: Position; readonly had: number };

/** Each client has a key of its own, made from the server's secret: the same on every node. */
export class Positions {
  readonly #secret: Uint8Array;
  readonly #logId: string;
  readonly #logHash: Buffer;
  readonly #ciphers = new LRUCache<string, Ciphers>(maxEntries(MAX_CLIENTS));
  #salt = 0;

  constructor({ secret, store }: { readonly secret: Uint8Array; readonly store: Pick<EventStore, "logId"> }) {
    this.#secret = secret;
    this.#logId = store.logId;
    this.#logHash = logHash(store.logId);
  }

  /** Of an event of the client's own: always the same. */
  ofEvent(client: ClientId, position: Position): string {
    return this.#seal(client, position, 0);
  }

  /** Of what a request reached, which may be another client's event: never the same twice. */
  ofRequest(client: ClientId, position: Position): string {
    this.#salt = (this.#salt + 1) >>> 0;
    return this.#seal(client, position, this.#salt);
  }

  /** Of a follower that was told of an event of the client's own: always the same. */
  cursorAt(client: ClientId, { position, had }: FollowCursor): string {
    return this.#seal(client, position, had, "cursor");
  }

  /** Of a follower that was told all up to a position, which may be another client's event: never the same twice. */
  cursorUpTo(client: ClientId, position: Position): string {
    this.#salt = (this.#salt + 1) >>> 0;
    return this.#seal(client, position, (this.#salt << HAD_BITS) >>> 0, "cursor");
  }

  /** Where a follower's cursor is; undefined for what is damaged, another client's, or no cursor. */
  openCursor(client: ClientId, text: string): FollowCursor | undefined {
    const block = this.#unseal(client, text, "cursor");
    if (block === undefined) return undefined;
    const had = block.readUInt32BE(NUMBER_BYTES + LOG_BYTES) % 2 ** HAD_BITS;
    return { position: positionOf(this.#logId, block.readBigUInt64BE()), had };
  }

  /** The position; undefined for what is damaged, another client's or of another log. */
  open(client: ClientId, text: string): Position | undefined {
    const block = this.#unseal(client, text, "position");
    return block === undefined ? undefined : positionOf(this.#logId, block.readBigUInt64BE());
  }

  #unseal(client: ClientId, text: string, purpose: Purpose): Buffer | undefined {
    if (!SEALED.test(text)) return undefined;
    const sealed = Buffer.from(text, "base64url");
    // Of several spellings of the same bytes one alone is ours.
    if (sealed.length !== BLOCK_BYTES || sealed.toString("base64url") !== text) return undefined;
    const block = this.#ciphersOf(client, purpose).open.update(sealed);
    // fence: position-sealed
    return block.subarray(NUMBER_BYTES, NUMBER_BYTES + LOG_BYTES).equals(this.#logHash) ? block : undefined;
  }

  #seal(client: ClientId, position: Position, salt: number, purpose: Purpose = "position"): string {
    const { logId, value } = parsePosition(position) ?? { logId: "", value: 0n };
    const block = Buffer.alloc(BLOCK_BYTES);
    block.writeBigUInt64BE(value);
    (logId === this.#logId ? this.#logHash : logHash(logId)).copy(block, NUMBER_BYTES);
    block.writeUInt32BE(salt, NUMBER_BYTES + LOG_BYTES);
    return this.#ciphersOf(client, purpose).seal.update(block).toString("base64url");
  }

  #ciphersOf(client: ClientId, purpose: Purpose): Ciphers {
    const name = `${purpose} ${client}`;
    const kept = this.#ciphers.get(name);
    if (kept !== undefined) return kept;
    const key = createHmac("sha256", this.#secret).update(name).digest();
    // Single blocks under a key for nothing else: no mode has anything to chain.
    const made = {
      seal: createCipheriv("aes-256-ecb", key, null).setAutoPadding(false),
      open: createDecipheriv("aes-256-ecb", key, null).setAutoPadding(false),
    };
    this.#ciphers.set(name, made);
    return made;
  }
}

const logHash = (logId: string): Buffer => createHash("sha256").update(logId).digest().subarray(0, LOG_BYTES);
