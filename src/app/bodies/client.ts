// A client and its keys as answers show them.
import { z } from "zod";
import type { Config } from "../../config.ts";
import { time } from "../../contract/fields.ts";
import { type Instant, rfc3339, rfc3339OrNull } from "../../contract/time.ts";
import type { ApiKey, LiveClient } from "../../domain/client.ts";
import { reveal } from "../../domain/event.ts";

const own = {
  id: z.string(),
  name: z.string(),
  description: z.string().nullable(),
};

export const RegisteredBody = z
  .object({
    ...own,
    api_key: z.string().nullable().describe("Shown this once; null in a replay"),
    webhook_secret: z.string().describe("Signs webhooks: whsec_ and base64 of 32 bytes"),
    created_at: time,
  })
  .meta({ id: "RegisteredClient" });

/** A client just made. */
export const registeredBody = (client: LiveClient, apiKey: string | null): z.infer<typeof RegisteredBody> => ({
  id: client.id,
  name: client.name,
  description: client.description,
  api_key: apiKey,
  webhook_secret: reveal(client.secret) ?? "",
  created_at: rfc3339(client.createdAt),
});

export const ClientBody = z
  .object({
    ...own,
    mode: z.enum(["development", "production"]),
    email: z.object({
      configured: z.boolean().describe("Whether there is a provider"),
      providers: z.array(z.string()).describe("Their names"),
    }),
    key: z
      .object({ id: z.string(), name: z.string(), last4: z.string(), created_at: time })
      .describe("The key that asked"),
    created_at: time,
  })
  .meta({ id: "Client" });

/** A client as it sees itself, by the key that asks. */
export const clientBody = (
  client: LiveClient,
  key: ApiKey,
  config: Pick<Config, "development">,
): z.infer<typeof ClientBody> => ({
  id: client.id,
  name: client.name,
  description: client.description,
  mode: config.development ? "development" : "production",
  email: { configured: client.providers.length > 0, providers: client.providers.map(({ name }) => name) },
  key: { id: key.id, name: key.name, last4: key.last4, created_at: rfc3339(key.createdAt) },
  created_at: rfc3339(client.createdAt),
});

export const WebhookSecretBody = z
  .object({
    webhook_secret: z.string(),
    previous: z
      .object({ webhook_secret: z.string(), expires_at: time })
      .nullable()
      .describe("The one before, which also signs until then"),
  })
  .meta({ id: "WebhookSecret" });

/** The secrets that sign at a moment. */
export function webhookSecretBody(client: LiveClient, at: Instant): z.infer<typeof WebhookSecretBody> {
  const { secret, previousSecret } = client;
  const before = previousSecret !== null && previousSecret.until > at ? previousSecret : null;
  return {
    webhook_secret: reveal(secret) ?? "",
    previous:
      before === null ? null : { webhook_secret: reveal(before.secret) ?? "", expires_at: rfc3339(before.until) },
  };
}

export const RotatedKeyBody = z
  .object({
    id: z.string(),
    name: z.string(),
    api_key: z.string().nullable().describe("Shown this once; null in a replay"),
    last4: z.string(),
    created_at: time,
    expires_at: time.nullable(),
    previous: z.object({ id: z.string(), expires_at: time }).describe("The old key, which works until then"),
  })
  .meta({ id: "RotatedKey" });

/** A key that takes another's place. */
export const rotatedKeyBody = (
  key: ApiKey,
  apiKey: string | null,
  previous: { readonly id: string; readonly until: Instant },
): z.infer<typeof RotatedKeyBody> => ({
  id: key.id,
  name: key.name,
  api_key: apiKey,
  last4: key.last4,
  created_at: rfc3339(key.createdAt),
  expires_at: rfc3339OrNull(key.expiresAt),
  previous: { id: previous.id, expires_at: rfc3339(previous.until) },
});
