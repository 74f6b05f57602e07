// What a caller's scopes allow: one check, for routes and frames alike.
import type { Scope } from "../contract/fields.ts";
import { AppError } from "./errors.ts";
import type { Caller } from "./services.ts";

/** Throws insufficient_scope, which names the scope, unless the caller has it. Null: none is needed. */
export function requireScope({ kind, scopes }: Caller, scope: Scope | null): void {
  // fence: key-scopes
  if (scope === null || scopes.has(scope)) return;
  const credential = kind === "key" ? "API key" : "user token";
  throw new AppError("insufficient_scope", { detail: `The ${credential} lacks the scope ${scope}.` });
}
