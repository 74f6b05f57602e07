// Users, their tokens, and the rooms they are in.

import type { Caller } from "../../../app/services.ts";
import {
  changeUser,
  getPreferences,
  getPresence,
  getUser,
  listUserRooms,
  listUsers,
  mintToken,
  putPreferences,
  putUser,
  revokeTokens,
} from "../../../app/users.ts";
import type { FieldFault } from "../../../contract/errors.ts";
import { listBody, PageQuery } from "../../../contract/fields.ts";
import { isObject } from "../../../contract/json.ts";
import { Preferences, PreferencesResource } from "../../../contract/preferences.ts";
import {
  NewToken,
  PresenceResource,
  TokenResource,
  UserParams,
  UserPatch,
  UserProfile,
  UserQuery,
  UserResource,
  UserRoomList,
} from "../../../contract/users.ts";
import { created, listReply, noContent, ok, route, routesOf, shown } from "../route.ts";

const params = UserParams;
const manage = { kind: "key", scope: "users:manage" } as const;

/** A user's mail goes where its client says. */
function emailFaults(caller: Caller, body: unknown): readonly FieldFault[] {
  if (caller.kind === "key" || !isObject(body) || !Object.hasOwn(body, "email")) return [];
  return [{ path: "email", code: "not_allowed", message: "cannot be changed by the user" }];
}

const pathOf = (user: string): string => `/users/${encodeURIComponent(user)}`;

export const userRoutes = routesOf("users", {
  putUser: route("PUT", "/users/:user_id", {
    summary: "Create or replace a user",
    description: "What is left out is cleared. A user also comes to be by a token, a membership or a message.",
    access: manage,
    params,
    body: UserProfile,
    responses: { 200: UserResource, 201: UserResource },
    problems: ["precondition_failed"],
    conditional: true,
    handle: async (call) => {
      const put = await putUser(call, call.params.user_id, call.body, call);
      return put.created ? created(put, "user", pathOf(call.params.user_id)) : shown(put, "user");
    },
  }),
  changeUser: route("PATCH", "/users/:user_id", {
    summary: "Change a user's profile",
    description: "A JSON Merge Patch (RFC 7396). A user's token changes its own profile, but never `email`.",
    access: { kind: "keyOrUser", scope: "users:manage" },
    params,
    body: UserPatch,
    faultsFor: emailFaults,
    responses: { 200: UserResource },
    problems: ["not_found"],
    conditional: true,
    handle: async (call) => shown(await changeUser(call, call.params.user_id, call.body, call.ifMatch), "user"),
  }),
  getUser: route("GET", "/users/:user_id", {
    summary: "Read a user's profile",
    description: "A user's token reads its own profile.",
    access: { kind: "keyOrUser", scope: "users:manage" },
    params,
    responses: { 200: UserResource },
    problems: ["not_found"],
    handle: async (call) => shown(await getUser(call, call.params.user_id), "user"),
  }),
  listUsers: route("GET", "/users", {
    summary: "List users",
    description: "Newest first.",
    access: manage,
    query: UserQuery,
    responses: { 200: listBody(UserResource) },
    handle: async (call) => listReply(call, await listUsers(call, call.query)),
  }),
  listUserRooms: route("GET", "/users/:user_id/rooms", {
    summary: "List the rooms that a user is in",
    description: "Newest activity first, with what is unread in each and over all.",
    access: { kind: "keyOrUser", scope: "rooms:read" },
    params,
    query: PageQuery,
    responses: { 200: UserRoomList },
    problems: ["not_found"],
    handle: async (call) => {
      const page = await listUserRooms(call, call.params.user_id, call.query);
      return ok({ ...listReply(call, page).body, unread_total: page.unreadTotal });
    },
  }),
  getPresence: route("GET", "/users/:user_id/presence", {
    summary: "Read whether a user is online",
    description: "Connected to any node of the server. A user's token reads its own; of a room's members see the room.",
    access: { kind: "keyOrUser", scope: "rooms:read" },
    params,
    responses: { 200: PresenceResource },
    problems: ["not_found"],
    handle: async (call) => ok(await getPresence(call, call.params.user_id)),
  }),
  getPreferences: route("GET", "/users/:user_id/preferences", {
    summary: "Read what a user wants to receive",
    description: "A user's token reads its own. Who never chose anything receives everything, at any time.",
    access: { kind: "keyOrUser", scope: "notifications:read" },
    params,
    responses: { 200: PreferencesResource },
    problems: ["not_found"],
    handle: async (call) => shown(await getPreferences(call, call.params.user_id), "preferences"),
  }),
  putPreferences: route("PUT", "/users/:user_id/preferences", {
    summary: "Choose what a user wants to receive",
    description:
      "Replaces all choices. A delivery of a category that is off on its channel is `suppressed`, with the error `preference`; one that comes in quiet hours waits until they end (`held_until`). What is `critical` goes through both.",
    access: { kind: "keyOrUser", scope: "notifications:write" },
    params,
    body: Preferences,
    responses: { 200: PreferencesResource },
    problems: ["not_found", "precondition_failed"],
    conditional: true,
    handle: async (call) => shown(await putPreferences(call, call.params.user_id, call.body, call), "preferences"),
  }),
  mintToken: route("POST", "/users/:user_id/tokens", {
    summary: "Mint a user token",
    description:
      "Its holder acts as the user until it expires or is revoked. A replay under the same `Idempotency-Key` mints anew.",
    access: manage,
    params,
    body: NewToken,
    responses: { 201: TokenResource },
    handle: async (call) => {
      const { user_id } = call.params;
      return created(await mintToken(call, user_id, call.body), "token", `${pathOf(user_id)}/tokens`);
    },
  }),
  revokeTokens: route("DELETE", "/users/:user_id/tokens", {
    summary: "Revoke a user's tokens",
    description: "All that were issued so far, within a second on every node; their sockets close.",
    access: manage,
    params,
    responses: { 204: null },
    handle: async (call) => noContent(await revokeTokens(call, call.params.user_id)),
  }),
});
