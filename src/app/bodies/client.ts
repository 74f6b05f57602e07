// A client and its keys as answers show them.
import type { Config } from "../../config.ts";
import type {
  ClientResource,
  RegisteredClientResource,
  RotatedKeyResource,
  WebhookSecretResource,
} from "../../contract/resources.ts";
import { type Instant, rfc3339, rfc3339OrNull } from "../../contract/time.ts";
import type { ApiKey, LiveClient } from "../../domain/client.ts";
import { reveal } from "../../domain/event.ts";

/** A client just made. */
export const registeredBody = (client: LiveClient, apiKey: string | null): RegisteredClientResource => ({
  id: client.id,
  name: client.name,
  description: client.description,
  api_key: apiKey,
  webhook_secret: reveal(client.secret) ?? "",
  created_at: rfc3339(client.createdAt),
});

/** A client as it sees itself, by the key that asks. */
export const clientBody = (client: LiveClient, key: ApiKey, config: Pick<Config, "development">): ClientResource => ({
  id: client.id,
  name: client.name,
  description: client.description,
  mode: config.development ? "development" : "production",
  email: { configured: client.providers.length > 0, providers: client.providers.map(({ name }) => name) },
  key: { id: key.id, name: key.name, last4: key.last4, created_at: rfc3339(key.createdAt) },
  created_at: rfc3339(client.createdAt),
});

/** The secrets that sign at a moment. */
export function webhookSecretBody(client: LiveClient, at: Instant): WebhookSecretResource {
  const { secret, previousSecret } = client;
  const before = previousSecret !== null && previousSecret.until > at ? previousSecret : null;
  return {
    webhook_secret: reveal(secret) ?? "",
    previous:
      before === null ? null : { webhook_secret: reveal(before.secret) ?? "", expires_at: rfc3339(before.until) },
  };
}

/** A key that takes another's place. */
export const rotatedKeyBody = (
  key: ApiKey,
  apiKey: string | null,
  previous: { readonly id: string; readonly until: Instant },
): RotatedKeyResource => ({
  id: key.id,
  name: key.name,
  api_key: apiKey,
  last4: key.last4,
  created_at: rfc3339(key.createdAt),
  expires_at: rfc3339OrNull(key.expiresAt),
  previous: { id: previous.id, expires_at: rfc3339(previous.until) },
});
