// Users, their tokens, and the rooms they are in.
import type { Caller } from "../../../app/services.ts";
import { changeUser, getUser, listUserRooms, listUsers, mintToken, putUser, revokeTokens } from "../../../app/users.ts";
import type { FieldFault } from "../../../contract/errors.ts";
import { isObject } from "../../../contract/json.ts";
import { NewToken, PageQuery, UserParams, UserPatch, UserProfile, UserQuery } from "../../../contract/requests.ts";
import { listBody, TokenResource, UserResource, UserRoomList } from "../../../contract/resources.ts";
import { created, listReply, noContent, ok } from "../reply.ts";
import { type Route, route } from "../route.ts";

const tag = "users";
const params = UserParams;
const manage = { kind: "key", scope: "users:manage" } as const;

const put = route({
  method: "PUT",
  path: "/users/:user_id",
  summary: "Create a user or replace its profile; what is left out is cleared",
  tag,
  access: manage,
  params,
  body: UserProfile,
  responses: { 200: UserResource, 201: UserResource },
  problems: [],
  handle: async (call) => {
    const { user, created: isNew, position } = await putUser(call, call.params.user_id, call.body);
    const path = `/users/${encodeURIComponent(call.params.user_id)}`;
    return isNew ? created(user, path, { position }) : ok(user, { position });
  },
});

/** A user's mail goes where its client says. */
function emailFaults(caller: Caller, body: unknown): readonly FieldFault[] {
  if (caller.kind === "key" || !isObject(body) || !Object.hasOwn(body, "email")) return [];
  return [{ path: "email", code: "not_allowed", message: "cannot be changed by the user" }];
}

const patch = route({
  method: "PATCH",
  path: "/users/:user_id",
  summary: "Change a user's profile; a user's token changes its own, but never `email`",
  tag,
  access: { kind: "keyOrUser", scope: "users:manage" },
  params,
  body: UserPatch,
  faultsFor: emailFaults,
  responses: { 200: UserResource },
  problems: ["not_found"],
  handle: async (call) => {
    const { user, position } = await changeUser(call, call.params.user_id, call.body);
    return ok(user, { position });
  },
});

const get = route({
  method: "GET",
  path: "/users/:user_id",
  summary: "Read a user's profile; a user's token reads its own",
  tag,
  access: { kind: "keyOrUser", scope: "users:manage" },
  params,
  responses: { 200: UserResource },
  problems: ["not_found"],
  handle: async (call) => ok(await getUser(call, call.params.user_id)),
});

const list = route({
  method: "GET",
  path: "/users",
  summary: "List users, newest first",
  tag,
  access: manage,
  query: UserQuery,
  responses: { 200: listBody(UserResource) },
  problems: [],
  handle: async (call) => listReply(call, await listUsers(call, call.query)),
});

const listRooms = route({
  method: "GET",
  path: "/users/:user_id/rooms",
  summary: "List the rooms a user is in, newest activity first, with what is unread in each",
  tag,
  access: { kind: "keyOrUser", scope: "rooms:read" },
  params,
  query: PageQuery,
  responses: { 200: UserRoomList },
  problems: ["not_found"],
  handle: async (call) => {
    const page = await listUserRooms(call, call.params.user_id, call.query);
    const reply = listReply(call, page);
    return { ...reply, body: { ...reply.body, unread_total: page.unreadTotal } };
  },
});

const mint = route({
  method: "POST",
  path: "/users/:user_id/tokens",
  summary: "Mint a token with which its holder acts as the user; a replay mints anew",
  tag,
  access: manage,
  params,
  body: NewToken,
  responses: { 201: TokenResource },
  problems: [],
  handle: async (call) => {
    const { token, ...about } = await mintToken(call, call.params.user_id, call.body);
    return created(token, `/users/${encodeURIComponent(call.params.user_id)}/tokens`, about);
  },
});

const revoke = route({
  method: "DELETE",
  path: "/users/:user_id/tokens",
  summary: "Revoke all tokens of the user that were issued so far, within a second on every node",
  tag,
  access: manage,
  params,
  responses: { 204: null },
  problems: [],
  handle: async (call) => {
    const { position } = await revokeTokens(call, call.params.user_id);
    return noContent({ position });
  },
});

export const userRoutes: readonly Route[] = [put, patch, get, list, listRooms, mint, revoke];
