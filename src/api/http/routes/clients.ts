// Clients: registering one, what a client sees and changes of itself, its keys.
import {
  changeClient,
  getClient,
  getWebhookSecret,
  registerClient,
  rotateKey,
  rotateWebhookSecret,
} from "../../../app/clients.ts";
import {
  ClientPatch,
  ClientResource,
  KeyParams,
  NewClient,
  RegisteredClientResource,
  RotatedKeyResource,
  Rotation,
  WebhookSecretResource,
} from "../../../contract/clients.ts";
import { created, ok, route, routesOf, shown } from "../route.ts";

export const clientRoutes = routesOf("clients", {
  registerClient: route("POST", "/clients", {
    summary: "Register a client",
    description: "The API key is shown this once: only its hash is kept.",
    access: { kind: "registration" },
    body: NewClient,
    responses: { 201: RegisteredClientResource },
    problems: ["rate_limited"],
    handle: async (call) => created(await registerClient(call, call.body), "client", "/clients/me"),
  }),
  getClient: route("GET", "/clients/me", {
    summary: "Read the client and the key that asks",
    description: "Also says whether the server runs in development mode and whether an email provider is set.",
    access: { kind: "key", scope: null },
    responses: { 200: ClientResource },
    handle: async (call) => ok(await getClient(call)),
  }),
  changeClient: route("PATCH", "/clients/me", {
    summary: "Change the client's name or description",
    description: "A JSON Merge Patch (RFC 7396): null clears.",
    access: { kind: "key", scope: "keys:manage" },
    body: ClientPatch,
    responses: { 200: ClientResource },
    handle: async (call) => shown(await changeClient(call, call.body), "client"),
  }),
  getWebhookSecret: route("GET", "/clients/me/webhook-secret", {
    summary: "Read the secret that signs webhooks",
    description: "With the secret before it, as long as both sign.",
    access: { kind: "key", scope: "webhooks:manage" },
    responses: { 200: WebhookSecretResource },
    handle: async (call) => ok(await getWebhookSecret(call)),
  }),
  rotateWebhookSecret: route("POST", "/clients/me/webhook-secret/rotate", {
    summary: "Rotate the secret that signs webhooks",
    description: "Both secrets sign until the grace ends.",
    access: { kind: "key", scope: "webhooks:manage" },
    body: Rotation,
    responses: { 200: WebhookSecretResource },
    handle: async (call) => shown(await rotateWebhookSecret(call, call.body.grace_seconds), "secret"),
  }),
  rotateKey: route("POST", "/clients/me/keys/:key_id/rotate", {
    summary: "Rotate an API key",
    description: "The old key works until the grace ends. The new one is shown this once.",
    access: { kind: "key", scope: "keys:manage" },
    params: KeyParams,
    body: Rotation,
    responses: { 200: RotatedKeyResource },
    problems: ["not_found", "key_limit"],
    handle: async (call) => shown(await rotateKey(call, call.params.key_id, call.body.grace_seconds), "key"),
  }),
});
