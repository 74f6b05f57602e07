// Contents that are sent now: a bound on how much of them is in memory, and a mail's attachments, read back from the log.
import type { MailAttachment } from "../channels/email/message.ts";
import type { ClientId } from "../contract/ids.ts";
import { type Instant, SECOND_MS } from "../contract/time.ts";
import { blobStream, piecesOf } from "../domain/blob.ts";
import { reveal } from "../domain/event.ts";
import type { Attachment } from "../domain/notification.ts";
import type { EventStore } from "../event-store/event-store.ts";
import { readDecoded } from "../event-store/handle-command.ts";
import type { Keyring } from "../event-store/sealing.ts";

const MIB = 1_048_576;
/** Bytes that all attempts under way in this process, and those of one client, may hold. */
const MAX_BYTES = 48 * MIB;
const MAX_CLIENT_BYTES = 24 * MIB;
/** What finds no room comes again after this at the earliest and the latest. */
const MIN_PUT_OFF_MS = SECOND_MS / 2;
const MAX_PUT_OFF_MS = 30 * SECOND_MS;
/** How much of a client's comes again in a second: each time, its content is read and opened anew. */
const AGAIN_BYTES_PER_SECOND = MAX_CLIENT_BYTES;
/** Pieces that are read at once. */
const PIECES_AT_ONCE = 4;

export const attachedBytes = (files: readonly Attachment[]): number => files.reduce((sum, { size }) => sum + size, 0);

type Log = { readonly store: EventStore; readonly keyring: Keyring };

/** How much memory the contents and attachments of attempts under way take. */
export class MemoryBudget {
  readonly #taken = new Map<ClientId, number>();
  /** Up to when a client's attempts that found no room come again. */
  readonly #booked = new Map<ClientId, Instant>();
  #all = 0;

  /** Takes so many bytes; disposing gives them back, once. Undefined: others have them for now. */
  take(client: ClientId, bytes: number): Disposable | undefined {
    const own = this.#taken.get(client) ?? 0;
    // fence: attachments-in-memory
    if (this.#all + bytes > MAX_BYTES || own + bytes > MAX_CLIENT_BYTES) return undefined;
    this.#add(client, bytes);
    let left = bytes;
    return {
      [Symbol.dispose]: () => {
        this.#add(client, -left);
        left = 0;
      },
    };
  }

  /** When so many bytes that found no room are to come again: one after the other, not all at once. */
  putOff(client: ClientId, bytes: number, now: Instant): Instant {
    for (const [other, until] of this.#booked) if (until <= now) this.#booked.delete(other);
    const from = this.#booked.get(client) ?? now + MIN_PUT_OFF_MS;
    const until = Math.min(from + (bytes * SECOND_MS) / AGAIN_BYTES_PER_SECOND, now + MAX_PUT_OFF_MS);
    this.#booked.set(client, until);
    return Math.round(Math.max(until, now + MIN_PUT_OFF_MS));
  }

  #add(client: ClientId, bytes: number): void {
    this.#all += bytes;
    const own = (this.#taken.get(client) ?? 0) + bytes;
    if (own > 0) this.#taken.set(client, own);
    else this.#taken.delete(client);
  }
}

/** Undefined when it was erased. Throws when a piece is missing. */
export async function loadAttachments(
  log: Log,
  files: readonly Attachment[],
): Promise<readonly MailAttachment[] | undefined> {
  const loaded: MailAttachment[] = [];
  for (const { blob, filename, contentType, contentId, size } of files) {
    const content = await contentOf(log, blob, size);
    if (content === undefined) return undefined;
    loaded.push({ filename, contentType, contentId, content });
  }
  return loaded;
}

async function contentOf(log: Log, blob: string, size: number) {
  const content = Buffer.alloc(size);
  let filled = 0;
  for (let from = 0; from < piecesOf(size); from += PIECES_AT_ONCE) {
    const limit = Math.min(PIECES_AT_ONCE, piecesOf(size) - from);
    for (const event of await readDecoded(log, blobStream(blob), { from, limit })) {
      if (event.type !== "BlobPieceStored") throw new Error(`${event.type} in blob ${blob}`);
      const piece = reveal(event.data.content);
      if (piece === null) return undefined;
      filled += content.write(piece, filled, "base64");
    }
  }
  if (filled !== size) throw new Error(`blob ${blob} holds ${filled} bytes of ${size}`);
  return content;
}
