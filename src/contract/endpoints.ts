// Webhook endpoints: what requests send and answers show.
import { z } from "zod";
import { DeliveryStatusSchema } from "./deliveries.ts";
import { eventPattern, filterFaults } from "./event-requests.ts";
import {
  commaSeparated,
  created,
  description,
  input,
  orNull,
  paging,
  patched,
  refuse,
  text,
  time,
  webhookUrl,
} from "./fields.ts";
import { EndpointIdSchema, RoomIdSchema } from "./ids.ts";
import { isObject, type JsonObject } from "./json.ts";
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS } from "./time.ts";

// Durations, as retry schedules have them.

const UNITS: Readonly<Record<string, number>> = {
  ...{ s: SECOND_MS, m: MINUTE_MS, min: MINUTE_MS, h: HOUR_MS, d: DAY_MS },
};
const MAX_WAIT_MS = DAY_MS;
const MAX_RETRIES = 20;

/** A duration such as `5s`, `2m` or `10h`, in ms; undefined when it is none. */
export function parseDuration(value: string): number | undefined {
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(s|m|min|h|d)$/.exec(value);
  const unit = UNITS[match?.[2] ?? ""];
  return match === null || unit === undefined ? undefined : Math.round(Number(match[1]) * unit);
}

const wait = z.string().superRefine((value, context) => {
  const ms = parseDuration(value);
  if (ms === undefined) refuse(context, "invalid_format", "must be a duration such as 5s, 2m or 10h");
  else if (ms > MAX_WAIT_MS) refuse(context, "too_large", "must be at most a day");
});

// Which events.

const events = z
  .array(eventPattern)
  .min(1)
  .max(100)
  .transform((given) => [...new Set(given)]);

const roomIds = z
  .array(
    z.string().superRefine((value, context) => {
      if (!RoomIdSchema.safeParse(value).success) refuse(context, "invalid_format", "must be the id of a room");
    }),
  )
  .min(1)
  .max(100)
  .transform((given) => [...new Set(given)]);

const filter = z
  .unknown()
  .superRefine((value, context) => {
    for (const { path, code, message } of filterFaults(value)) refuse(context, code, message, [...path]);
  })
  .transform((value) => value as JsonObject)
  .meta({ type: "object", additionalProperties: true, description: "At most 4 KiB as JSON, and 8 filters deep." });

// How they are sent.

const MAX_HEADERS = 20;
const HEADER_NAME = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/;
const HEADER_VALUE = /^[\x21-\x7e](?:[\x20-\x7e]{0,1022}[\x21-\x7e])?$/;
/** Ours, and those that belong to the connection. */
const OUR_HEADERS =
  /^(?:webhook-.*|content-.*|host|user-agent|connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|expect|date)$/i;

/** `removable`: a null takes a header away. */
const headersOf = (removable: boolean) =>
  z
    .unknown()
    .superRefine((value, context) => {
      if (!isObject(value)) return refuse(context, "wrong_type", "must be an object");
      const names = Object.keys(value);
      if (names.length > MAX_HEADERS) refuse(context, "too_long", `must have at most ${MAX_HEADERS} headers`);
      if (new Set(names.map((name) => name.toLowerCase())).size < names.length)
        refuse(context, "not_allowed", "must not name a header twice");
      for (const [name, one] of Object.entries(value).slice(0, MAX_HEADERS)) {
        if (!HEADER_NAME.test(name)) refuse(context, "invalid_format", "is not the name of a header", [name]);
        else if (/* fence: endpoint-headers */ OUR_HEADERS.test(name))
          refuse(context, "not_allowed", "is a header of ours", [name]);
        else if (removable && one === null) continue;
        else if (typeof one !== "string") refuse(context, "wrong_type", "must be a string", [name]);
        else if (!HEADER_VALUE.test(one))
          refuse(context, "invalid_format", "must be 1 to 1,024 visible characters of ASCII", [name]);
      }
    })
    .transform((value) => value as Readonly<Record<string, string | null>>)
    .meta({ type: "object", additionalProperties: { type: removable ? ["string", "null"] : "string" } });

const MIN_SECRET_BYTES = 24;
const MAX_SECRET_BYTES = 64;
const secret = z.string().superRefine((value, context) => {
  const encoded = /^whsec_([A-Za-z0-9+/]{1,100}={0,2})$/.exec(value)?.[1];
  const bytes = encoded === undefined ? null : Buffer.from(encoded, "base64");
  const fits = bytes !== null && bytes.length >= MIN_SECRET_BYTES && bytes.length <= MAX_SECRET_BYTES;
  if (!fits || bytes.toString("base64") !== encoded)
    refuse(context, "invalid_format", "must be whsec_ and base64 of 24 to 64 bytes");
});

const DEFAULT_TIMEOUT_SECONDS = 15;
const rate = z.number().min(0.01).max(1_000);
const timeout = z.int().min(1).max(30);
const schedule = z.array(wait).max(MAX_RETRIES);
/** A time, a position, or for a new endpoint `now`. */
const startPoint = text(1, 64);

export const NewEndpoint = input({
  url: webhookUrl,
  events,
  room_ids: orNull(roomIds).describe("Only what happens in these rooms"),
  filter: orNull(filter),
  description: orNull(description),
  headers: headersOf(false).default({}),
  secret: orNull(secret).describe("whsec_ and base64; one is made when it is left out"),
  rate_per_second: orNull(rate),
  ordered: z.boolean().default(false).describe("One event of a room or notification at a time"),
  timeout_seconds: orNull(timeout).transform((value) => value ?? DEFAULT_TIMEOUT_SECONDS),
  retry_schedule: orNull(schedule).describe(
    "The wait after each failure, such as 5s or 2m; the server's when left out",
  ),
  from: orNull(startPoint).describe("Where it begins: a time (inclusive), a position (exclusive), or `now`"),
});
export type NewEndpoint = z.output<typeof NewEndpoint>;

export const EndpointPatch = input({
  url: webhookUrl.optional(),
  events: events.optional(),
  room_ids: patched(roomIds),
  filter: patched(filter),
  description: patched(description),
  headers: patched(headersOf(true)),
  rate_per_second: patched(rate),
  ordered: z.boolean().optional(),
  timeout_seconds: patched(timeout).transform((value) => (value === null ? DEFAULT_TIMEOUT_SECONDS : value)),
  retry_schedule: patched(schedule),
});
export type EndpointPatch = z.output<typeof EndpointPatch>;

export const EndpointRewind = input({ to: startPoint.describe("A time (inclusive) or a position (exclusive)") });

export const EndpointResource = z
  .object({
    id: z.string(),
    url: z.string().nullable(),
    events: z.array(z.string()),
    room_ids: z.array(z.string()).nullable(),
    filter: z.record(z.string(), z.unknown()).nullable(),
    description: z.string().nullable(),
    headers: z.record(z.string(), z.object({ set: z.literal(true) })).describe("Never their values"),
    ordered: z.boolean(),
    rate_per_second: z.number().nullable(),
    timeout_seconds: z.int(),
    retry_schedule: z.array(z.string()).nullable(),
    status: z.enum(["active", "paused", "disabled", "failing"]).describe("failing: the last five attempts failed"),
    position: z.string().describe("Its events up to here are delivered, or on their way"),
    lag_events: z
      .int()
      .describe("Events that it has still to get, those on their way included; at most 10,000 are counted"),
    lag_seconds: z.number().describe("For how long the oldest of them has waited"),
    last_success_at: time.nullable(),
    last_failure: z.object({ code: z.string(), message: z.string(), at: time }).nullable(),
    created_at: time,
  })
  .meta({ id: "WebhookEndpoint" });
export type EndpointResource = z.infer<typeof EndpointResource>;

export const CreatedEndpointResource = EndpointResource.extend({
  secret: z.string().nullable().describe("Signs its webhooks: shown this once, null in a replay"),
}).meta({ id: "CreatedWebhookEndpoint" });
export type CreatedEndpointResource = z.infer<typeof CreatedEndpointResource>;

export const EndpointSecretResource = z
  .object({
    secret: z.string(),
    previous: z
      .object({ secret: z.string(), expires_at: time })
      .nullable()
      .describe("The one before, which also signs until then"),
  })
  .meta({ id: "WebhookEndpointSecret" });
export type EndpointSecretResource = z.infer<typeof EndpointSecretResource>;

export const EndpointTestResource = z
  .object({ event_id: z.string(), delivery_id: z.string() })
  .meta({ id: "WebhookEndpointTest" });
export type EndpointTestResource = z.infer<typeof EndpointTestResource>;

export const EndpointParams = z.object({ endpoint_id: EndpointIdSchema });
export const EndpointDeliveryParams = z.object({ endpoint_id: EndpointIdSchema, webhook_delivery_id: z.string() });
export const EndpointDeliveriesQuery = input({
  status: commaSeparated(DeliveryStatusSchema).optional(),
  ...created,
  ...paging,
});
export type EndpointDeliveriesQuery = z.output<typeof EndpointDeliveriesQuery>;
