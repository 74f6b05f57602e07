// Who may call a route: by key, token, scope, or as one who registers a client.
import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { authenticate, type Caller } from "../../app/authenticate.ts";
import { type Limits, type RateState, rateHeaders } from "../../app/rate-limit.ts";
import type { Services } from "../../app/services.ts";
import type { Config } from "../../config.ts";
import { ALL_SCOPES } from "../../contract/fields.ts";
import type { ClientId } from "../../contract/ids.ts";
import type { Instant } from "../../contract/time.ts";
import type { Actor } from "../../domain/decider.ts";
import { deriveTail } from "../../event-store/derive.ts";
import type { ClientAddress } from "./address.ts";
import { credential } from "./headers.ts";
import { Problem } from "./problems.ts";
import type { Access } from "./route.ts";

/** Who registers: the operator under its key, or anybody where that is open. */
export type Registrant = "operator" | "anybody";

export type Admission = {
  /** The caller of an ordinary route. Throws Problem (401, 429, 503). */
  caller(request: IncomingMessage, at: Instant): Promise<Caller>;
  /** Who wants to register. Throws Problem (401, 429). */
  registrant(request: IncomingMessage, at: Instant): Registrant;
  /** Counts a registration; the headers that say how many are left. Throws Problem (429). */
  countRegistration(request: IncomingMessage, at: Instant): Readonly<Record<string, string>>;
  /** Whether the operator's key was sent, or the one for metrics. */
  isOperator(request: IncomingMessage): boolean;
};

type Parts = Pick<Services, "config" | "directory" | "tokens">;

export function createAdmission(services: Parts, limits: Limits, address: ClientAddress): Admission {
  const { config } = services;
  const open = config.development || config.openRegistration;
  const exempt = (request: IncomingMessage) => config.development && address.isLoopback(request);

  function failed(request: IncomingMessage, at: Instant, problem: Problem): never {
    if (exempt(request)) throw problem;
    const state = limits.authentications.take(address.group(request), at);
    // fence: rate-authentications
    throw state.allowed ? problem : tooMany("authentications", state);
  }

  return {
    async caller(request, at) {
      const result = await authenticate(services, { bearer: credential(request) }, at);
      if (!("refused" in result)) return result;
      if (result.refused === "unavailable") throw new Problem("unavailable");
      return failed(request, at, new Problem(result.refused));
    },
    registrant(request, at) {
      if (isSecret(credential(request), config.adminKey)) return "operator";
      if (open) return "anybody";
      const detail = "Registering a client needs the ADMIN_KEY as bearer.";
      return failed(request, at, new Problem("unauthenticated", { detail }));
    },
    countRegistration(request, at) {
      if (exempt(request)) return {};
      const state = limits.registrations.take(address.group(request), at);
      // fence: rate-registrations
      if (!state.allowed) throw tooMany("registrations", state);
      return rateHeaders("registrations", state);
    },
    isOperator: operatorCheck(config),
  };
}

/** Whether a request carries the operator's key, or the one for metrics. */
export const operatorCheck =
  (config: Pick<Config, "adminKey" | "metricsToken">): Admission["isOperator"] =>
  (request) => {
    const given = credential(request);
    return isSecret(given, config.adminKey) || isSecret(given, config.metricsToken);
  };

/** The refusal of who does something too often. */
export const tooMany = (policy: string, state: RateState): Problem =>
  new Problem("rate_limited", { headers: rateHeaders(policy, state) });

/** Compares in a time that says nothing about the secret. */
function isSecret(given: string | undefined, secret: string | undefined): boolean {
  if (given === undefined || secret === undefined) return false;
  return timingSafeEqual(digest(given), digest(secret));
}
const digest = (text: string) => createHash("sha256").update(text).digest();

/** Throws Problem (403) unless the route is for this kind of caller and its key has the scope. */
export function checkAccess(access: Access, caller: Caller): void {
  if (access.kind === "registration") return;
  if (caller.kind === "user") {
    // fence: user-token-routes
    if (access.kind === "key") throw new Problem("forbidden", { detail: "This needs a client key, not a user token." });
    return;
  }
  // fence: key-scopes
  if (access.scope === null || caller.scopes.has(access.scope)) return;
  throw new Problem("insufficient_scope", { detail: `The API key lacks the scope ${access.scope}.` });
}

/** The client that a registration makes, as the caller of its own making: ids follow from the command's. */
export function newClient(commandId: string): Caller & { readonly kind: "key" } {
  const client: ClientId = `cli_${deriveTail("client", commandId)}`;
  const keyId = `key_${deriveTail("key", commandId)}` as const;
  return { kind: "key", client, actor: { type: "key", id: keyId }, keyId, scopes: ALL_SCOPES };
}

/** Whom the events of a request name as their cause. */
export function actorOf(caller: Caller, registrant: Registrant | undefined): Actor {
  if (registrant === "operator") return { type: "operator", id: "admin" };
  if (registrant === "anybody") return { type: "system", id: "registration" };
  return caller.actor;
}
