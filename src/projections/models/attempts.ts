// Attempts of deliveries, and what each came to.

import type { ClientId, DeliveryId, NotificationId } from "../../contract/ids.ts";
import type { AttemptOutcome, DeliveryError } from "../../contract/resources.ts";
import { reveal } from "../../domain/event.ts";
import { bigint, change, integer, json, projection, put, type RowOf, text } from "../projection.ts";
import type { ReadAs } from "../read-as.ts";
import { sql } from "../sql.ts";
import { deliveryOf } from "../stream-ids.ts";

const columns = {
  delivery_id: text<DeliveryId>(),
  number: integer(),
  client: text<ClientId>(),
  notification_id: text<NotificationId>(),
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
export type AttemptRow = RowOf<typeof columns>;

export const attempts = projection({
  name: "attempts",
  version: 1,
  key: ["delivery_id", "number"],
  columns,
  indexes: [],
  personal: ["response", "error"],
  on: {
    DeliveryAttemptStarted: (e) => {
      if (e.meta.client === null) return [];
      return [
        put([deliveryOf(e.stream), e.data.n], {
          client: e.meta.client,
          notification_id: e.data.notification,
          started_at: e.meta.at,
          provider: e.data.provider,
          ...{ ended_at: null, outcome: null, response: null, error: null, next_attempt_at: null },
        }),
      ];
    },
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
  },
});

/** The attempts of some deliveries, each delivery's in order. */
export const attemptsOf = (read: ReadAs, ids: readonly DeliveryId[]): Promise<readonly AttemptRow[]> =>
  read.rows(sql`select * from ${attempts} a where delivery_id = any(${ids}) order by delivery_id, number`);
