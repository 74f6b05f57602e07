// Clients: registering one, what a client sees and changes of itself, its keys.
import {
  changeClient,
  getClient,
  getWebhookSecret,
  registerClient,
  rotateKey,
  rotateWebhookSecret,
} from "../../../app/clients.ts";
import { ClientPatch, KeyParams, NewClient, Rotation } from "../../../contract/requests.ts";
import {
  ClientResource,
  RegisteredClientResource,
  RotatedKeyResource,
  WebhookSecretResource,
} from "../../../contract/resources.ts";
import { created, ok } from "../reply.ts";
import { type Route, route } from "../route.ts";

const tag = "clients";

const register = route({
  method: "POST",
  path: "/clients",
  summary: "Register a client; its key is shown this once",
  tag,
  access: { kind: "registration" },
  body: NewClient,
  responses: { 201: RegisteredClientResource },
  problems: ["rate_limited"],
  handle: async (call) => {
    const { client, ...about } = await registerClient(call, call.body);
    return created(client, "/clients/me", about);
  },
});

const get = route({
  method: "GET",
  path: "/clients/me",
  summary: "Read the client itself, and the key that asks",
  tag,
  access: { kind: "key", scope: null },
  responses: { 200: ClientResource },
  problems: [],
  handle: async (call) => ok(await getClient(call)),
});

const patch = route({
  method: "PATCH",
  path: "/clients/me",
  summary: "Change the client's name or description",
  tag,
  access: { kind: "key", scope: "keys:manage" },
  body: ClientPatch,
  responses: { 200: ClientResource },
  problems: [],
  handle: async (call) => {
    const { client, position } = await changeClient(call, call.body);
    return ok(client, { position });
  },
});

const getSecret = route({
  method: "GET",
  path: "/clients/me/webhook-secret",
  summary: "Read the secret that signs webhooks, and the one before while it signs too",
  tag,
  access: { kind: "key", scope: "webhooks:manage" },
  responses: { 200: WebhookSecretResource },
  problems: [],
  handle: async (call) => ok(await getWebhookSecret(call)),
});

const rotateSecret = route({
  method: "POST",
  path: "/clients/me/webhook-secret/rotate",
  summary: "Make a new secret for webhooks; both sign until the grace ends",
  tag,
  access: { kind: "key", scope: "webhooks:manage" },
  body: Rotation,
  responses: { 200: WebhookSecretResource },
  problems: [],
  handle: async (call) => {
    const { secret, ...about } = await rotateWebhookSecret(call, call.body.grace_seconds);
    return ok(secret, about);
  },
});

const rotate = route({
  method: "POST",
  path: "/clients/me/keys/:key_id/rotate",
  summary: "Make a new key in place of one, which works until the grace ends; the new key is shown this once",
  tag,
  access: { kind: "key", scope: "keys:manage" },
  params: KeyParams,
  body: Rotation,
  responses: { 200: RotatedKeyResource },
  problems: ["not_found", "key_limit"],
  handle: async (call) => {
    const { key, ...about } = await rotateKey(call, call.params.key_id, call.body.grace_seconds);
    return ok(key, about);
  },
});

export const clientRoutes: readonly Route[] = [register, get, patch, getSecret, rotateSecret, rotate];
