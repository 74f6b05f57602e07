// Who calls, and whether they may: by key, token, scope, or as somebody who registers a client.
import type { IncomingMessage } from "node:http";
import { identify, redeemTicket, requireScope } from "../../app/authenticate.ts";
import { type Limits, type RateState, rateHeaders } from "../../app/rate-limit.ts";
import type { Caller, Services } from "../../app/services.ts";
import type { Config } from "../../config.ts";
import { ALL_SCOPES } from "../../contract/fields.ts";
import type { Actor } from "../../domain/decider.ts";
import { deriveTail } from "../../event-store/derived-ids.ts";
import type { CommandContext } from "../../event-store/envelope.ts";
import { isSameSecret } from "../../platform/secrets.ts";
import { clientAddress } from "./address.ts";
import { ownOriginCheck } from "./origin.ts";
import { Problem } from "./problems.ts";
import type { Access, ApiContext, ApiMiddleware, ApiState } from "./route.ts";

const BEARER = /^bearer +(\S+) *$/i;

/** The key or token of a request: `Authorization: Bearer`, else `X-API-Key`. */
export function credential({ headers }: IncomingMessage): string | undefined {
  const match = BEARER.exec(headers.authorization ?? "");
  if (match !== null) return match[1];
  const key = headers["x-api-key"];
  return typeof key === "string" && key !== "" ? key.trim() : undefined;
}

/**
 * Tells whether a request may see what is the operator's: in development mode any, else with the operator's key or the one
 * for metrics. A wrong one counts as a failed authentication: throws Problem (429) after too many.
 */
export function operatorCheck(config: Config, limits: Limits): (request: IncomingMessage) => Promise<boolean> {
  const address = clientAddress(config);
  return async (request) => {
    if (config.development) return true;
    const given = credential(request);
    if (isSecret(given, config.adminKey) || isSecret(given, config.metricsToken)) return true;
    // fence: operator-keys
    const state = given === undefined ? undefined : await limits.authentications.take(address.group(request));
    if (state?.allowed === false) throw tooMany("authentications", state);
    return false;
  };
}

function isSecret(given: string | undefined, secret: string | undefined): boolean {
  return given !== undefined && secret !== undefined && isSameSecret(given, secret);
}

const UNAUTHENTICATED = { refused: "unauthenticated" } as const;

/** The refusal of somebody who does something too often. */
export const tooMany = (policy: string, state: RateState): Problem =>
  new Problem("rate_limited", { headers: rateHeaders(policy, state) });

/** Whether a request asks for a stream of events; a HEAD has no use for one. */
export const wantsStream = (ctx: ApiContext): boolean =>
  ctx.method === "GET" && ctx.accepts("application/json", "text/event-stream") === "text/event-stream";

/** The middleware that say who calls. Failed attempts and registrations are limited by address. */
type Authentication = {
  /** Of a route with a stream, before `authenticate`: takes a ticket where there is no other credential. */
  readonly takeTicket: ApiMiddleware;
  /** Sets `at`, `identity` and `caller`. Throws Problem (401, 429, 503). */
  readonly authenticate: ApiMiddleware;
  /** Sets `at` and `registration`. Throws Problem (401, 429). */
  readonly authenticateRegistration: ApiMiddleware;
  /** Throws Problem (403, 429) unless this page and this address may register a client now. */
  readonly authorizeRegistration: ApiMiddleware;
};

export function createAuthentication(services: Services): Authentication {
  const { config, limits } = services;
  const address = clientAddress(config);
  const isOwnOrigin = ownOriginCheck(config);
  const isExempt = (request: IncomingMessage) => config.development && address.isLoopback(request);

  /** Counts a failed attempt, and answers it with this problem unless there were too many. */
  async function fail(request: IncomingMessage, problem: Problem): Promise<never> {
    if (isExempt(request)) throw problem;
    const state = await limits.authentications.take(address.group(request));
    // fence: rate-authentications
    throw state.allowed ? problem : tooMany("authentications", state);
  }

  return {
    async takeTicket(ctx, next) {
      const { ticket } = ctx.query;
      // fence: ticket-streams
      if (typeof ticket === "string" && credential(ctx.req) === undefined && wantsStream(ctx)) {
        ctx.state.redeemed = await redeemTicket(services, { ticket }, services.now());
      }
      return next();
    },
    async authenticate({ req, state }, next) {
      state.at = services.now();
      const bearer = credential(req);
      const given = state.redeemed ?? (bearer === undefined ? undefined : { bearer, userId: undefined });
      const found = given === undefined ? UNAUTHENTICATED : await identify(services, given, state.at);
      if ("refused" in found) {
        if (found.refused === "unavailable") throw new Problem("unavailable");
        return fail(req, new Problem(found.refused));
      }
      state.identity = found;
      state.caller = found.caller;
      return next();
    },
    async authenticateRegistration({ req, state }, next) {
      state.at = services.now();
      if (isSecret(credential(req), config.adminKey)) state.registration = "admin-key";
      else if (config.development || config.openRegistration) state.registration = "none";
      else {
        const detail = "Registering a client needs the ADMIN_KEY as bearer.";
        return fail(req, new Problem("unauthenticated", { detail }));
      }
      return next();
    },
    async authorizeRegistration(ctx, next) {
      const { origin, host } = ctx.req.headers;
      // fence: registration-origin
      if (origin !== undefined && !isOwnOrigin(origin, host)) {
        throw new Problem("forbidden", { detail: "A page of another origin cannot register a client." });
      }
      if (ctx.state.registration === "admin-key" || isExempt(ctx.req)) return next();
      const state = await limits.registrations.take(address.group(ctx.req));
      // fence: rate-registrations
      if (!state.allowed) throw tooMany("registrations", state);
      await next();
      ctx.set(rateHeaders("registrations", state));
    },
  };
}

/** Throws AppError (403) unless a route with this access lets in this kind of caller, and it has the scope. */
export function authorize(access: Exclude<Access, { kind: "registration" }>): ApiMiddleware {
  const check = (caller: Caller) => {
    // fence: user-token-routes
    if (caller.kind === "user" && access.kind === "key") {
      throw new Problem("forbidden", { detail: "This needs a client key, not a user token." });
    }
    requireScope(caller, access.scope);
  };
  return ({ state }, next) => {
    check(state.caller);
    return next();
  };
}

/** The client that a registration makes, as the caller of its own making: ids follow from the command's. */
export function newClient(commandId: string): Caller {
  const keyId = `key_${deriveTail("key", commandId)}` as const;
  const client = `cli_${deriveTail("client", commandId)}` as const;
  return { kind: "key", client, actor: { type: "key", id: keyId }, keyId, scopes: ALL_SCOPES, expiresAt: null };
}

/** Whom and what the events of a request name as their cause. */
export function commandContext({ id, caller, registration, commandId, fingerprint, stages }: ApiState): CommandContext {
  const context = {
    client: caller.client,
    actor: actorOf(caller, registration),
    commandId,
    correlation: id,
    causation: commandId,
    ...(stages === undefined ? {} : { stages }),
  };
  return fingerprint === undefined ? context : { ...context, fingerprint };
}

function actorOf(caller: Caller, registration: ApiState["registration"]): Actor {
  if (registration === "admin-key") return { type: "operator", id: "admin" };
  if (registration === "none") return { type: "system", id: "registration" };
  return caller.actor;
}
