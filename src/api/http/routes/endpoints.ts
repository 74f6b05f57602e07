// Webhook endpoints: where the client's public events go.
import {
  changeEndpoint,
  createEndpoint,
  deleteEndpoint,
  getEndpoint,
  getEndpointSecret,
  listEndpointDeliveries,
  listEndpoints,
  pauseEndpoint,
  resumeEndpoint,
  retryEndpointDelivery,
  rewindEndpoint,
  rotateEndpointSecret,
  testEndpoint,
} from "../../../app/endpoints.ts";
import { DeliveryResource } from "../../../contract/deliveries.ts";
import {
  CreatedEndpointResource,
  EndpointDeliveriesQuery,
  EndpointDeliveryParams,
  EndpointParams,
  EndpointPatch,
  EndpointResource,
  EndpointRewind,
  EndpointSecretResource,
  EndpointTestResource,
  NewEndpoint,
} from "../../../contract/endpoints.ts";
import { listBody, PageQuery } from "../../../contract/fields.ts";
import { accepted, created, listReply, noContent, ok, route, routesOf, shown } from "../route.ts";

const access = { kind: "key", scope: "webhooks:manage" } as const;
const params = EndpointParams;

export const endpointRoutes = routesOf("webhooks", {
  createEndpoint: route("POST", "/webhooks", {
    summary: "Create a webhook endpoint",
    description:
      "It gets the client's public events from now on, or from a time or position in the past. The secret is shown this once, and by its own path later.",
    access,
    body: NewEndpoint,
    responses: { 201: CreatedEndpointResource },
    problems: ["too_many_endpoints"],
    handle: async (call) => {
      const made = await createEndpoint(call, call.body);
      return created(made, "endpoint", `/webhooks/${made.endpoint.id}`);
    },
  }),
  listEndpoints: route("GET", "/webhooks", {
    summary: "List webhook endpoints",
    description: "Oldest first, each with how far it is behind.",
    access,
    query: PageQuery,
    responses: { 200: listBody(EndpointResource) },
    handle: async (call) => listReply(call, await listEndpoints(call, call.query)),
  }),
  getEndpoint: route("GET", "/webhooks/:endpoint_id", {
    summary: "Read a webhook endpoint",
    description: "With its position in the log and what it has still to get.",
    access,
    params,
    responses: { 200: EndpointResource },
    problems: ["not_found"],
    handle: async (call) => shown(await getEndpoint(call, call.params.endpoint_id), "endpoint"),
  }),
  changeEndpoint: route("PATCH", "/webhooks/:endpoint_id", {
    summary: "Change a webhook endpoint",
    description: "A JSON Merge Patch (RFC 7396): null clears. New filters hold for what it has still to get, too.",
    access,
    params,
    body: EndpointPatch,
    responses: { 200: EndpointResource },
    problems: ["not_found", "precondition_failed"],
    conditional: true,
    handle: async (call) =>
      shown(await changeEndpoint(call, call.params.endpoint_id, call.body, call.ifMatch), "endpoint"),
  }),
  deleteEndpoint: route("DELETE", "/webhooks/:endpoint_id", {
    summary: "Delete a webhook endpoint",
    description: "Its open deliveries are cancelled.",
    access,
    params,
    responses: { 204: null },
    problems: ["not_found", "precondition_failed"],
    conditional: true,
    handle: async (call) => noContent(await deleteEndpoint(call, call.params.endpoint_id, call.ifMatch)),
  }),
  getEndpointSecret: route("GET", "/webhooks/:endpoint_id/secret", {
    summary: "Read the secret of a webhook endpoint",
    description: "With the secret before it, as long as both sign.",
    access,
    params,
    responses: { 200: EndpointSecretResource },
    problems: ["not_found"],
    handle: async (call) => ok(await getEndpointSecret(call, call.params.endpoint_id)),
  }),
  rotateEndpointSecret: route("POST", "/webhooks/:endpoint_id/rotate-secret", {
    summary: "Rotate the secret of a webhook endpoint",
    description: "Answers with the new one. The old one signs beside it for 24 hours.",
    access,
    params,
    responses: { 200: EndpointSecretResource },
    problems: ["not_found", "precondition_failed"],
    conditional: true,
    handle: async (call) => shown(await rotateEndpointSecret(call, call.params.endpoint_id, call.ifMatch), "secret"),
  }),
  testEndpoint: route("POST", "/webhooks/:endpoint_id/test", {
    summary: "Send a test event",
    description: "`webhook.test`, whatever the endpoint's filters and state. Its delivery is among the endpoint's.",
    access,
    params,
    responses: { 202: EndpointTestResource },
    problems: ["not_found"],
    handle: async (call) => accepted(await testEndpoint(call, call.params.endpoint_id), "test"),
  }),
  pauseEndpoint: route("POST", "/webhooks/:endpoint_id/pause", {
    summary: "Pause a webhook endpoint",
    description: "Nothing goes out, and its cursor stands.",
    access,
    params,
    responses: { 200: EndpointResource },
    problems: ["not_found", "precondition_failed"],
    conditional: true,
    handle: async (call) => shown(await pauseEndpoint(call, call.params.endpoint_id, call.ifMatch), "endpoint"),
  }),
  resumeEndpoint: route("POST", "/webhooks/:endpoint_id/resume", {
    summary: "Resume a webhook endpoint",
    description:
      "That was paused or disabled: everything after its cursor follows. After 30 days of being disabled it begins with what comes now.",
    access,
    params,
    responses: { 200: EndpointResource },
    problems: ["not_found", "precondition_failed"],
    conditional: true,
    handle: async (call) => shown(await resumeEndpoint(call, call.params.endpoint_id, call.ifMatch), "endpoint"),
  }),
  rewindEndpoint: route("POST", "/webhooks/:endpoint_id/rewind", {
    summary: "Rewind a webhook endpoint",
    description:
      "Events go out again from there, with their first `webhook-id` and their data as it is to be shown now.",
    access,
    params,
    body: EndpointRewind,
    responses: { 202: EndpointResource },
    problems: ["not_found", "precondition_failed"],
    conditional: true,
    handle: async (call) =>
      accepted(await rewindEndpoint(call, call.params.endpoint_id, call.body.to, call.ifMatch), "endpoint"),
  }),
  listEndpointDeliveries: route("GET", "/webhooks/:endpoint_id/deliveries", {
    summary: "List the deliveries of a webhook endpoint",
    description: "Newest first, with every attempt.",
    access,
    params,
    query: EndpointDeliveriesQuery,
    responses: { 200: listBody(DeliveryResource) },
    problems: ["not_found"],
    handle: async (call) => listReply(call, await listEndpointDeliveries(call, call.params.endpoint_id, call.query)),
  }),
  retryEndpointDelivery: route("POST", "/webhooks/:endpoint_id/deliveries/:webhook_delivery_id/retry", {
    summary: "Retry a delivery of a webhook endpoint",
    description: "Starts again one that was given up. Attempts are numbered on.",
    access,
    params: EndpointDeliveryParams,
    responses: { 202: DeliveryResource },
    problems: ["not_found", "nothing_to_retry"],
    handle: async (call) =>
      accepted(await retryEndpointDelivery(call, call.params.endpoint_id, call.params.webhook_delivery_id), "delivery"),
  }),
});
