// A tenant: its webhook secret, its email providers.
import { describe, test } from "vitest";
import type { KeyId } from "../../src/contract/ids.ts";
import { ALL_ALLOWED, type ClientCommand, type ClientEvent, clientDecider } from "../../src/domain/client.ts";
import { NO_OPTIONS } from "../../src/domain/provider.ts";
import { at, given, NOW } from "../support/given.ts";

const DAY = 86_400_000;
const keyData = (id: KeyId) => ({ id, hash: `hash of ${id}`, last4: "abcd" });
const registered: ClientEvent = {
  type: "ClientRegistered",
  data: {
    client: "cli_a",
    name: "My App",
    description: null,
    key: { ...keyData("key_1"), name: "default" },
    webhookSecret: { open: "whsec_1" },
  },
};
const register: ClientCommand = {
  type: "Register",
  at: NOW,
  client: "cli_a",
  name: "My App",
  description: null,
  key: { ...keyData("key_1"), name: "default" },
  webhookSecret: "whsec_1",
};
const config = {
  host: "mail.example.com",
  port: 587,
  username: "u",
  password: "p",
  security: "starttls",
  dkim: null,
} as const;
const provider = (name = "main") =>
  ({
    client: "cli_a",
    name,
    type: "smtp",
    fromEmail: "app@example.com",
    fromName: null,
    replyTo: null,
    useFor: ["single" as const],
    order: 0,
    options: NO_OPTIONS,
  }) as const;
const data = (name = "main", changes: object = {}) => ({
  ...{ ...provider(name), fromDomains: [], useFor: ["single" as const] },
  ...changes,
});
const providerSet = (name = "main", changes: object = {}): ClientEvent => ({
  type: "ProviderSet",
  data: { ...data(name, changes), config: { open: config } },
});
const setProvider = (name = "main", changes: object = {}): ClientCommand => ({
  type: "SetProvider",
  at: NOW,
  provider: { ...data(name), config, ...changes },
});
const update = (changes: Extract<ClientCommand, { type: "Update" }>["changes"]): ClientCommand => ({
  type: "Update",
  at: NOW,
  changes,
});

describe("registering", () => {
  test("makes the client with its first key and webhook secret", () =>
    given(clientDecider).when(register).then(registered));

  test("twice registers once", () => given(clientDecider, registered).when(register).thenNothing());

  test("comes before everything else", () => {
    given(clientDecider)
      .when(update({ name: "x" }))
      .thenRejected("not_found");
    given(clientDecider).when(setProvider()).thenRejected("not_found");
    given(clientDecider).when({ type: "RemoveProvider", at: NOW, name: "main" }).thenRejected("not_found");
    given(clientDecider)
      .when({ type: "RotateWebhookSecret", at: NOW, secret: "s", graceMs: 0 })
      .thenRejected("not_found");
  });
});

describe("updating", () => {
  test("changes what is named and keeps the rest", () =>
    given(clientDecider, registered)
      .when(update({ description: "ours" }))
      .then({ type: "ClientUpdated", data: { name: "My App", description: "ours", policy: ALL_ALLOWED } }));

  test("clears with null", () =>
    given(clientDecider, registered, {
      type: "ClientUpdated",
      data: { name: "My App", description: "ours", policy: ALL_ALLOWED },
    })
      .when(update({ description: null }))
      .then({ type: "ClientUpdated", data: { name: "My App", description: null, policy: ALL_ALLOWED } }));

  test("of the policy keeps what is not named", () => {
    const policy = { ...ALL_ALLOWED, usersAddMembers: false };
    const updated = { type: "ClientUpdated", data: { name: "My App", description: null, policy } } as const;
    given(clientDecider, registered)
      .when(update({ policy: { usersAddMembers: false } }))
      .then(updated);
    given(clientDecider, registered, updated)
      .when(update({ policy: { usersCreateRooms: false } }))
      .then({ ...updated, data: { ...updated.data, policy: { ...policy, usersCreateRooms: false } } });
  });

  test("to what already holds changes nothing", () =>
    given(clientDecider, registered)
      .when(update({ name: "My App", description: null, policy: { usersAddMembers: true } }))
      .thenNothing());
});

describe("rotating the webhook secret", () => {
  const secretRotated = (secret: string, graceUntil: number): ClientEvent => ({
    type: "WebhookSecretRotated",
    data: { client: "cli_a", secret: { open: secret }, graceUntil },
  });

  test("makes a new one; the old one signs too until the grace ends", () => {
    given(clientDecider, registered)
      .when({ type: "RotateWebhookSecret", at: NOW, secret: "whsec_2", graceMs: DAY })
      .then(secretRotated("whsec_2", NOW + DAY));
    given(clientDecider, registered, secretRotated("whsec_2", NOW + DAY)).thenState({
      secret: { open: "whsec_2" },
      previousSecret: { secret: { open: "whsec_1" }, until: NOW + DAY },
    });
  });
});

describe("an email provider", () => {
  test("is set", () => given(clientDecider, registered).when(setProvider()).then(providerSet()));

  test("is replaced", () =>
    given(clientDecider, registered, providerSet())
      .when(setProvider("main", { order: 2 }))
      .then(providerSet("main", { order: 2 })));

  test("that is set as it already is changes nothing", () =>
    given(clientDecider, registered, providerSet()).when(setProvider()).thenNothing());

  test("with another password is another", () =>
    given(clientDecider, registered, {
      type: "ProviderSet",
      data: { ...data(), config: { open: { ...config, password: "old" } } },
    })
      .when(setProvider())
      .then(providerSet()));

  test("whose credentials were erased is set anew", () =>
    given(clientDecider, registered, { type: "ProviderSet", data: { ...data(), config: { erased: true } } })
      .when(setProvider())
      .then(providerSet()));

  test(`is refused beyond 20, but one of those can still be replaced`, () => {
    const full = Array.from({ length: 20 }, (_, index) => providerSet(`p${index}`));
    given(clientDecider, registered, ...full)
      .when(setProvider("more"))
      .thenRejected("provider_limit");
    given(clientDecider, registered, ...full)
      .when(setProvider("p3", { order: 9 }))
      .then(providerSet("p3", { order: 9 }));
  });

  test("is removed, once", () => {
    const remove: ClientCommand = { type: "RemoveProvider", at: NOW, name: "main" };
    const removed: ClientEvent = { type: "ProviderRemoved", data: { name: "main" } };
    given(clientDecider, registered, providerSet()).when(remove).then(removed);
    given(clientDecider, registered, providerSet(), removed).when(remove).thenRejected("not_found");
  });
});

describe("a provider that fails", () => {
  const error = { code: "auth_failed", message: "The server refused the user name or password (535)" };
  const down = (time: number, changedSeq = 2): ClientCommand => {
    return { type: "MarkProviderDown", at: time, name: "main", changedSeq, fault: "account", error };
  };
  const up: ClientCommand = { type: "MarkProviderUp", at: NOW, name: "main", changedSeq: 2 };
  const wentDown = (time: number, ms: number) =>
    at(time, {
      type: "ProviderDown",
      data: { name: "main", fault: "account", reason: error.code, message: error.message, until: time + ms },
    } satisfies ClientEvent);
  const wentUp: ClientEvent = { type: "ProviderUp", data: { name: "main", reason: "probe_succeeded" } };
  const S = 1_000;

  test("is down for 30 s, whoever else finds it so; then for twice as long, up to ten minutes", () => {
    const history = [registered, providerSet()];
    given(clientDecider, ...history)
      .when(down(NOW))
      .then(wentDown(NOW, 30 * S).event);
    given(clientDecider, ...history, wentDown(NOW, 30 * S))
      .when(down(NOW + 30 * S - 1))
      .thenNothing();
    given(clientDecider, ...history, wentDown(NOW, 30 * S))
      .when(down(NOW + 30 * S))
      .then(wentDown(NOW + 30 * S, 60 * S).event);
    const often = Array.from({ length: 9 }, () => wentDown(NOW - 600 * S, 600 * S));
    given(clientDecider, ...history, ...often)
      .when(down(NOW))
      .then(wentDown(NOW, 600 * S).event);
  });

  test("is up again once, and begins anew with 30 s", () => {
    given(clientDecider, registered, providerSet()).when(up).thenNothing();
    given(clientDecider, registered, providerSet(), wentDown(NOW, 30 * S))
      .when(up)
      .then(wentUp);
    given(clientDecider, registered, providerSet(), wentDown(NOW - 90 * S, 30 * S), wentUp)
      .when(down(NOW))
      .then(wentDown(NOW, 30 * S).event);
  });

  test("is another one when it is set anew, and what older settings failed with tells nothing", () => {
    const history = [registered, providerSet(), wentDown(NOW, 30 * S), providerSet("main", { order: 2 })];
    given(clientDecider, ...history).thenState({ providers: [{ health: { circuit: null, lastError: null } }] });
    given(clientDecider, ...history)
      .when(down(NOW))
      .thenNothing();
    given(clientDecider, ...history)
      .when(down(NOW, 4))
      .then(wentDown(NOW, 30 * S).event);
    given(clientDecider, registered).when(down(NOW)).thenNothing();
  });
});
