// Clients: registering one, and what a client sees and changes of itself.
import { KEY_BYTES, keyData, makeApiKey } from "../../../app/api-keys.ts";
import type { Caller } from "../../../app/authenticate.ts";
import { clientBody, registeredBody, webhookSecretBody } from "../../../app/bodies/client.ts";
import type { Services } from "../../../app/services.ts";
import { description, input, name, orNull, patched, seconds } from "../../../contract/fields.ts";
import type { ClientId } from "../../../contract/ids.ts";
import { ClientResource, RegisteredClientResource, WebhookSecretResource } from "../../../contract/resources.ts";
import { DAY_MS, SECOND_MS } from "../../../contract/time.ts";
import { clientDecider, clientStream, type LiveClient } from "../../../domain/client.ts";
import { omitUndefined } from "../../../platform/omit-undefined.ts";
import { Problem } from "../problems.ts";
import { created, ok } from "../reply.ts";
import { type Route, route } from "../route.ts";

/** How long an old key or secret may go on, and how long it does unless the caller says otherwise. */
const MAX_GRACE_SECONDS = (7 * DAY_MS) / SECOND_MS;
const GRACE_SECONDS = DAY_MS / SECOND_MS;

export const graceBody = input({
  grace_seconds: seconds(0, MAX_GRACE_SECONDS)
    .default(GRACE_SECONDS)
    .describe("How long the old one goes on, at most 7 days; a day when it is left out."),
});

/** Makes the secret that signs a client's webhooks. */
const makeWebhookSecret = ({ randomBytes }: Pick<Services, "randomBytes">): string =>
  `whsec_${Buffer.from(randomBytes(32)).toString("base64")}`;

/** The client of a caller, as it is now. */
async function ownState({ commands }: Services, client: ClientId): Promise<LiveClient> {
  return live((await commands.load(clientDecider, clientStream(client))).state);
}

/** Whoever calls has a client. */
export function live(state: LiveClient | { readonly status: "none" }): LiveClient {
  if (state.status === "none") throw new Problem("not_found");
  return state;
}

/** The id of the key that calls; routes for clients let no user in. */
function keyOf(caller: Caller) {
  if (caller.kind !== "key") throw new Problem("forbidden");
  return caller.keyId;
}

function shown({ config }: Services, client: LiveClient, caller: Caller) {
  const id = keyOf(caller);
  const key = client.keys.find((one) => one.id === id);
  if (key === undefined) throw new Problem("unauthenticated");
  return clientBody(client, key, config);
}

const register = route({
  method: "POST",
  path: "/clients",
  summary: "Registers a client. Its key is shown this once.",
  tag: "clients",
  access: { kind: "registration" },
  body: input({ name, description: orNull(description) }),
  responses: { 201: RegisteredClientResource },
  problems: ["rate_limited"],
  handle: async ({ services, caller, body, at, context }) => {
    const apiKey = makeApiKey(services.randomBytes(KEY_BYTES));
    const command = {
      type: "Register",
      at,
      client: caller.client,
      ...body,
      key: keyData(keyOf(caller), "default", apiKey),
      webhookSecret: makeWebhookSecret(services),
    } as const;
    const outcome = await services.commands.execute(clientDecider, clientStream(caller.client), command, context);
    const { position, replayed } = outcome;
    const shownKey = replayed ? null : apiKey;
    return created(registeredBody(live(outcome.state), shownKey), "/clients/me", { position, replayed });
  },
});

const getClient = route({
  method: "GET",
  path: "/clients/me",
  summary: "The client itself, and the key that asks.",
  tag: "clients",
  access: { kind: "key", scope: null },
  responses: { 200: ClientResource },
  problems: [],
  handle: async ({ services, caller }) => ok(shown(services, await ownState(services, caller.client), caller)),
});

const patchClient = route({
  method: "PATCH",
  path: "/clients/me",
  summary: "Changes the client's name or description.",
  tag: "clients",
  access: { kind: "key", scope: "keys:manage" },
  body: input({ name: name.optional(), description: patched(description) }),
  responses: { 200: ClientResource },
  problems: [],
  handle: async ({ services, caller, body, at, context }) => {
    const command = { type: "Update", at, changes: omitUndefined(body) } as const;
    const { state, position } = await services.commands.execute(
      clientDecider,
      clientStream(caller.client),
      command,
      context,
    );
    return ok(shown(services, live(state), caller), { position });
  },
});

const getWebhookSecret = route({
  method: "GET",
  path: "/clients/me/webhook-secret",
  summary: "The secret that signs webhooks, and the one before while it signs too.",
  tag: "clients",
  access: { kind: "key", scope: "webhooks:manage" },
  responses: { 200: WebhookSecretResource },
  problems: [],
  handle: async ({ services, caller, at }) => ok(webhookSecretBody(await ownState(services, caller.client), at)),
});

const rotateWebhookSecret = route({
  method: "POST",
  path: "/clients/me/webhook-secret/rotate",
  summary: "Makes a new secret for webhooks. Both sign until the grace ends.",
  tag: "clients",
  access: { kind: "key", scope: "webhooks:manage" },
  body: graceBody,
  responses: { 200: WebhookSecretResource },
  problems: [],
  handle: async ({ services, caller, body, at, context }) => {
    const graceMs = body.grace_seconds * SECOND_MS;
    const command = { type: "RotateWebhookSecret", at, secret: makeWebhookSecret(services), graceMs } as const;
    const outcome = await services.commands.execute(clientDecider, clientStream(caller.client), command, context);
    const { position, replayed } = outcome;
    // As of the rotation, so that a replay shows the same.
    const rotatedAt = outcome.events[0]?.at ?? at;
    return ok(webhookSecretBody(live(outcome.state), rotatedAt), { position, replayed });
  },
});

export const clientRoutes: readonly Route[] = [register, getClient, patchClient, getWebhookSecret, rotateWebhookSecret];
