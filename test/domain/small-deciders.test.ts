// Clients, users, read markers and claims: whatever is asked of them, what they promise holds.

import { expect, test } from "vitest";
import { ALL_SCOPES } from "../../src/contract/fields.ts";
import type { KeyId, RoomId, Subject } from "../../src/contract/ids.ts";
import type { JsonObject } from "../../src/contract/json.ts";
import { type ClaimCommand, type ClaimEvent, claimDecider } from "../../src/domain/claim.ts";
import { type ClientCommand, type ClientEvent, clientDecider } from "../../src/domain/client.ts";
import { scopesOf } from "../../src/domain/client-keys.ts";
import { NO_OPTIONS } from "../../src/domain/provider.ts";
import { type ReadsCommand, type ReadsEvent, readsDecider } from "../../src/domain/reads.ts";
import { type UserCommand, type UserEvent, userDecider } from "../../src/domain/user.ts";
import { pause, person } from "../support/arbitraries.ts";
import fc from "../support/seed.ts";
import { holds, type Recorded, type Step } from "./simulation.ts";

const list = <E, C>(step: fc.Arbitrary<Step<E, C>>) => fc.array(step, { maxLength: 60, size: "max" });

const NEVER = Number.POSITIVE_INFINITY;

/** When the log says that a key ends. */
const endOf = (key: KeyId, log: readonly Recorded<ClientEvent>[]): number =>
  Math.min(
    NEVER,
    ...log.flatMap(({ event }) =>
      event.type === "KeyRotated" && event.data.old === key ? [event.data.graceUntil] : [],
    ),
    ...log.flatMap(({ event, context: { at } }) => {
      if (event.type === "KeyRevoked") return event.data.key === key ? [at] : [];
      const made = event.type === "KeyCreated" || event.type === "KeyRotated" ? event.data.key : null;
      return made?.id === key && made.expiresAt !== null ? [made.expiresAt] : [];
    }),
  );

test("a client keeps its promises", () => {
  const key = (id: KeyId) => ({ id, hash: `hash of ${id}`, last4: "abcd" });
  const step: fc.Arbitrary<Step<ClientEvent, ClientCommand>> = fc
    .record({
      pause: pause(),
      type: fc.constantFrom<ClientCommand["type"]>(
        ...(["Register", "Update", "RotateKey", "CreateKey", "RevokeKey", "RotateWebhookSecret"] as const),
        ...(["SetProvider", "SetProvider", "SetProvider", "RemoveProvider"] as const),
        ...(["MarkProviderDown", "MarkProviderUp"] as const),
      ),
      name: fc.constantFrom("one", "two"),
      pick: fc.nat({ max: 30 }),
      graceMs: fc.constantFrom(0, 3_000, 60_000),
    })
    .map(({ pause, type, name, pick, graceMs }) => ({
      pause,
      command: (at, log): ClientCommand => {
        const keys = log.flatMap(({ event }) =>
          event.type === "ClientRegistered" || event.type === "KeyCreated" || event.type === "KeyRotated"
            ? [event.data.key.id]
            : [],
        );
        const named = keys[pick % (keys.length + 1)] ?? "key_x";
        const about = { at, name, client: "cli_a" } as const;
        const provider = `p${pick}`;
        switch (type) {
          case "Register":
            return { ...about, type, description: null, key: { ...key("key_0"), name }, webhookSecret: "s" };
          case "Update":
            return { at, type, changes: { name } };
          case "RotateKey":
            return { at, type, old: named, key: key(`key_${log.length}`), graceMs, granter: ALL_SCOPES };
          case "CreateKey": {
            const scopes = pick % 2 === 0 ? (["keys:manage"] as const) : (["rooms:read"] as const);
            const expiresAt = graceMs === 60_000 ? at + graceMs : null;
            const made = { ...key(`key_${log.length}`), name };
            return { at, type, key: made, scopes, expiresAt, granter: ALL_SCOPES };
          }
          case "RevokeKey":
            return { at, type, key: named };
          case "RotateWebhookSecret":
            return { at, type, secret: `s${pick}`, graceMs };
          case "RemoveProvider":
            return { at, type, name: provider };
          case "MarkProviderDown":
          case "MarkProviderUp": {
            const error = { code: "auth_failed", message: "no" };
            const set = log.findLastIndex(({ event }) => event.type === "ProviderSet" && event.data.name === provider);
            return { at, type, name: provider, changedSeq: set + 1, fault: "account", error };
          }
          case "SetProvider": {
            const config = {
              host: name,
              port: 25,
              username: null,
              password: null,
              security: "none" as const,
              dkim: null,
            };
            const options = NO_OPTIONS;
            const from = {
              fromDomains: [],
              fromEmail: "a@example.com",
              fromName: null,
              replyTo: null,
              useFor: [],
              order: 0,
              options,
            };
            return { at, type, provider: { ...from, client: "cli_a", name: provider, type: "smtp", config } };
          }
          default:
            throw new Error(`no step is a ${type}`);
        }
      },
    }));
  let most = 0;
  // Keys and secrets turn each time they are told to.
  holds(
    clientDecider,
    list(step),
    ["RotateKey", "CreateKey", "RotateWebhookSecret"],
    ({ command, before, after, log }) => {
      if (after.status === "none") return expect(log).toEqual([]);
      expect(log[0]?.event.type).toBe("ClientRegistered");
      most = Math.max(most, after.providers.length);
      expect(after.providers.length).toBeLessThanOrEqual(20);
      expect(new Set(after.providers.map((one) => one.name)).size).toBe(after.providers.length);
      expect(new Set(after.keys.map((one) => one.id)).size).toBe(after.keys.length);
      // A client always has a key that makes others and does not end, no key's end ever moves away, and only what has ended is forgotten.
      expect(after.keys.some((one) => one.endsAt === null && scopesOf(one).has("keys:manage"))).toBe(true);
      for (const old of before.status === "none" ? [] : before.keys) {
        const now = after.keys.find((one) => one.id === old.id);
        if (now === undefined) expect(endOf(old.id, log)).toBeLessThanOrEqual(command.at);
        else expect(now.endsAt ?? NEVER).toBeLessThanOrEqual(old.endsAt ?? NEVER);
      }
    },
  );
  expect(most).toBeGreaterThan(3);
});

test("a user keeps its promises", () => {
  const about = { subject: "sub_a", user: "ada" } as const;
  const name = fc.constantFrom(null, "Ada", "Bob");
  const meta = fc.constantFrom<JsonObject>({}, { a: 1 }, { a: 1, b: [2] });
  const step: fc.Arbitrary<Step<UserEvent, UserCommand>> = fc
    .record({
      pause: pause(),
      type: fc.constantFrom<UserCommand["type"]>("Put", "Change", "Ensure", "IssueToken", "RevokeTokens"),
      name,
      meta,
      revokePrevious: fc.boolean(),
    })
    .map(({ pause, type, name, meta, revokePrevious }) => ({
      pause,
      command: (at, log): UserCommand => {
        if (type === "Put") return { ...about, at, type, profile: { name, email: null, timezone: null, meta } };
        if (type === "Change") return { ...about, at, type, patch: { meta } };
        if (type !== "IssueToken") return { ...about, at, type };
        return { ...about, at, type, jti: `t${log.length}`, expiresAt: at + 60_000, revokePrevious };
      },
    }));
  // A token is another each time.
  holds(userDecider, list(step), ["IssueToken"], ({ before, after, log }) => {
    if (after.status === "none") return expect(log).toEqual([]);
    expect(log.filter(({ event }) => event.type === "UserRegistered")).toHaveLength(1);
    expect(log[0]?.event.type).toBe("UserRegistered");
    expect(after.generation).toBeGreaterThanOrEqual(before.generation);
    let generation = 0;
    for (const { event } of log) {
      // Revoking ends every token before it and none after it.
      if (event.type === "TokensRevoked") expect(event.data.generation).toBe(++generation);
      if (event.type === "TokenIssued") expect(event.data.generation).toBe(generation);
    }
    expect(after.generation).toBe(generation);
  });
});

test("read markers keep their promises", () => {
  const step: fc.Arbitrary<Step<ReadsEvent, ReadsCommand>> = fc
    .record({
      pause: pause(),
      subject: person(),
      seq: fc.nat({ max: 50 }),
      floor: fc.nat({ max: 20 }),
      type: fc.constantFrom("MarkRead", "MarkUnread", "MarkDelivered"),
    })
    .map(({ pause, subject, seq, floor, type }) => ({
      pause,
      command: (at): ReadsCommand => {
        const about = { at, subject, user: "someone", seq };
        if (type === "MarkDelivered") return { ...about, type, floor };
        if (type === "MarkUnread") return { ...about, type, readSeq: -1, head: 50 };
        return { ...about, type: "MarkRead", floor: { seq: floor, base: 0 } };
      },
    }));
  holds(readsDecider, list(step), [], ({ before, after, events, command }) => {
    const of = (state: typeof after, subject: Subject) => state.get(subject) ?? { read: 0, base: 0, delivered: 0 };
    for (const subject of after.keys()) {
      const [then, now] = [of(before, subject), of(after, subject)];
      expect(now.delivered).toBeGreaterThanOrEqual(Math.max(then.delivered, now.read));
      if (command.type !== "MarkUnread") expect(now.read).toBeGreaterThanOrEqual(then.read);
      if (subject !== command.subject) expect(now).toEqual(then);
    }
    const { read, base, delivered } = of(after, command.subject);
    if (command.type === "MarkUnread") expect([read, base]).toEqual([command.seq, 50]);
    else if (command.type === "MarkDelivered")
      expect(Math.max(delivered, command.floor)).toBeGreaterThanOrEqual(command.seq);
    else if (base === 0) {
      expect(Math.max(read, command.floor.seq)).toBeGreaterThanOrEqual(command.seq);
      if (events.length > 0) expect(command.seq).toBeGreaterThan(command.floor.seq);
    }
  });
});

test("a claim keeps its promises", () => {
  const room = fc.constantFrom<RoomId>("room_a", "room_b", "room_c");
  const step: fc.Arbitrary<Step<ClaimEvent, ClaimCommand>> = fc
    .record({ pause: pause(), room, abandoned: fc.option(room) })
    .map(({ pause, room, abandoned }) => ({ pause, command: (at) => ({ type: "Claim", at, room, abandoned }) }));
  holds(claimDecider, list(step), [], ({ before, after, command }) => {
    // Who holds it keeps it, unless it was seen to be abandoned.
    if (after.room === before.room) return;
    expect(after.room).toBe(command.room);
    expect([null, command.abandoned]).toContain(before.room);
  });
});
