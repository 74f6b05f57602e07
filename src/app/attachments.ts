// Attachments of a request: kept in the log, each in a stream of its own, before the notification that names them.
import { hash } from "node:crypto";
import { detectMimeType } from "nodemailer/lib/mime-funcs";
import type { NotificationId } from "../contract/ids.ts";
import { type AttachmentInput, decodedLength } from "../contract/notifications.ts";
import { blobDecider, blobStream, PIECE_BYTES, piecesOf } from "../domain/blob.ts";
import type { Attachment, NotificationData } from "../domain/notification.ts";
import { deriveTail, deriveUuid } from "../event-store/derived-ids.ts";
import type { Call } from "./services.ts";

/**
 * The attachments as the notification names them. The same file of the same request has the same id, so that a request
 * that is sent again stores it once.
 */
export const describeAttachments = (
  notification: NotificationId,
  files: readonly AttachmentInput[],
): readonly Attachment[] =>
  files.map(({ filename, content_type, content, content_id }, index) => ({
    blob: deriveTail("blob", notification, index, hash("sha256", content)),
    filename,
    contentType: content_type ?? detectMimeType(filename),
    size: decodedLength(content),
    contentId: content_id,
  }));

/** Stores the content of a notification's attachments, sealed as it is. Returns when all of it is durable. */
export async function storeAttachments(
  { services, caller: { client }, at, context }: Call,
  { contentKey }: Pick<NotificationData, "contentKey">,
  described: readonly Attachment[],
  files: readonly AttachmentInput[],
): Promise<void> {
  for (const [nth, { blob, size }] of described.entries()) {
    const content = Buffer.from(files[nth]?.content ?? "", "base64");
    for (let index = 0; index < piecesOf(size); index += 1) {
      const bytes = content.subarray(index * PIECE_BYTES, (index + 1) * PIECE_BYTES);
      const piece = { client, contentKey, index, content: bytes.toString("base64") };
      const { fingerprint: _ofTheRequest, ...own } = { ...context, commandId: deriveUuid("piece", blob, index) };
      const options = { newStream: index === 0 };
      await services.commands.execute(blobDecider, blobStream(blob), { type: "StorePiece", at, piece }, own, options);
    }
  }
}
