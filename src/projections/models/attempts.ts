// Attempts of deliveries: when each began and ended, by which provider, and what came of it.
import type { AttemptOutcome, DeliveryError } from "../../contract/deliveries.ts";
import type { ClientId, DeliveryId, NotificationId } from "../../contract/ids.ts";
import { reveal } from "../../domain/event.ts";
import {
  type Body,
  bigint,
  change,
  deliveryOf,
  integer,
  json,
  projection,
  put,
  type RowOf,
  text,
} from "../projection.ts";
import { anyOf, type ReadAs } from "../read-as.ts";
import { withoutMessage } from "./deliveries.ts";

const attemptColumns = {
  delivery_id: text<DeliveryId>(),
  number: integer(),
  client: text<ClientId>(),
  notification_id: text<NotificationId>({ nullable: true }),
  started_at: bigint(),
  ended_at: bigint({ nullable: true }),
  /** Null while it is open. */
  outcome: text<AttemptOutcome>({ nullable: true }),
  provider: text({ nullable: true }),
  response: json<{ status: number | null; body: string }>({ nullable: true }),
  error: json<DeliveryError>({ nullable: true }),
  /** When the next one was due after this one. */
  next_attempt_at: bigint({ nullable: true }),
};
export type AttemptRow = RowOf<typeof attemptColumns>;

export const attempts = projection({
  name: "attempts",
  version: 3,
  key: ["delivery_id", "number"],
  columns: attemptColumns,
  indexes: [],
  personal: ["response", "error"],
  on: {
    DeliveryAttemptStarted: (e) => [
      put([deliveryOf(e.stream), e.data.n], {
        notification_id: e.data.notification,
        started_at: e.meta.at,
        provider: e.data.provider,
        ...{ ended_at: null, outcome: null, response: null, error: null, next_attempt_at: null },
      }),
    ],
    ProviderFailedOver: (e) => [change([deliveryOf(e.stream), e.data.n], (row) => ({ ...row, provider: e.data.to }))],
    // A late success wins over the failure that its attempt was taken for.
    DeliverySucceeded: (e) => [
      change([deliveryOf(e.stream), e.data.n], (row) => ({
        ...row,
        ended_at: e.meta.at,
        outcome: "succeeded" as const,
        provider: e.data.provider,
        response: reveal(e.data.response),
        error: null,
        next_attempt_at: null,
      })),
    ],
    DeliveryAttemptFailed: (e) => [
      change([deliveryOf(e.stream), e.data.n], (row) => ({
        ...row,
        ended_at: e.meta.at,
        outcome: e.data.kind,
        provider: e.data.provider,
        response: reveal(e.data.response),
        error: reveal(e.data.error),
      })),
    ],
    DeliveryRetryScheduled: (e) => [
      change([deliveryOf(e.stream), e.data.n - 1], (row) => ({ ...row, next_attempt_at: e.data.at })),
    ],
    DeliveryErased: (e) =>
      Array.from({ length: e.data.n }, (_, index) =>
        change<AttemptRow, Body<AttemptRow, "delivery_id" | "number">>(
          [deliveryOf(e.stream), index + 1],
          erasedAttempt,
        ),
      ),
  },
});

/** What is left of an attempt whose notification was deleted. */
export const erasedAttempt = (row: AttemptRow): AttemptRow => ({
  ...row,
  response: null,
  error: withoutMessage(row.error),
});

/** The attempts of some deliveries, each delivery's in order. */
export const attemptsOf = (read: ReadAs, ids: readonly DeliveryId[]): Promise<readonly AttemptRow[]> =>
  read.rows(
    read
      .over({ a: attempts })
      .selectFrom("a")
      .selectAll()
      .where(anyOf("delivery_id", ids))
      .orderBy("delivery_id")
      .orderBy("number"),
  );
