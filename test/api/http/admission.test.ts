// What a caller may call, by its kind and its key's scopes.
import { expect, test } from "vitest";
import { checkAccess } from "../../../src/api/http/admission.ts";
import type { Caller } from "../../../src/app/authenticate.ts";
import { ALL_SCOPES } from "../../../src/contract/fields.ts";

const key = (...scopes: string[]): Caller => {
  const held = new Set([...ALL_SCOPES].filter((scope) => scopes.includes(scope)));
  return { kind: "key", client: "cli_1", actor: { type: "key", id: "key_1" }, keyId: "key_1", scopes: held };
};

test("a key without the scope is refused, whatever else it may", () => {
  const access = { kind: "key", scope: "rooms:write" } as const;
  expect(() => checkAccess(access, key("rooms:write"))).not.toThrow();
  for (const caller of [key(), key("rooms:read", "messages:write", "audit:read")]) {
    expect(() => checkAccess(access, caller)).toThrow(expect.objectContaining({ code: "insufficient_scope" }));
    expect(() => checkAccess({ kind: "keyOrUser", scope: "rooms:write" }, caller)).toThrow(
      expect.objectContaining({ code: "insufficient_scope" }),
    );
  }
});

test("a route without a scope is any key's", () => {
  expect(() => checkAccess({ kind: "key", scope: null }, key())).not.toThrow();
});
