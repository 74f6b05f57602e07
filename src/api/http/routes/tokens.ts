// Tokens of users: minting one, revoking all.
import { z } from "zod";
import { MAX_TOKEN_MS } from "../../../app/tokens.ts";
import { input, seconds } from "../../../contract/fields.ts";
import { TokenResource } from "../../../contract/resources.ts";
import { rfc3339, SECOND_MS } from "../../../contract/time.ts";
import { DomainError } from "../../../domain/errors.ts";
import { type UserEvent, userDecider, userStream } from "../../../domain/user.ts";
import { deriveUuid } from "../../../event-store/derived-ids.ts";
import { created, noContent } from "../reply.ts";
import { type Route, route } from "../route.ts";
import { subjectOf, userParams } from "./users.ts";

const MIN_TTL_SECONDS = 60;
const MAX_TTL_SECONDS = MAX_TOKEN_MS / SECOND_MS;
const TTL_SECONDS = 3_600;

type Issued = Extract<UserEvent, { type: "TokenIssued" }>["data"];

function issuedIn(events: readonly UserEvent[]): Issued {
  const issued = events.find((event) => event.type === "TokenIssued");
  if (issued === undefined) throw new DomainError("not_found");
  return issued.data;
}

const mintToken = route({
  method: "POST",
  path: "/users/:user_id/tokens",
  summary: "Mints a token that lets its holder act as the user. A replay mints anew.",
  tag: "users",
  access: { kind: "key", scope: "users:manage" },
  params: userParams,
  body: input({
    ttl_seconds: seconds(MIN_TTL_SECONDS, MAX_TTL_SECONDS).default(TTL_SECONDS),
    revoke_previous: z.boolean().default(false),
  }),
  responses: { 201: TokenResource },
  problems: [],
  handle: async ({ services, caller, params, body, at, context }) => {
    const { commands, tokens } = services;
    const user = params.user_id;
    const subject = await subjectOf(services, caller, user);
    const stream = userStream(subject);
    const expiresAt = at + body.ttl_seconds * SECOND_MS;
    const command = { type: "IssueToken", at, subject, user, expiresAt } as const;
    const jti = deriveUuid("token", context.commandId);
    const asked = { ...command, jti, revokePrevious: body.revoke_previous };
    const outcome = await commands.execute(userDecider, stream, asked, context);
    let issued = issuedIn(outcome.events);
    let { position } = outcome;
    // Tokens may have been revoked since the first answer: then one that holds has to be issued, not said again.
    if (outcome.replayed && issued.generation < (await commands.load(userDecider, stream)).state.generation) {
      const { fingerprint: _none, ...unkeyed } = context;
      const anew = { ...command, jti: services.newId(), revokePrevious: false };
      const fresh = await commands.execute(userDecider, stream, anew, { ...unkeyed, commandId: services.newId() });
      issued = issuedIn(fresh.events);
      position = fresh.position;
    }
    const minted = await tokens.mint({
      client: caller.client,
      subject,
      userId: user,
      generation: issued.generation,
      ttlSeconds: body.ttl_seconds,
      now: at,
      jti: issued.jti,
    });
    const answer = { token: minted.token, expires_at: rfc3339(minted.expiresAt) };
    const location = `/users/${encodeURIComponent(user)}/tokens`;
    return created(answer, location, { position, replayed: outcome.replayed });
  },
});

const revokeTokens = route({
  method: "DELETE",
  path: "/users/:user_id/tokens",
  summary: "Revokes all tokens of the user that were issued so far, within a second on every node.",
  tag: "users",
  access: { kind: "key", scope: "users:manage" },
  params: userParams,
  responses: { 204: null },
  problems: [],
  handle: async ({ services, caller, params, at, context }) => {
    const user = params.user_id;
    const subject = await subjectOf(services, caller, user);
    const command = { type: "RevokeTokens", at, subject, user } as const;
    const { position } = await services.commands.execute(userDecider, userStream(subject), command, context);
    return noContent({ position });
  },
});

export const tokenRoutes: readonly Route[] = [mintToken, revokeTokens];
