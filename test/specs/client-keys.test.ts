// A tenant's API keys: what each allows, when it ends, who may make it, and that one that makes others stays.
import { describe, expect, test } from "vitest";
import { ALL_SCOPES, type Scope } from "../../src/contract/fields.ts";
import type { KeyId } from "../../src/contract/ids.ts";
import { type ClientCommand, type ClientEvent, clientDecider } from "../../src/domain/client.ts";
import { keyUseDecider } from "../../src/domain/client-keys.ts";
import { upcast } from "../../src/domain/event.ts";
import { at, given, NOW } from "../support/given.ts";

const MINUTE = 60_000;
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
type About = { readonly scopes?: Scope[] | null; readonly expiresAt?: number | null; readonly name?: string };
const granted = (id: KeyId, { scopes = null, expiresAt = null, name = "default" }: About = {}) => ({
  ...{ ...keyData(id), name, scopes, expiresAt },
});
const rotated = (old: KeyId, next: KeyId, graceUntil: number, about?: About): ClientEvent => ({
  type: "KeyRotated",
  data: { old, key: granted(next, about), graceUntil },
});
const created = (id: KeyId, scopes: Scope[], expiresAt: number | null = null): ClientEvent => ({
  type: "KeyCreated",
  data: { key: granted(id, { scopes, expiresAt, name: "another" }) },
});
const revoked = (key: KeyId): ClientEvent => ({ type: "KeyRevoked", data: { key } });
const rotate = (old: KeyId, next: KeyId, graceMs: number, time = NOW, granter = ALL_SCOPES): ClientCommand => ({
  ...{ type: "RotateKey", at: time, old, key: keyData(next), graceMs, granter },
});
const create = (
  id: KeyId,
  scopes: readonly Scope[],
  { expiresAt = null, granter = ALL_SCOPES }: { expiresAt?: number | null; granter?: ReadonlySet<Scope> } = {},
): ClientCommand => ({
  ...{ type: "CreateKey", at: NOW, key: { ...keyData(id), name: "another" }, scopes, expiresAt, granter },
});
const revoke = (key: KeyId): ClientCommand => ({ type: "RevokeKey", at: NOW, key });
const client = (...events: ClientEvent[]) => given(clientDecider, registered, ...events);

describe("creating a key", () => {
  test("gives it the scopes that were named", () =>
    client()
      .when(create("key_2", ["rooms:read", "messages:read"]))
      .then(created("key_2", ["rooms:read", "messages:read"])));

  test("grants no scope that the key that calls lacks, and names each", () => {
    const granter = new Set<Scope>(["keys:manage", "rooms:read"]);
    client()
      .when(create("key_2", ["rooms:read", "audit:read", "rooms:write"], { granter }))
      .thenRejected("insufficient_scope");
    client()
      .when(create("key_2", ["rooms:read", "keys:manage"], { granter }))
      .then(created("key_2", ["rooms:read", "keys:manage"]));
  });

  test("takes an expiry from a minute to ten years ahead", () => {
    const years = (count: number) => new Date(NOW).setUTCFullYear(new Date(NOW).getUTCFullYear() + count);
    for (const expiresAt of [NOW + MINUTE, years(10)])
      client()
        .when(create("key_2", ["rooms:read"], { expiresAt }))
        .then(created("key_2", ["rooms:read"], expiresAt));
    const refused = { too_small: [NOW - 1, NOW + MINUTE - 1], too_large: [years(10) + 1] } as const;
    for (const code of ["too_small", "too_large"] as const)
      for (const expiresAt of refused[code])
        client()
          .when(create("key_2", ["rooms:read"], { expiresAt }))
          .thenInvalid("expires_at", code);
  });

  test("is refused beyond 20 that hold; an expired one does not count", () => {
    const keys = (last: number | null) =>
      Array.from({ length: 19 }, (_, n) => created(`key_more${n}`, ["rooms:read"], n === 0 ? last : null));
    client(...keys(null))
      .when(create("key_2", ["rooms:read"]))
      .thenRejected("key_limit");
    client(...keys(NOW))
      .when(create("key_2", ["rooms:read"]))
      .then(created("key_2", ["rooms:read"]));
  });
});

describe("rotating a key", () => {
  test("makes a new one under the same name; the old one works until the grace ends", () =>
    client()
      .when(rotate("key_1", "key_2", DAY))
      .then(rotated("key_1", "key_2", NOW + DAY)));

  test("leaves both in the state, the old one with its end", () =>
    client(rotated("key_1", "key_2", NOW + DAY)).thenState({
      keys: [
        { id: "key_1", endsAt: NOW + DAY },
        { id: "key_2", endsAt: null },
      ],
    }));

  test("without grace ends the old one at once", () =>
    client()
      .when(rotate("key_1", "key_2", 0))
      .then(rotated("key_1", "key_2", NOW)));

  test("that is in its grace never makes that longer", () =>
    client(rotated("key_1", "key_2", NOW + DAY))
      .when(rotate("key_1", "key_3", 7 * DAY))
      .then(rotated("key_1", "key_3", NOW + DAY)));

  test("whose grace has ended is not found", () =>
    client(rotated("key_1", "key_2", NOW + DAY))
      .when(rotate("key_1", "key_3", 0, NOW + DAY))
      .thenRejected("not_found"));

  test("that is not this client's is not found", () =>
    client()
      .when(rotate("key_9", "key_2", 0))
      .thenRejected("not_found"));

  test("keeps its scopes and its expiry", () => {
    const about = { scopes: ["rooms:read" as const], expiresAt: NOW + DAY, name: "another" };
    client(created("key_2", ["rooms:read"], NOW + DAY))
      .when(rotate("key_2", "key_3", 7 * DAY))
      .then(rotated("key_2", "key_3", NOW + DAY, about));
  });

  test("is refused to a key that allows less", () => {
    const granter = new Set<Scope>(["keys:manage", "rooms:read"]);
    client()
      .when(rotate("key_1", "key_2", 0, NOW, granter))
      .thenRejected("insufficient_scope");
    client(created("key_2", ["rooms:read"]))
      .when(rotate("key_2", "key_3", 0, NOW, granter))
      .then(rotated("key_2", "key_3", NOW, { scopes: ["rooms:read"], name: "another" }));
  });

  test("gives a key that carries the time at which it was made", () =>
    given(clientDecider, registered, at(NOW + 9, rotated("key_1", "key_2", NOW + DAY))).thenState({
      keys: [{ createdAt: NOW }, { createdAt: NOW + 9 }],
    }));

  test("before there were scopes gave a key with all of them", () => {
    const data = { old: "key_1", key: { ...keyData("key_2"), name: "default" }, graceUntil: NOW };
    expect(upcast(clientDecider.events.KeyRotated ?? expect.fail(), 1, data)).toEqual({
      ...data,
      key: granted("key_2"),
    });
  });
});

describe("deleting a key", () => {
  test("ends it, once", () => {
    client(created("key_2", ["rooms:read"]))
      .when(revoke("key_2"))
      .then(revoked("key_2"));
    client(created("key_2", ["rooms:read"]), revoked("key_2"))
      .when(revoke("key_2"))
      .thenRejected("not_found");
  });

  test("leaves one that makes others and does not expire", () => {
    const insufficient: ClientEvent[][] = [
      [],
      [created("key_2", ["rooms:read"])],
      [created("key_2", ["keys:manage"], NOW + DAY)],
      [created("key_2", ["keys:manage"]), rotated("key_2", "key_3", NOW + DAY, { scopes: ["rooms:read"] })],
      [created("key_2", ["keys:manage"]), revoked("key_2")],
    ];
    for (const events of insufficient)
      client(...events)
        .when(revoke("key_1"))
        .thenRejected("last_key");
    client(created("key_2", ["keys:manage"]))
      .when(revoke("key_1"))
      .then(revoked("key_1"));
  });
});

test("a use is recorded once an hour", () => {
  const record = (hour: number) => ({ type: "RecordUse", at: NOW, key: "key_1", hour }) as const;
  const used = { type: "KeyUsed", data: { key: "key_1", hour: 7_200_000 } } as const;
  given(keyUseDecider).when(record(7_200_000)).then(used);
  for (const hour of [7_200_000, 3_600_000]) given(keyUseDecider, used).when(record(hour)).thenNothing();
  given(keyUseDecider, used)
    .when(record(10_800_000))
    .then({ ...used, data: { key: "key_1", hour: 10_800_000 } });
});
