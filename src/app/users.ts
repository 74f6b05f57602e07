// Users of a client: their profiles, their tokens, and the rooms they are in.

import type { PageQuery } from "../contract/fields.ts";
import type { Subject } from "../contract/ids.ts";
import type { Preferences, PreferencesResource } from "../contract/preferences.ts";
import { rfc3339, SECOND_MS } from "../contract/time.ts";
import type {
  NewToken,
  PresenceResource,
  TokenResource,
  UserPatch,
  UserProfile,
  UserQuery,
  UserResource,
  UserRoomResource,
} from "../contract/users.ts";
import { type Bare, DomainError, type IfMatch } from "../domain/decider.ts";
import { type Choices, preferencesDecider, preferencesStream, type UserPreferences } from "../domain/preferences.ts";
import { WEEKDAYS } from "../domain/quiet-hours.ts";
import { type User, type UserCommand, type UserEvent, userDecider, userStream } from "../domain/user.ts";
import { deriveUuid } from "../event-store/derived-ids.ts";
import { type CommandContext, unkeyed } from "../event-store/envelope.ts";
import type { Position } from "../event-store/event-store.ts";
import { omitUndefined } from "../platform/omit-undefined.ts";
import { roomsOfUser } from "../projections/models/reads.ts";
import { listUsers as queryUsers, userBySubject } from "../projections/models/users.ts";
import type { Page } from "../projections/page.ts";
import { withText } from "./growing-messages.ts";
import { userOfRow, userOfState, userRoomResource } from "./resources.ts";
import type { Call, Written } from "./services.ts";

/** The user that a caller names. To a user's token every other one does not exist. Throws not_found. */
export async function subjectOf({ services, caller }: Call, user: string): Promise<Subject> {
  if (caller.kind === "key") return services.keyring.subjectOfUser(caller.client, user);
  if (caller.userId !== user) throw new DomainError("not_found");
  return caller.subject;
}

/** Whether a user is online. Throws not_found. */
export async function getPresence(call: Call, user: string): Promise<PresenceResource> {
  const subject = await subjectOf(call, user);
  await getUser(call, user);
  return call.services.presence.of(subject, user);
}

type UserChange = Bare<UserCommand, "at" | "subject" | "user">;

async function execute(call: Call, user: string, change: UserChange, context: CommandContext = call.context) {
  const subject = await subjectOf(call, user);
  const command: UserCommand = { ...change, at: call.at, subject, user };
  return { subject, ...(await call.services.commands.execute(userDecider, userStream(subject), command, context)) };
}

function shown(id: string, state: User): { readonly user: UserResource; readonly etag: number } {
  if (state.status === "none") throw new DomainError("not_found");
  return { user: userOfState(id, state), etag: state.profileSeq };
}

/** Makes or replaces a profile. `created`: the user is new. */
export async function putUser(
  call: Call,
  id: string,
  profile: UserProfile,
  { ifMatch, onlyNew }: { readonly ifMatch: IfMatch; readonly onlyNew: boolean },
) {
  const { state, events, position } = await execute(call, id, { type: "Put", profile, ifMatch, onlyNew });
  return { ...shown(id, state), created: events[0]?.type === "UserRegistered", position };
}

/** Throws not_found, InvalidInput. */
export async function changeUser(call: Call, id: string, patch: UserPatch, ifMatch: IfMatch) {
  await getUser(call, id);
  const { state, position } = await execute(call, id, { type: "Change", patch: omitUndefined(patch), ifMatch });
  return { ...shown(id, state), position };
}

/** From the log: who was just given a token finds itself. Throws not_found. */
export async function getUser(call: Call, id: string) {
  const { state } = await call.services.commands.load(userDecider, userStream(await subjectOf(call, id)));
  return shown(id, state);
}

/** Newest first. Throws InvalidCursor. */
export async function listUsers({ read }: Call, query: UserQuery): Promise<Page<UserResource>> {
  const { rows, next } = await queryUsers(read, omitUndefined(query));
  return { rows: rows.map(userOfRow), next };
}

/** The rooms that a user is in, newest activity first, and what is unread in all of them. Throws not_found, InvalidCursor. */
export async function listUserRooms(
  call: Call,
  id: string,
  query: PageQuery,
): Promise<Page<UserRoomResource> & { readonly unreadTotal: number }> {
  const { read, caller } = call;
  const subject = await subjectOf(call, id);
  const [user, page] = await Promise.all([
    userBySubject(read, subject),
    roomsOfUser(read, subject, omitUndefined(query)),
  ]);
  // A token's own user exists, also when the read model does not have it yet.
  if (user === undefined && caller.kind === "key") throw new DomainError("not_found");
  const rows = await Promise.all(
    page.rows.map(userRoomResource).map(async ({ last_message: last, ...room }) => ({
      ...room,
      last_message: last === null ? null : await withText(call.services, last),
    })),
  );
  return { rows, next: page.next, unreadTotal: page.unreadTotal };
}

/** Mints a token with which its holder acts as the user. A replay mints anew. */
export async function mintToken(
  call: Call,
  user: string,
  { ttl_seconds: ttlSeconds, revoke_previous: revokePrevious }: NewToken,
): Promise<Written & { readonly token: TokenResource }> {
  const { services, caller, at, context } = call;
  const expiresAt = at + ttlSeconds * SECOND_MS;
  const issue = { type: "IssueToken", expiresAt, revokePrevious } as const;
  let outcome = await execute(call, user, { ...issue, jti: deriveUuid("token", context.commandId) });
  const { replayed } = outcome;
  let { jti, generation } = issuedIn(outcome.events);
  // Tokens may have been revoked since the first answer: then one that holds has to be issued, not the same again.
  if (
    replayed &&
    generation < (await services.commands.load(userDecider, userStream(outcome.subject))).state.generation
  ) {
    const anew = { ...issue, revokePrevious: false, jti: services.newId() };
    outcome = await execute(call, user, anew, { ...unkeyed(context), commandId: services.newId() });
    ({ jti, generation } = issuedIn(outcome.events));
  }
  const about = { client: caller.client, userId: user, generation, scopes: caller.scopes, ttlSeconds, now: at, jti };
  const minted = await services.tokens.mint(about);
  return {
    token: { token: minted.token, expires_at: rfc3339(minted.expiresAt) },
    position: outcome.position,
    replayed,
  };
}

function issuedIn(events: readonly UserEvent[]) {
  const issued = events.find((event) => event.type === "TokenIssued");
  if (issued === undefined) throw new DomainError("not_found");
  return issued.data;
}

/** Revokes all tokens that were issued so far, within a second on every node. */
export async function revokeTokens(call: Call, user: string): Promise<{ readonly position: Position }> {
  return execute(call, user, { type: "RevokeTokens" });
}

// Preferences: what a user wants to receive, read and written by its client or by the user itself.

type ShownPreferences = { readonly preferences: PreferencesResource; readonly etag: number };

/** From the log; of a user who never chose, without any choice. Throws not_found. */
export async function getPreferences(call: Call, userId: string): Promise<ShownPreferences> {
  const { commands } = call.services;
  const subject = await subjectOf(call, userId);
  const [{ state }, user] = await Promise.all([
    commands.load(preferencesDecider, preferencesStream(subject)),
    commands.load(userDecider, userStream(subject)),
  ]);
  if (user.state.status === "none") throw new DomainError("not_found");
  return shownPreferences(state);
}

/** Replaces a user's choices; the user exists from then on. Throws not_found, precondition_failed. */
export async function putPreferences(
  call: Call,
  userId: string,
  wanted: Preferences,
  { ifMatch, onlyNew }: { readonly ifMatch: IfMatch; readonly onlyNew: boolean },
): Promise<ShownPreferences & { readonly position: Position }> {
  const { services, at, context } = call;
  const subject = await subjectOf(call, userId);
  const command = { type: "Put", at, subject, choices: choicesIn(wanted), ifMatch, onlyNew } as const;
  const stream = preferencesStream(subject);
  const { state, position } = await services.commands.execute(preferencesDecider, stream, command, context);
  return { ...shownPreferences(state), position: await services.people.ensure(call, [{ subject, userId }], position) };
}

/** Categories by name, so that the same choices are the same whatever their order. */
function choicesIn({ categories, quiet_hours: quiet }: Preferences): Choices {
  const named = Object.entries(categories).map(([name, { email, websocket }]) => ({ name, email, websocket }));
  return {
    categories: named.toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    quietHours:
      quiet === null
        ? null
        : {
            ...{ from: quiet.from, to: quiet.to, timezone: quiet.timezone },
            days: WEEKDAYS.filter((day) => quiet.days === null || quiet.days.includes(day)),
          },
  };
}

const shownPreferences = ({ choices: { categories, quietHours }, seq }: UserPreferences): ShownPreferences => ({
  preferences: {
    categories: Object.fromEntries(categories.map(({ name, email, websocket }) => [name, { email, websocket }])),
    quiet_hours: quietHours,
  },
  etag: seq,
});
