// Editing a scheduled notification: a merge patch, checked against what its type allows and what it was.

import type { FieldFault } from "../../contract/errors.ts";
import { MAX_META_BYTES, metaTooLarge } from "../../contract/fields.ts";
import { isObject, type JsonValue, mergePatch } from "../../contract/json.ts";
import type { Channel } from "../../contract/resources.ts";
import type { Instant } from "../../contract/time.ts";
import { InvalidInput } from "../../domain/errors.ts";
import { reveal, seal } from "../../domain/event.ts";
import type { NotificationContent } from "../../domain/notification.ts";
import { contentBytes, MAX_CONTENT_BYTES, type NotificationPatch, TOO_LONG } from "./input.ts";
import { expiresByDefault, settleTimes } from "./times.ts";

/** What a patch may not say about a notification of this channel, whatever it was before. */
export function patchFaults(channel: Channel, patch: NotificationPatch): readonly FieldFault[] {
  const faults: FieldFault[] = [];
  const { subject, content } = patch;
  if (channel === "email" && subject === null) {
    faults.push({ path: "subject", code: "required", message: "an email has a subject" });
  }
  if (channel === "email" && typeof subject === "string" && /[\r\n]/.test(subject)) {
    faults.push({ path: "subject", code: "invalid_format", message: "must be one line" });
  }
  if (channel !== "email" && patch.text !== undefined && patch.text !== null) {
    faults.push({ path: "text", code: "not_allowed", message: "only an email has a text" });
  }
  if (channel !== "webhook" && content !== undefined && typeof content !== "string") {
    const code = content === null ? "required" : "wrong_type";
    faults.push({ path: "content", code, message: content === null ? "is required" : "must be a string" });
  }
  if (channel !== "webhook" && content === "") {
    faults.push({ path: "content", code: "too_short", message: "must have at least 1 character" });
  }
  return faults;
}

/** RFC 7396 on any JSON: objects merge, all else replaces. */
const mergeJson = (old: JsonValue, patch: JsonValue): JsonValue =>
  isObject(patch) ? mergePatch(isObject(old) ? old : {}, patch) : patch;

/** The content after the patch. Throws InvalidInput for what only the old content can show to be wrong. */
export function edited(
  old: NotificationContent,
  patch: NotificationPatch,
  { at, createdAt }: { readonly at: Instant; readonly createdAt: Instant },
): NotificationContent {
  const faults: FieldFault[] = [];
  const text = patch.text === undefined ? reveal(old.text) : patch.text;
  const content = patch.content === undefined ? reveal(old.content) : mergeJson(reveal(old.content), patch.content);
  const meta =
    patch.meta === undefined
      ? reveal(old.meta)
      : patch.meta === null
        ? {}
        : mergePatch(reveal(old.meta) ?? {}, patch.meta);
  if (contentBytes(content, text) > MAX_CONTENT_BYTES) {
    faults.push({ path: "content", code: "too_long", message: TOO_LONG });
  }
  if (meta !== null && metaTooLarge(meta)) {
    faults.push({ path: "meta", code: "too_long", message: `must have at most ${MAX_META_BYTES} bytes as JSON` });
  }
  const times = newTimes(old, patch, { at, createdAt }, faults);
  if (faults.length > 0) throw new InvalidInput(faults);
  const subject = patch.subject === undefined ? old.subject : patch.subject === null ? null : seal(patch.subject);
  return {
    contentKey: old.contentKey,
    subject,
    content: patch.content === undefined ? old.content : seal(content),
    text: patch.text === undefined ? old.text : patch.text === null ? null : seal(patch.text),
    meta: patch.meta === undefined ? old.meta : seal(meta ?? {}),
    priority: patch.priority === undefined ? old.priority : (patch.priority ?? "normal"),
    ...times,
  };
}

/** A time of expiry that nobody chose moves with the sending. */
function newTimes(
  old: NotificationContent,
  { send_at, expires_at }: NotificationPatch,
  { at, createdAt }: { readonly at: Instant; readonly createdAt: Instant },
  faults: FieldFault[],
) {
  const { sendAt, expiresAt } = old;
  if (send_at === undefined && expires_at === undefined) return { sendAt, expiresAt };
  const kept = expiresByDefault(old, createdAt) ? null : expiresAt;
  const asked = {
    sendAt: send_at === undefined ? sendAt : send_at,
    expiresAt: expires_at === undefined ? kept : expires_at,
  };
  return settleTimes(asked, at, faults);
}
