// What a user does on a socket: use cases as those of requests, under ids of their own.
import { markRead as moveMarker } from "../../app/members.ts";
import { acknowledge as acknowledgeDelivery } from "../../app/notifications.ts";
import type { Call, Caller, Services } from "../../app/services.ts";
import { DeliveryIdSchema, type Subject } from "../../contract/ids.ts";
import { DomainError } from "../../domain/decider.ts";

/** Who sends the command; `correlation` stands on every event that it leads to. */
type Sender = {
  readonly caller: Caller;
  readonly user: { readonly id: string; readonly subject: Subject };
  readonly correlation: string;
};

function callOf(services: Services, { caller, user, correlation }: Sender): Call {
  const { client } = caller;
  const commandId = services.newId();
  const actor = { type: "user", id: user.subject } as const;
  const context = { client, actor, commandId, correlation, causation: commandId };
  return { services, caller, read: services.readSide.readAs(client), at: services.now(), context };
}

/** Moves the user's read marker. Throws not_found, not_a_member, InvalidInput, and what commands throw. */
export async function markRead(services: Services, sender: Sender, named: string, seq: number): Promise<void> {
  const { id: user, subject } = sender.user;
  await moveMarker(callOf(services, sender), named, { user, subject }, seq);
}

/** Acknowledges a delivery of the user's own; every other is not_found. Throws what commands throw. */
export async function acknowledge(services: Services, sender: Sender, named: string): Promise<void> {
  const parsed = DeliveryIdSchema.safeParse(named);
  if (!parsed.success) throw new DomainError("not_found");
  await acknowledgeDelivery(callOf(services, sender), parsed.data, sender.user.subject);
}
