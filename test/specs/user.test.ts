// A client's users: their profile, and which of their tokens hold.
import { describe, test } from "vitest";
import { type UserCommand, type UserEvent, userDecider } from "../../src/domain/user.ts";
import { at, given, NOW } from "../support/given.ts";

const ADA = { subject: "sub_ada", user: "ada" } as const;
const NOBODY = { name: null, email: null, timezone: null, meta: {} };
const sealedEmpty = { name: null, email: null, timezone: null, meta: { open: {} } };
const registered = (profile = {}): UserEvent => ({
  type: "UserRegistered",
  data: { subject: "sub_ada", user: { open: "ada" }, ...sealedEmpty, ...profile },
});
const updated = (profile = {}): UserEvent => ({
  type: "UserUpdated",
  data: { subject: "sub_ada", ...sealedEmpty, ...profile },
});
const issued = (generation: number): UserEvent => ({
  type: "TokenIssued",
  data: { jti: "t1", generation, expiresAt: NOW + 60_000 },
});
const revoked = (generation: number): UserEvent => ({
  type: "TokensRevoked",
  data: { subject: "sub_ada", generation },
});

const put = (profile = {}): UserCommand => ({ ...ADA, type: "Put", at: NOW, profile: { ...NOBODY, ...profile } });
const patch = (changes: object): UserCommand => ({
  ...ADA,
  type: "Change",
  at: NOW,
  patch: changes,
});
const ensure: UserCommand = { ...ADA, type: "Ensure", at: NOW };
const issue = (revokePrevious = false): UserCommand => ({
  ...ADA,
  type: "IssueToken",
  at: NOW,
  jti: "t1",
  expiresAt: NOW + 60_000,
  revokePrevious,
});
const revoke: UserCommand = { ...ADA, type: "RevokeTokens", at: NOW };

describe("a profile", () => {
  test("that is put for the first time registers the user", () =>
    given(userDecider)
      .when(put({ name: "Ada" }))
      .then(registered({ name: { open: "Ada" } })));

  test("that is put again is replaced: what is left out is cleared", () =>
    given(userDecider, registered({ name: { open: "Ada" } }))
      .when(put({ email: "ada@example.com" }))
      .then(updated({ email: { open: "ada@example.com" } })));

  test("that is put as it already is changes nothing, in whatever order its meta comes", () =>
    given(userDecider, registered({ meta: { open: { a: 1, b: { c: [], d: 2 } } } }))
      .when(put({ meta: { b: { d: 2, c: [] }, a: 1 } }))
      .thenNothing());

  test("that is patched keeps what the patch does not name", () =>
    given(userDecider, registered({ name: { open: "Ada" } }))
      .when(patch({ timezone: "Europe/London" }))
      .then(updated({ name: { open: "Ada" }, timezone: { open: "Europe/London" } })));

  test("of one who is not known yet is patched from an empty one", () =>
    given(userDecider)
      .when(patch({ name: "Ada" }))
      .then(registered({ name: { open: "Ada" } })));

  test("that was erased is patched as an empty one", () =>
    given(userDecider, registered({ name: { erased: true }, meta: { erased: true } }))
      .when(patch({ email: "new@example.com" }))
      .then(updated({ email: { open: "new@example.com" } })));

  test("carries the time of its last change", () =>
    given(userDecider, registered(), at(NOW + 5, updated({ name: { open: "Ada" } }))).thenState({
      createdAt: NOW,
      updatedAt: NOW + 5,
    }));
});

describe("taking part in something", () => {
  test("registers the user", () => given(userDecider).when(ensure).then(registered()));
  test("changes nothing for one who is registered", () => given(userDecider, registered()).when(ensure).thenNothing());
});

describe("a token", () => {
  test("of a registered user is recorded with the generation in which it holds", () =>
    given(userDecider, registered(), issued(0), revoked(1)).when(issue()).then(issued(1)));

  test("of a new user registers it", () => given(userDecider).when(issue()).then(registered(), issued(0)));

  test("is another each time", () => given(userDecider, registered(), issued(0)).when(issue()).then(issued(0)));

  test("can end those before it", () =>
    given(userDecider, registered(), issued(0)).when(issue(true)).then(revoked(1), issued(1)));

  test("that should end those before it, when there are none, is just issued", () =>
    given(userDecider, registered()).when(issue(true)).then(issued(0)));
});

describe("revoking tokens", () => {
  test("ends all that were issued", () =>
    given(userDecider, registered(), issued(0), issued(0)).when(revoke).then(revoked(1)));

  test("changes nothing when none was issued since", () =>
    given(userDecider, registered(), issued(0), revoked(1)).when(revoke).thenNothing());

  test("changes nothing for one who is not known", () => given(userDecider).when(revoke).thenNothing());

  test("and registering go together in any order: generations only grow", () =>
    given(userDecider, registered(), issued(0), revoked(1), issued(1)).when(revoke).then(revoked(2)));
});
