// Suppressions: the addresses that a client's mails do not go to.
import { deleteSuppression, getSuppression, listSuppressions, putSuppression } from "../../../app/suppressions.ts";
import { listBody } from "../../../contract/fields.ts";
import {
  SuppressionInput,
  SuppressionParams,
  SuppressionQuery,
  SuppressionResource,
} from "../../../contract/preferences.ts";
import { created, listReply, noContent, ok, route, routesOf, shown } from "../route.ts";

const access = { kind: "key", scope: "providers:manage" } as const;
const params = SuppressionParams;

export const suppressionRoutes = routesOf("suppressions", {
  listSuppressions: route("GET", "/suppressions", {
    summary: "List suppressed addresses",
    description:
      "Newest first. An address that unsubscribed from several categories is there once for each; without a category it concerns all mails.",
    access,
    query: SuppressionQuery,
    responses: { 200: listBody(SuppressionResource) },
    handle: async (call) => listReply(call, await listSuppressions(call, call.query)),
  }),
  getSuppression: route("GET", "/suppressions/:email", {
    summary: "Read why an address is suppressed",
    description: "The reason that concerns all mails first, else the category that it last unsubscribed from.",
    access,
    params,
    responses: { 200: SuppressionResource },
    problems: ["not_found"],
    handle: async (call) => ok(await getSuppression(call, call.params.email)),
  }),
  putSuppression: route("PUT", "/suppressions/:email", {
    summary: "Suppress an address",
    description: "From now on no mail goes there, critical ones neither, until it is taken off the list.",
    access,
    params,
    body: SuppressionInput,
    responses: { 200: SuppressionResource, 201: SuppressionResource },
    problems: ["precondition_failed"],
    handle: async (call) => {
      const put = await putSuppression(call, call.params.email, call.onlyNew);
      const path = `/suppressions/${encodeURIComponent(call.params.email)}`;
      return put.created ? created(put, "suppression", path) : shown(put, "suppression");
    },
  }),
  deleteSuppression: route("DELETE", "/suppressions/:email", {
    summary: "Take an address off the list",
    description: "Whatever it was there for. Mails to it that were suppressed stay so; later ones go.",
    access,
    params,
    responses: { 204: null },
    problems: ["not_found"],
    handle: async (call) => noContent(await deleteSuppression(call, call.params.email)),
  }),
});
