// domain/blob.ts: large content, such as an attachment's, in pieces in a stream of its own.
import { z } from "zod";
import { ClientIdSchema, KeyRefSchema } from "../contract/ids.ts";
import type { Decider, TimedCommand } from "./decider.ts";
import { type EventsOf, event, seal, sealed } from "./event.ts";

/** What the names of these streams begin with. Subscriptions pass over them. */
export const BLOB_STREAMS = "blob-";
export const blobStream = (id: string) => `${BLOB_STREAMS}${id}`;

/** Bytes of each piece but the last: sealed, and twice in base64, it fits into one append. */
export const PIECE_BYTES = 512 * 1024;
export const piecesOf = (bytes: number): number => Math.ceil(bytes / PIECE_BYTES);

// Events. A storage format.
export const blobEvents = {
  BlobPieceStored: event({
    data: z.object({
      client: ClientIdSchema,
      /** Seals the content: the key of what it belongs to. */
      contentKey: KeyRefSchema,
      /** From 0 on, without gaps. */
      index: z.number(),
      /** In base64. */
      content: sealed(z.string()),
    }),
    seals: { content: "contentKey" },
  }),
} as const;
export type BlobEvent = EventsOf<typeof blobEvents>;

// State: how many pieces there are.
type Blob = { readonly pieces: number };

// Commands, and what each means now.
type PieceData = Extract<BlobEvent, { type: "BlobPieceStored" }>["data"];
type BlobCommand = TimedCommand & {
  readonly type: "StorePiece";
  readonly piece: Omit<PieceData, "content"> & { readonly content: string };
};

function decide({ pieces }: Blob, { piece }: BlobCommand): readonly BlobEvent[] {
  // Stored before, by a request that was sent again.
  if (piece.index < pieces) return [];
  if (piece.index > pieces) throw new Error(`piece ${piece.index} of a blob comes after piece ${pieces - 1}`);
  return [{ type: "BlobPieceStored", data: { ...piece, content: seal(piece.content) } }];
}

export const blobDecider: Decider<Blob, BlobEvent, BlobCommand> = {
  name: "blob",
  events: blobEvents,
  initial: { pieces: 0 },
  evolve: ({ pieces }) => ({ pieces: pieces + 1 }),
  decide,
};
