// Clients, their keys and their webhook secrets: what requests send and answers show.
import { z } from "zod";
import { description, input, instant, name, orNull, patched, refuse, ScopeSchema, seconds, time } from "./fields.ts";
import { KeyIdSchema } from "./ids.ts";
import { DAY_MS, SECOND_MS } from "./time.ts";

const client = { id: z.string(), name: z.string(), description: z.string().nullable() };
const shownOnce = z.string().nullable().describe("Shown this once; null in a replay");

export const RegisteredClientResource = z
  .object({
    ...client,
    api_key: shownOnce,
    webhook_secret: z.string().describe("Signs webhooks: whsec_ and base64 of 32 bytes"),
    created_at: time,
  })
  .meta({ id: "RegisteredClient" });
export type RegisteredClientResource = z.infer<typeof RegisteredClientResource>;

export const KeyResource = z
  .object({
    id: z.string(),
    name: z.string(),
    last4: z.string().describe("The last four characters: the key itself is never shown again"),
    scopes: z.array(ScopeSchema).describe("What it allows"),
    created_at: time,
    expires_at: time.nullable().describe("When it ends, by its expiry or after a rotation"),
    last_used_at: time.nullable().describe("To the hour"),
  })
  .meta({ id: "Key" });
export type KeyResource = z.infer<typeof KeyResource>;

export const CreatedKeyResource = KeyResource.extend({ api_key: shownOnce }).meta({ id: "CreatedKey" });
export type CreatedKeyResource = z.infer<typeof CreatedKeyResource>;

const Policy = z.object({
  users_create_rooms: z.boolean(),
  users_add_members: z.boolean().describe("Also naming others where a room is created"),
  users_join_public_rooms: z.boolean(),
});

export const ClientResource = z
  .object({
    ...client,
    policy: Policy.describe("What a user token may do; false: 403 `forbidden`"),
    mode: z.enum(["development", "production"]),
    email: z.object({
      configured: z.boolean().describe("Whether there is a provider"),
      providers: z.array(z.string()).describe("Their names"),
    }),
    key: KeyResource.describe("The key that asked"),
    created_at: time,
  })
  .meta({ id: "Client" });
export type ClientResource = z.infer<typeof ClientResource>;

export const WebhookSecretResource = z
  .object({
    webhook_secret: z.string(),
    previous: z
      .object({ webhook_secret: z.string(), expires_at: time })
      .nullable()
      .describe("The one before, which also signs until then"),
  })
  .meta({ id: "WebhookSecret" });
export type WebhookSecretResource = z.infer<typeof WebhookSecretResource>;

export const RotatedKeyResource = CreatedKeyResource.extend({
  previous: z.object({ id: z.string(), expires_at: time }).describe("The old key, which works until then"),
}).meta({ id: "RotatedKey" });
export type RotatedKeyResource = z.infer<typeof RotatedKeyResource>;

/** How long an old key or secret may go on, and how long it does unless the caller says otherwise. */
const MAX_GRACE_SECONDS = (7 * DAY_MS) / SECOND_MS;
const GRACE_SECONDS = DAY_MS / SECOND_MS;

export const NewClient = input({ name, description: orNull(description) });
export type NewClient = z.output<typeof NewClient>;
const allowed = patched(z.boolean()).describe("null: true");
const PolicyPatch = input({
  users_create_rooms: allowed,
  users_add_members: allowed,
  users_join_public_rooms: allowed,
});
export const ClientPatch = input({
  name: name.optional(),
  description: patched(description),
  policy: patched(PolicyPatch).describe("null: everything is allowed"),
});
export type ClientPatch = z.output<typeof ClientPatch>;
export const Rotation = input({
  grace_seconds: seconds(0, MAX_GRACE_SECONDS)
    .default(GRACE_SECONDS)
    .describe("How long the old one goes on, at most 7 days; a day when it is left out."),
});
export const NewKey = input({
  name,
  scopes: z
    .array(ScopeSchema)
    .min(1)
    .max(ScopeSchema.options.length)
    .superRefine((scopes, context) => {
      if (new Set(scopes).size < scopes.length) refuse(context, "not_allowed", "must not contain duplicates");
    })
    .describe("What the key allows; none that the key that calls lacks."),
  expires_at: orNull(instant).describe("From a minute to ten years ahead; null: never."),
});
export type NewKey = z.output<typeof NewKey>;
export const KeyParams = z.object({ key_id: KeyIdSchema });
