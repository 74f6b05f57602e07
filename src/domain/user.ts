// domain/user.ts: one of a client's users: profile, and which of its tokens still hold.
import { z } from "zod";
import { type Subject, SubjectSchema } from "../contract/ids.ts";
import { type JsonObject, JsonObjectSchema, sameJson } from "../contract/json.ts";
import type { Instant } from "../contract/time.ts";
import {
  type Decider,
  type EventContext,
  type IfMatch,
  mergeMeta,
  requireMatch,
  requireNew,
  type TimedCommand,
} from "./decider.ts";
import { type EventsOf, event, reveal, type Sealed, seal, sealed, sealOrNull } from "./event.ts";

export const userStream = (subject: Subject) => `user-${subject}`;

const text = sealed(z.string()).nullable();
const profile = { name: text, email: text, timezone: text, meta: sealed(JsonObjectSchema) };
const profileSeals = { name: "subject", email: "subject", timezone: "subject", meta: "subject" };

// Events. A storage format.
export const userEvents = {
  UserRegistered: event({
    data: z.object({ subject: SubjectSchema, user: sealed(z.string()), ...profile }),
    seals: { ...profileSeals, user: "subject" },
  }),
  /** The profile as it is from now on, all of it. */
  UserUpdated: event({ data: z.object({ subject: SubjectSchema, ...profile }), seals: profileSeals }),
  /** Tokens carry the generation in which they were issued. */
  TokenIssued: event({ data: z.object({ jti: z.string(), generation: z.number(), expiresAt: z.number() }) }),
  /** Tokens of an older generation no longer hold. */
  TokensRevoked: event({ data: z.object({ subject: SubjectSchema, generation: z.number() }) }),
} as const;
export type UserEvent = EventsOf<typeof userEvents>;

// State: only what decisions need.
export type Profile = {
  readonly name: Sealed<string> | null;
  readonly email: Sealed<string> | null;
  readonly timezone: Sealed<string> | null;
  readonly meta: Sealed<JsonObject>;
};
/** `issued`: whether any token of this generation was. */
type Tokens = { readonly generation: number; readonly issued: boolean };
export type User =
  | ({ readonly status: "none" } & Tokens)
  | ({
      readonly status: "registered";
      readonly user: Sealed<string>;
      readonly profile: Profile;
      readonly createdAt: Instant;
      readonly updatedAt: Instant;
      /** The seq of the profile's last change: its ETag. */
      readonly profileSeq: number;
    } & Tokens);

function evolve(state: User, event: UserEvent, { seq, at }: EventContext): User {
  switch (event.type) {
    case "UserRegistered": {
      const { user, name, email, timezone, meta } = event.data;
      const times = { createdAt: at, updatedAt: at, profileSeq: seq };
      return {
        status: "registered",
        generation: state.generation,
        issued: state.issued,
        user,
        profile: { name, email, timezone, meta },
        ...times,
      };
    }
    case "UserUpdated": {
      const { name, email, timezone, meta } = event.data;
      return state.status === "none"
        ? state
        : { ...state, profile: { name, email, timezone, meta }, updatedAt: at, profileSeq: seq };
    }
    case "TokenIssued":
      return { ...state, issued: true };
    case "TokensRevoked":
      return { ...state, generation: event.data.generation, issued: false };
  }
}

// Commands, and what each means now.
type Plain = { name: string | null; email: string | null; timezone: string | null; meta: JsonObject };
type ProfilePatch = Partial<Omit<Plain, "meta">> & { readonly meta?: JsonObject | null };
export type UserCommand = TimedCommand & { subject: Subject; user: string } & (
    | { type: "Put"; profile: Plain; ifMatch?: IfMatch; onlyNew?: boolean }
    /** Changes what the patch names, \`meta\` by a merge patch. */
    | { type: "Change"; patch: ProfilePatch; ifMatch?: IfMatch }
    /** The user took part in something: it exists from now on. */
    | { type: "Ensure" }
    | { type: "IssueToken"; jti: string; expiresAt: Instant; revokePrevious: boolean }
    | { type: "RevokeTokens" }
  );

const EMPTY: Plain = { name: null, email: null, timezone: null, meta: {} };
const sealProfile = (plain: Plain): Profile => ({
  name: sealOrNull(plain.name),
  email: sealOrNull(plain.email),
  timezone: sealOrNull(plain.timezone),
  meta: seal(plain.meta),
});
/** The profile in the open; what was erased is absent. */
export const openProfile = ({ name, email, timezone, meta }: Profile): Plain => ({
  name: reveal(name),
  email: reveal(email),
  timezone: reveal(timezone),
  meta: reveal(meta) ?? {},
});

function decide(state: User, command: UserCommand): readonly UserEvent[] {
  const { subject } = command;
  const register = (plain: Plain): readonly UserEvent[] => [
    { type: "UserRegistered", data: { subject, user: seal(command.user), ...sealProfile(plain) } },
  ];
  const ensured = state.status === "none" ? register(EMPTY) : [];
  switch (command.type) {
    case "Ensure":
      return ensured;
    case "Put":
    case "Change": {
      const old = state.status === "none" ? EMPTY : openProfile(state.profile);
      const next = command.type === "Put" ? command.profile : patched(old, command.patch);
      if (command.type === "Put") requireNew(command.onlyNew, state.status !== "none");
      requireMatch(command.ifMatch ?? null, state.status === "none" ? -1 : state.profileSeq);
      if (state.status === "none") return register(next);
      if (sameJson(old, next)) return [];
      return [{ type: "UserUpdated", data: { subject, ...sealProfile(next) } }];
    }
    case "IssueToken": {
      const revokes = command.revokePrevious && state.issued;
      const generation = state.generation + (revokes ? 1 : 0);
      const revoked: UserEvent[] = revokes ? [{ type: "TokensRevoked", data: { subject, generation } }] : [];
      const { jti, expiresAt } = command;
      return [...ensured, ...revoked, { type: "TokenIssued", data: { jti, generation, expiresAt } }];
    }
    case "RevokeTokens":
      return state.issued ? [{ type: "TokensRevoked", data: { subject, generation: state.generation + 1 } }] : [];
  }
}

const patched = (old: Plain, { meta, ...fields }: ProfilePatch): Plain => ({
  ...old,
  ...fields,
  meta: meta === undefined ? old.meta : mergeMeta(old.meta, meta),
});

export const userDecider: Decider<User, UserEvent, UserCommand> = {
  name: "user",
  events: userEvents,
  initial: { status: "none", generation: 0, issued: false },
  evolve,
  decide,
};
