// What a user does on a socket: commands like those of requests, under ids of their own.

import type { Caller } from "../../app/authenticate.ts";
import { onceMade } from "../../app/notifications/once-made.ts";
import { openAsMember } from "../../app/rooms/room-access.ts";
import type { Services } from "../../app/services.ts";
import { DeliveryIdSchema, type Subject } from "../../contract/ids.ts";
import { deliveryDecider, deliveryStream } from "../../domain/delivery.ts";
import { DomainError, InvalidInput } from "../../domain/errors.ts";
import { readsDecider, readsStream } from "../../domain/reads.ts";
import type { CommandContext } from "../../event-store/envelope.ts";
import { unreadOf } from "../../projections/models/reads.ts";

/** Who sends the command; `correlation` stands on every event that it leads to. */
type Sender = {
  readonly caller: Pick<Caller, "client" | "actor">;
  readonly user: { readonly id: string; readonly subject: Subject };
  readonly correlation: string;
};

function contextOf(services: Pick<Services, "newId">, { caller, user, correlation }: Sender): CommandContext {
  const commandId = services.newId();
  const actor = { type: "user", id: user.subject } as const;
  return { client: caller.client, actor, commandId, correlation, causation: commandId };
}

/** Moves the user's read marker. Throws DomainError (not_found, not_a_member), InvalidInput, and what commands throw. */
export async function markRead(services: Services, sender: Sender, named: string, seq: number): Promise<void> {
  const { id, room } = await openAsMember(services, sender.caller, named);
  if (seq > room.seq) {
    throw new InvalidInput([{ path: "seq", code: "too_large", message: `must be at most ${room.seq}` }]);
  }
  const { subject, id: user } = sender.user;
  // An older floor only means a marker that says nothing new.
  const floor = (await unreadOf(services.readSide.readAs(sender.caller.client), id, subject))?.read_seq ?? 0;
  const command = { type: "MarkRead", at: services.now(), subject, user, seq, floor } as const;
  await services.commands.execute(readsDecider, readsStream(id), command, contextOf(services, sender));
}

/** Acknowledges a delivery of the user's own; every other is `not_found`. Throws what commands throw. */
export async function acknowledge(
  services: Pick<Services, "commands" | "newId" | "now">,
  sender: Sender,
  named: string,
): Promise<void> {
  const parsed = DeliveryIdSchema.safeParse(named);
  if (!parsed.success) throw new DomainError("not_found");
  // Subjects are made under the client's own secret: whose subject matches is a user of the same client.
  const command = { type: "Acknowledge", at: services.now(), subject: sender.user.subject } as const;
  const context = contextOf(services, sender);
  await onceMade(() => services.commands.execute(deliveryDecider, deliveryStream(parsed.data), command, context));
}
