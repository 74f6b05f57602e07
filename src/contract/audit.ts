// The audit: what requests send and answers show.
import { z } from "zod";
import { ActorTypeSchema, commaSeparated, created, input, paging, text, time, userId } from "./fields.ts";
import { MessageIdSchema, NotificationIdSchema } from "./ids.ts";

export const AuditEventResource = z
  .object({
    id: z.string(),
    type: z.string().describe("The stored type, such as MessagePosted"),
    stream: z.string(),
    revision: z.int(),
    position: z.string(),
    at: time,
    actor: z.object({
      type: ActorTypeSchema,
      id: z.string().describe("A user's own id as long as it is known, else the subject"),
    }),
    correlation_id: z.string(),
    causation_id: z.string(),
    data: z.record(z.string(), z.unknown()).describe('Secrets read {"sealed": true}, what was erased {"erased": true}'),
  })
  .meta({ id: "AuditEvent" });
export type AuditEventResource = z.infer<typeof AuditEventResource>;

export const StreamParams = z.object({ stream: z.string() });
/** `types`: the types of stored events. */
export const auditQuery = <T extends readonly [string, ...string[]]>(types: T) =>
  input({
    ...paging,
    ...created,
    type: commaSeparated(z.enum(types)).optional(),
    after: z.string().optional().meta({ description: "A position: only events after it" }),
    correlation_id: commaSeparated(text(1, 128))
      .optional()
      .meta({ description: "The `X-Request-Id` of the requests that led to them" }),
    room_id: commaSeparated(text(1, 128)).optional().meta({ description: "Events of these rooms" }),
    message_id: MessageIdSchema.optional().meta({
      type: "string",
      description: "The message's posting, edits, deletions and restorings",
    }),
    notification_id: NotificationIdSchema.optional().meta({
      type: "string",
      description: "Events of the notification and of its deliveries",
    }),
    user_id: userId.optional().meta({ description: "What the user did, and what was done to its profile and tokens" }),
    actor: commaSeparated(text(1, 255)).optional().meta({ description: "Ids of keys or users" }),
  });
