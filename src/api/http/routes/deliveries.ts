// Deliveries: finding them, acknowledging them, and starting again what has failed for good.
import {
  deliveryTimeline,
  getDelivery,
  getRedrive,
  listDeliveries,
  notificationAnalytics,
  redriveDelivery,
  requestRedrive,
} from "../../../app/deliveries.ts";
import { AppError } from "../../../app/errors.ts";
import { acknowledgeDelivery } from "../../../app/notifications.ts";
import { AuditEventResource } from "../../../contract/audit.ts";
import {
  AcceptedRedrive,
  AnalyticsQuery,
  AnalyticsReport,
  ChangedDeliveryParams,
  DeliveryParams,
  DeliveryQuery,
  DeliveryResource,
  NewRedrive,
  RedriveParams,
  RedriveResource,
} from "../../../contract/deliveries.ts";
import { listBody, PageQuery } from "../../../contract/fields.ts";
import { created, listReply, ok, route, routesOf, shown } from "../route.ts";

const readAccess = { kind: "key", scope: "notifications:read" } as const;
const writeAccess = { kind: "key", scope: "notifications:write" } as const;

export const deliveryRoutes = routesOf("deliveries", {
  getAnalytics: route("GET", "/notifications/analytics", {
    summary: "Count deliveries by time, channel, provider, status, category or tag",
    description:
      "Deliveries of notifications, fallback mails as email. Hours and days are named by their start in UTC. The sums equal what the lists hold.",
    access: readAccess,
    query: AnalyticsQuery,
    responses: { 200: AnalyticsReport },
    handle: async (call) => ok(await notificationAnalytics(call, call.query)),
  }),
  listDeliveries: route("GET", "/deliveries", {
    summary: "List deliveries",
    description:
      "Newest first, of every channel, with their attempts. `status=exhausted,bounced,expired` lists what has failed for good.",
    access: readAccess,
    query: DeliveryQuery,
    responses: { 200: listBody(DeliveryResource) },
    handle: async (call) => listReply(call, await listDeliveries(call, call.query)),
  }),
  getDelivery: route("GET", "/deliveries/:delivery_id", {
    summary: "Read a delivery",
    description: "With every attempt. A delivery of a scheduled notification is not found before the release.",
    access: readAccess,
    params: DeliveryParams,
    responses: { 200: DeliveryResource },
    problems: ["not_found"],
    handle: async (call) => shown(await getDelivery(call, call.params.delivery_id), "delivery"),
  }),
  getDeliveryTimeline: route("GET", "/deliveries/:delivery_id/timeline", {
    summary: "List the events of a delivery",
    description: "Oldest first, as the audit shows them.",
    access: readAccess,
    params: DeliveryParams,
    query: PageQuery,
    responses: { 200: listBody(AuditEventResource) },
    problems: ["not_found"],
    handle: async (call) => listReply(call, await deliveryTimeline(call, call.params.delivery_id, call.query)),
  }),
  acknowledgeDelivery: route("POST", "/deliveries/:delivery_id/ack", {
    summary: "Acknowledge a WebSocket delivery",
    description: "For users without a socket. Only the user whom the delivery is for can acknowledge it.",
    access: { kind: "keyOrUser", scope: "notifications:read" },
    params: DeliveryParams,
    responses: { 200: DeliveryResource },
    problems: ["forbidden", "not_found"],
    handle: async (call) => {
      const { caller, params } = call;
      if (caller.kind !== "user") {
        throw new AppError("forbidden", { detail: "Only the user whom a delivery is for acknowledges it." });
      }
      return shown(await acknowledgeDelivery(call, params.delivery_id, caller.subject), "delivery");
    },
  }),
  redriveDelivery: route("POST", "/deliveries/:delivery_id/redrive", {
    summary: "Start a failed delivery again",
    description: "One that is exhausted, bounced or expired. Attempts are counted on.",
    access: writeAccess,
    params: ChangedDeliveryParams,
    responses: { 202: DeliveryResource },
    problems: ["not_found", "nothing_to_retry"],
    handle: async (call) => ({
      ...shown(await redriveDelivery(call, call.params.delivery_id), "delivery"),
      status: 202,
    }),
  }),
  redriveDeliveries: route("POST", "/deliveries/redrive", {
    summary: "Start many failed deliveries again",
    description:
      "All that match, oldest first, each of them once, whatever happens meanwhile. The answer names the job that does it.",
    access: writeAccess,
    body: NewRedrive,
    responses: { 202: AcceptedRedrive },
    problems: ["read_model_behind"],
    handle: async (call) => {
      const accepted = await requestRedrive(call, call.body);
      return { ...created(accepted, "redrive", `/redrives/${accepted.redrive.job_id}`), status: 202 };
    },
  }),
  getRedrive: route("GET", "/redrives/:job_id", {
    summary: "Read how far a redrive is",
    description: "`done` grows page by page.",
    access: readAccess,
    params: RedriveParams,
    responses: { 200: RedriveResource },
    problems: ["not_found"],
    handle: async (call) => shown(await getRedrive(call, call.params.job_id), "redrive"),
  }),
});
