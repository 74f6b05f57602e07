// Attachments of a mail: what requests send and answers show.
import { z } from "zod";
import { input, line, orNull, pattern, refuse } from "./fields.ts";

const MAX_ATTACHMENTS = 10;
const MIB = 1_048_576;
/** Bytes of all attachments of a mail, decoded. */
const MAX_ATTACHMENTS_BYTES = 10 * MIB;
/** Bytes of a request that has attachments. */
export const MAX_BODY_WITH_ATTACHMENTS_BYTES = 15 * MIB;

export const AttachmentResource = z.object({
  filename: z.string(),
  content_type: z.string(),
  size: z.int().describe("In bytes, decoded"),
  content_id: z.string().nullable(),
});
export type AttachmentResource = z.infer<typeof AttachmentResource>;

/** The bytes that base64 stands for, if it is valid: a quarter less than its characters, and less its padding. */
export function decodedLength(base64: string): number {
  const padding = base64.endsWith("==") ? 2 : base64.endsWith("=") ? 1 : 0;
  return Math.max(0, (base64.length / 4) * 3 - padding);
}

/** Node's decoder leaves out what is no base64, and reads the alphabet of URLs too. */
const isBase64 = (text: string): boolean =>
  text.length % 4 === 0 &&
  !text.includes("-") &&
  !text.includes("_") &&
  // fence: attachment-base64
  Buffer.from(text, "base64").length === decodedLength(text);

const TYPE = "[A-Za-z0-9!#$&^_.+-]{1,127}";

const attachment = input({
  filename: line(255, /[\p{Cc}\p{Zl}\p{Zp}/\\]/u, "must be a file's name, without a path or control characters"),
  content_type: orNull(
    pattern(
      new RegExp(`^(?!multipart/)${TYPE}/${TYPE}(?:; ?[A-Za-z0-9-]{1,40}=${TYPE}){0,3}$`, "i"),
      "type/subtype, and not multipart",
      1,
      255,
    ),
  ).meta({ description: "Told by the end of `filename` when left out." }),
  content: z
    .string()
    .superRefine((value, context) => {
      if (decodedLength(value) > MAX_ATTACHMENTS_BYTES) refuse(context, "too_long", TOO_LARGE);
      else if (!isBase64(value)) refuse(context, "invalid_format", "must be base64 (RFC 4648, 4), with its padding");
    })
    .meta({ contentEncoding: "base64", description: "The file, in base64." }),
  content_id: orNull(pattern(/^[A-Za-z0-9._+@-]+$/, "of A-Z a-z 0-9 . _ + @ - only", 1, 128)).meta({
    description: "The HTML shows it as `cid:<content_id>`.",
  }),
});
export type AttachmentInput = z.output<typeof attachment>;

const TOO_LARGE = `must have at most ${MAX_ATTACHMENTS_BYTES / MIB} MiB, all attachments together`;

export const attachments = z
  .array(attachment)
  .max(MAX_ATTACHMENTS)
  .superRefine((files, context) => {
    const bytes = files.reduce((sum, { content }) => sum + decodedLength(content), 0);
    // fence: attachments-bytes
    if (bytes > MAX_ATTACHMENTS_BYTES) refuse(context, "too_long", TOO_LARGE);
    const seen = new Set<string>();
    for (const [index, { content_id }] of files.entries()) {
      if (content_id === null) continue;
      if (seen.has(content_id)) refuse(context, "not_allowed", "must not come twice", [index, "content_id"]);
      seen.add(content_id);
    }
  })
  .meta({
    description: `At most ${MAX_ATTACHMENTS}, and ${MAX_ATTACHMENTS_BYTES / MIB} MiB together; the body may then have ${MAX_BODY_WITH_ATTACHMENTS_BYTES / MIB} MiB.`,
  });
