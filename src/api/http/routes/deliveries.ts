// Deliveries, as the people whom they are for see them.
import { z } from "zod";
import { deliveryAsOf } from "../../../app/notifications/as-of.ts";
import { onceMade } from "../../../app/notifications/once-made.ts";
import { deliveryResource } from "../../../app/resources.ts";
import { DeliveryIdSchema } from "../../../contract/ids.ts";
import { DeliveryResource } from "../../../contract/resources.ts";
import { deliveryDecider, deliveryStream } from "../../../domain/delivery.ts";
import { DomainError } from "../../../domain/errors.ts";
import { Problem } from "../problems.ts";
import { ok } from "../reply.ts";
import { type Route, route } from "../route.ts";

const acknowledgeDelivery = route({
  method: "POST",
  path: "/deliveries/:delivery_id/ack",
  summary: "Acknowledges a WebSocket delivery, for users without a socket.",
  tag: "notifications",
  access: { kind: "keyOrUser", scope: null },
  params: z.object({ delivery_id: DeliveryIdSchema }),
  responses: { 200: DeliveryResource },
  problems: ["forbidden", "not_found"],
  handle: async ({ services, caller, params, context, at }) => {
    if (caller.kind !== "user") {
      throw new Problem("forbidden", { detail: "Only the user whom a delivery is for acknowledges it." });
    }
    const id = params.delivery_id;
    // The subject holds the client too: of another client's delivery this finds nothing.
    const command = { type: "Acknowledge", at, subject: caller.subject } as const;
    const { events, position, replayed } = await onceMade(() =>
      services.commands.execute(deliveryDecider, deliveryStream(id), command, context),
    );
    const found = await deliveryAsOf(services, id, events.at(-1)?.revision);
    if (found === undefined) throw new DomainError("not_found");
    return ok(deliveryResource(found.row, found.attempts), { position, replayed });
  },
});

export const deliveryRoutes: readonly Route[] = [acknowledgeDelivery];
