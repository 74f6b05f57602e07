// Clients: registering one, what a client sees and changes of itself, its keys.
import {
  changeClient,
  createKey,
  expiryFaults,
  getClient,
  getKey,
  getWebhookSecret,
  listKeys,
  registerClient,
  revokeKey,
  rotateKey,
  rotateWebhookSecret,
} from "../../../app/clients.ts";
import {
  ClientPatch,
  ClientResource,
  CreatedKeyResource,
  KeyParams,
  KeyResource,
  NewClient,
  NewKey,
  RegisteredClientResource,
  RotatedKeyResource,
  Rotation,
  WebhookSecretResource,
} from "../../../contract/clients.ts";
import { listBody } from "../../../contract/fields.ts";
import { created, noContent, ok, route, routesOf, shown } from "../route.ts";

const manageKeys = { kind: "key", scope: "keys:manage" } as const;

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
    summary: "Change the client's name, description or policy",
    description:
      "A JSON Merge Patch (RFC 7396): null clears. `policy` says what user tokens may do; what is false is 403 `forbidden` for them.",
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
  createKey: route("POST", "/clients/me/keys", {
    summary: "Create an API key",
    description: "It allows what its scopes say, until it expires or is deleted. The key is shown this once.",
    access: manageKeys,
    body: NewKey,
    furtherFaults: (_caller, body, at) => expiryFaults(body, at),
    responses: { 201: CreatedKeyResource },
    problems: ["insufficient_scope", "key_limit"],
    handle: async (call) => {
      const made = await createKey(call, call.body);
      return created(made, "key", `/clients/me/keys/${made.key.id}`);
    },
  }),
  listKeys: route("GET", "/clients/me/keys", {
    summary: "List the API keys that hold",
    description: "Newest first; there are at most 20, on one page. The keys themselves are never shown again.",
    access: manageKeys,
    responses: { 200: listBody(KeyResource) },
    handle: async (call) => ok({ data: await listKeys(call), next_cursor: null }),
  }),
  getKey: route("GET", "/clients/me/keys/:key_id", {
    summary: "Read an API key's name, scopes and times",
    description: "The key itself is never shown again.",
    access: manageKeys,
    params: KeyParams,
    responses: { 200: KeyResource },
    problems: ["not_found"],
    handle: async (call) => ok(await getKey(call, call.params.key_id)),
  }),
  revokeKey: route("DELETE", "/clients/me/keys/:key_id", {
    summary: "Delete an API key",
    description:
      "It ends within a second on every node, and its sockets close with 4501. A client keeps a key with `keys:manage` that does not expire.",
    access: manageKeys,
    params: KeyParams,
    responses: { 204: null },
    problems: ["not_found", "last_key"],
    handle: async (call) => noContent(await revokeKey(call, call.params.key_id)),
  }),
  rotateKey: route("POST", "/clients/me/keys/:key_id/rotate", {
    summary: "Rotate an API key",
    description:
      "The old key works until the grace ends. The new one, with its name, scopes and expiry, is shown this once. A key cannot rotate one that allows more than itself.",
    access: manageKeys,
    params: KeyParams,
    body: Rotation,
    responses: { 200: RotatedKeyResource },
    problems: ["not_found", "insufficient_scope", "key_limit"],
    handle: async (call) => shown(await rotateKey(call, call.params.key_id, call.body.grace_seconds), "key"),
  }),
});
