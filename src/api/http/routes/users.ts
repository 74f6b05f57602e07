// Users: their profiles, and the rooms they are in.
import { z } from "zod";
import type { Caller } from "../../../app/authenticate.ts";
import { userOfState, userResource, userRoomResource } from "../../../app/resources.ts";
import type { Services } from "../../../app/services.ts";
import type { FieldFault } from "../../../contract/errors.ts";
import {
  created as createdBetween,
  email,
  input,
  MAX_META_BYTES,
  meta,
  metaTooLarge,
  name,
  orNull,
  paging,
  patched,
  timezone,
  userId,
} from "../../../contract/fields.ts";
import type { Subject } from "../../../contract/ids.ts";
import { isObject, mergePatch } from "../../../contract/json.ts";
import { listBody, UserResource, UserRoomList } from "../../../contract/resources.ts";
import { InvalidInput } from "../../../domain/errors.ts";
import { type openProfile, type User, userDecider, userStream } from "../../../domain/user.ts";
import { omitUndefined } from "../../../platform/omit-undefined.ts";
import { roomsOfUser, unreadTotal } from "../../../projections/models/reads.ts";
import { listUsers as queryUsers, userBySubject } from "../../../projections/models/users.ts";
import { Problem } from "../problems.ts";
import { created, listReply, ok } from "../reply.ts";
import { type Route, route } from "../route.ts";

export const userParams = z.object({ user_id: userId });

/** The user that a path names. To a user's token every other one does not exist. */
export async function subjectOf({ keyring }: Services, caller: Caller, user: string): Promise<Subject> {
  if (caller.kind === "key") return keyring.subjectOfUser(caller.client, user);
  if (caller.userId !== user) throw new Problem("not_found");
  return caller.subject;
}

type PlainProfile = ReturnType<typeof openProfile>;

function registered(state: User): Extract<User, { status: "registered" }> {
  if (state.status === "none") throw new Problem("not_found");
  return state;
}

const putUser = route({
  method: "PUT",
  path: "/users/:user_id",
  summary: "Makes or replaces a user's profile; what is left out is cleared.",
  tag: "users",
  access: { kind: "key", scope: "users:manage" },
  params: userParams,
  body: input({ name: orNull(name), email: orNull(email), timezone: orNull(timezone), meta: meta.default({}) }),
  responses: { 200: UserResource, 201: UserResource },
  problems: [],
  handle: async ({ services, caller, params, body, at, context }) => {
    const subject = await subjectOf(services, caller, params.user_id);
    const command = { type: "Put", at, subject, user: params.user_id, profile: body } as const;
    const outcome = await services.commands.execute(userDecider, userStream(subject), command, context);
    const { position } = outcome;
    const answer = userOfState(params.user_id, registered(outcome.state));
    return outcome.events[0]?.type === "UserRegistered"
      ? created(answer, `/users/${encodeURIComponent(params.user_id)}`, { position })
      : ok(answer, { position });
  },
});

/** A user's mail goes where its client says. */
function emailFaults(caller: Caller, body: unknown): readonly FieldFault[] {
  if (caller.kind === "key" || !isObject(body) || !Object.hasOwn(body, "email")) return [];
  return [{ path: "email", code: "not_allowed", message: "cannot be changed by the user" }];
}

const patchUser = route({
  method: "PATCH",
  path: "/users/:user_id",
  summary: "Changes fields of a user's profile. A user's token changes its own, but never `email`.",
  tag: "users",
  access: { kind: "keyOrUser", scope: "users:manage" },
  params: userParams,
  body: input({ name: patched(name), email: patched(email), timezone: patched(timezone), meta: patched(meta) }),
  faultsFor: emailFaults,
  responses: { 200: UserResource },
  problems: ["not_found"],
  handle: async ({ services, caller, params, body, at, context }) => {
    const subject = await subjectOf(services, caller, params.user_id);
    const stream = userStream(subject);
    registered((await services.commands.load(userDecider, stream)).state);
    const { meta: changes, ...fields } = omitUndefined(body);
    const command = {
      type: "Change",
      at,
      subject,
      user: params.user_id,
      change: (old: PlainProfile) => {
        const next = changes === null ? {} : mergePatch(old.meta, changes ?? {});
        if (metaTooLarge(next)) {
          const message = `must have at most ${MAX_META_BYTES} bytes as JSON`;
          throw new InvalidInput([{ path: "meta", code: "too_long", message }]);
        }
        return { ...old, ...fields, meta: next };
      },
    } as const;
    const outcome = await services.commands.execute(userDecider, stream, command, context);
    return ok(userOfState(params.user_id, registered(outcome.state)), { position: outcome.position });
  },
});

const getUser = route({
  method: "GET",
  path: "/users/:user_id",
  summary: "A user's profile. A user's token reads its own.",
  tag: "users",
  access: { kind: "keyOrUser", scope: "users:manage" },
  params: userParams,
  responses: { 200: UserResource },
  problems: ["not_found"],
  handle: async ({ services, caller, params }) => {
    // From the log: who was just given a token finds itself.
    const stream = userStream(await subjectOf(services, caller, params.user_id));
    const { state } = await services.commands.load(userDecider, stream);
    return ok(userOfState(params.user_id, registered(state)));
  },
});

const listUsers = route({
  method: "GET",
  path: "/users",
  summary: "Lists users, newest first.",
  tag: "users",
  access: { kind: "key", scope: "users:manage" },
  query: input({ ...paging, ...createdBetween }),
  responses: { 200: listBody(UserResource) },
  problems: [],
  handle: async (handling) =>
    listReply(handling, await queryUsers(handling.read, omitUndefined(handling.query)), userResource),
});

const listUserRooms = route({
  method: "GET",
  path: "/users/:user_id/rooms",
  summary: "The rooms a user is in, newest activity first, with what is unread in each.",
  tag: "users",
  access: { kind: "keyOrUser", scope: "rooms:read" },
  params: userParams,
  query: input(paging),
  responses: { 200: UserRoomList },
  problems: ["not_found"],
  handle: async (handling) => {
    const { services, caller, read, params, query } = handling;
    const subject = await subjectOf(services, caller, params.user_id);
    const [user, page, total] = await Promise.all([
      userBySubject(read, subject),
      roomsOfUser(read, subject, omitUndefined(query)),
      unreadTotal(read, subject),
    ]);
    // A token's own user exists, also where its making has not been read yet.
    if (user === undefined && caller.kind === "key") throw new Problem("not_found");
    const reply = listReply(handling, page, userRoomResource);
    return { ...reply, body: { ...reply.body, unread_total: total } };
  },
});

export const userRoutes: readonly Route[] = [putUser, patchUser, getUser, listUsers, listUserRooms];
