// One-click unsubscribing: what a mail's link is about, and turning that category's mails off for its address.
import type { ClientId, DeliveryId } from "../contract/ids.ts";
import { clientDecider, clientStream } from "../domain/client.ts";
import { deliveryDecider } from "../domain/delivery.ts";
import { deliveryStream } from "../domain/delivery-state.ts";
import { reveal } from "../domain/event.ts";
import { notificationDecider, notificationStream } from "../domain/notification.ts";
import { decodeMetadata } from "../event-store/envelope.ts";
import type { Services } from "./services.ts";
import { suppressAddress } from "./suppressions.ts";

type UnsubscribeServices = Pick<Services, "commands" | "store" | "keyring" | "links" | "now" | "newId">;

/** What a link unsubscribes from. */
export type Unsubscription = {
  readonly client: ClientId;
  readonly clientName: string;
  readonly category: string;
  readonly delivery: DeliveryId;
  /** Null: it was erased, and gets no more mails. */
  readonly email: string | null;
  readonly correlation: string;
  readonly causation: string;
};

/** What the token of a link is about; undefined when this server made no such link. Changes nothing. */
export async function unsubscriptionOf(
  { commands, store, links }: UnsubscribeServices,
  token: string,
): Promise<Unsubscription | undefined> {
  const id = links.unsubscribed(token);
  if (id === undefined) return undefined;
  const [first] = await store.readStream(deliveryStream(id), { from: 0, limit: 1 });
  const { state: delivery } = await commands.load(deliveryDecider, deliveryStream(id));
  const client = first === undefined ? null : decodeMetadata(first).client;
  if (first === undefined || client === null || delivery.status === "none") return undefined;
  const { request } = delivery;
  if (request.notification === null) return undefined;
  const [{ state: notification }, { state: owner }] = await Promise.all([
    commands.load(notificationDecider, notificationStream(request.notification)),
    commands.load(clientDecider, clientStream(client)),
  ]);
  if (notification.status === "none" || owner.status !== "live") return undefined;
  const { category } = notification.data;
  if (category === null) return undefined;
  const cause = { correlation: decodeMetadata(first).correlation, causation: first.id };
  return { client, clientName: owner.name, category, delivery: id, email: reveal(request.address), ...cause };
}

/** Turns the category's mails off for the address. Again it changes nothing. Throws what commands throw. */
export async function unsubscribe(services: UnsubscribeServices, about: Unsubscription): Promise<void> {
  const { client, email, category, delivery, correlation, causation } = about;
  if (email === null) return;
  const actor = { type: "system", id: "unsubscribe" } as const;
  const context = { client, actor, commandId: services.newId(), correlation, causation };
  await suppressAddress(services, client, { email, reason: "unsubscribed", category, delivery }, context);
}
