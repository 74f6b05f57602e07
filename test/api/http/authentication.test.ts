// What a caller may call, by its kind and its key's scopes.
import { expect, test } from "vitest";
import { authorize } from "../../../src/api/http/authentication.ts";
import type { Access, ApiContext } from "../../../src/api/http/route.ts";
import type { Caller } from "../../../src/app/services.ts";
import { ALL_SCOPES } from "../../../src/contract/fields.ts";

const key = (...scopes: string[]): Caller => {
  const held = new Set([...ALL_SCOPES].filter((scope) => scopes.includes(scope)));
  return {
    kind: "key",
    client: "cli_1",
    actor: { type: "key", id: "key_1" },
    keyId: "key_1",
    scopes: held,
    expiresAt: null,
  };
};
const call = (access: Exclude<Access, { kind: "registration" }>, caller: Caller) =>
  authorize(access)({ state: { caller } } as ApiContext, async () => "let in");

test("a key without the scope is refused, whatever other scopes it has", async () => {
  const access = { kind: "key", scope: "rooms:write" } as const;
  expect(await call(access, key("rooms:write"))).toBe("let in");
  for (const caller of [key(), key("rooms:read", "messages:write", "audit:read")]) {
    const refused = expect.objectContaining({ code: "insufficient_scope" });
    expect(() => call(access, caller)).toThrow(refused);
    expect(() => call({ kind: "keyOrUser", scope: "rooms:write" }, caller)).toThrow(refused);
  }
});

test("a route without a scope is open to any key", async () => {
  expect(await call({ kind: "key", scope: null }, key())).toBe("let in");
});
