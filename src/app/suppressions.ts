// The addresses that a client's mails do not go to.

import { canonicalOrSame } from "../contract/fields.ts";
import type { ClientId, DeliveryId, Subject } from "../contract/ids.ts";
import type { SuppressionQuery, SuppressionReason, SuppressionResource } from "../contract/preferences.ts";
import { rfc3339 } from "../contract/time.ts";
import { clientDecider, clientStream } from "../domain/client.ts";
import { DomainError } from "../domain/decider.ts";
import { deliveryDecider } from "../domain/delivery.ts";
import { deliveryStream } from "../domain/delivery-state.ts";
import { reveal } from "../domain/event.ts";
import { notificationDecider, notificationStream } from "../domain/notification.ts";
import {
  type SuppressionCommand,
  type SuppressionEntry,
  shownEntry,
  suppressionDecider,
  suppressionOf,
  suppressionStream,
} from "../domain/suppression.ts";
import { type CommandContext, decodeMetadata } from "../event-store/envelope.ts";
import type { Position } from "../event-store/event-store.ts";
import type { Keyring } from "../event-store/sealing.ts";
import { listSuppressions as queryList } from "../projections/models/suppressions.ts";
import type { Page } from "../projections/page.ts";
import type { Call, Services } from "./services.ts";

/** An address as the list knows it: no two mailboxes of the world differ by case alone, and providers report in any. */
export const suppressionAddress = (email: string): string => canonicalOrSame(email).toLowerCase();

const subjectOf = (keyring: Pick<Keyring, "subjectOfAddress">, client: ClientId, email: string): Promise<Subject> =>
  keyring.subjectOfAddress(client, suppressionAddress(email));

type Listed = Omit<SuppressionResource, "created_at"> & { readonly created_at: number };

const resourceOf = ({ email, reason, category, delivery_id, created_at }: Listed): SuppressionResource => ({
  ...{ email, reason, category, delivery_id },
  created_at: rfc3339(created_at),
});

const resourceOfEntry = ({ address, reason, category, delivery, createdAt }: SuppressionEntry): SuppressionResource =>
  resourceOf({ email: reveal(address), reason, category, delivery_id: delivery, created_at: createdAt });

/** Newest first. Throws InvalidCursor. */
export async function listSuppressions({ read }: Call, query: SuppressionQuery): Promise<Page<SuppressionResource>> {
  const { reason: reasons, search, limit, cursor } = query;
  const filters = { ...(reasons === undefined ? {} : { reasons }), ...(search === undefined ? {} : { search }) };
  const { rows, next } = await queryList(read, { ...filters, limit, ...(cursor === undefined ? {} : { cursor }) });
  return { rows: rows.map(resourceOf), next };
}

/** From the log. Of several reasons the one that concerns all mails. Throws not_found. */
export async function getSuppression({ services, caller }: Call, email: string): Promise<SuppressionResource> {
  const subject = await subjectOf(services.keyring, caller.client, email);
  const { state } = await services.commands.load(suppressionDecider, suppressionStream(subject));
  const entry = shownEntry(state);
  if (entry === null) throw new DomainError("not_found");
  return resourceOfEntry(entry);
}

/** Puts an address on the list by hand. `created`: it was not there. Throws precondition_failed. */
export async function putSuppression(
  { services, caller, at, context }: Call,
  email: string,
  onlyNew: boolean,
): Promise<{ readonly suppression: SuppressionResource; readonly created: boolean; readonly position: Position }> {
  const address = suppressionAddress(email);
  const subject = await subjectOf(services.keyring, caller.client, email);
  const stream = suppressionStream(subject);
  const before = shownEntry((await services.commands.load(suppressionDecider, stream)).state);
  const about = { subject, address, reason: "manual", category: null, delivery: null, onlyNew } as const;
  const command: SuppressionCommand = { type: "Suppress", at, ...about };
  const { state, position } = await services.commands.execute(suppressionDecider, stream, command, context);
  const entry = shownEntry(state);
  if (entry === null) throw new Error("an address that was just put on the list is not there");
  return { suppression: resourceOfEntry(entry), created: before === null, position };
}

/** Takes an address off the list, whatever it was there for. Throws not_found. */
export async function deleteSuppression(
  { services, caller, at, context }: Call,
  email: string,
): Promise<{ readonly position: Position }> {
  const subject = await subjectOf(services.keyring, caller.client, email);
  const command = { type: "Unsuppress", at, subject } as const;
  return services.commands.execute(suppressionDecider, suppressionStream(subject), command, context);
}

type Cause = {
  readonly email: string;
  readonly reason: SuppressionReason;
  readonly category: string | null;
  readonly delivery: DeliveryId | null;
};

/**
 * Puts an address on the list for what became of a mail. Under one command id it happens once: what was taken off the list
 * since does not come back.
 */
export async function suppressAddress(
  { commands, keyring, now }: Pick<Services, "commands" | "keyring" | "now">,
  client: ClientId,
  { email, ...about }: Cause,
  context: CommandContext,
): Promise<void> {
  const subject = await subjectOf(keyring, client, email);
  const command: SuppressionCommand = {
    ...{ type: "Suppress", at: now(), subject, address: suppressionAddress(email) },
    ...about,
  };
  await commands.execute(suppressionDecider, suppressionStream(subject), command, context);
}

/** Why a mail to an address is not sent now, as the log says; null: it may go. */
export async function suppressionOfAddress(
  { commands, keyring }: Pick<Services, "commands" | "keyring">,
  client: ClientId,
  email: string,
  mail: Parameters<typeof suppressionOf>[1],
): Promise<ReturnType<typeof suppressionOf>> {
  const stream = suppressionStream(await subjectOf(keyring, client, email));
  return suppressionOf((await commands.load(suppressionDecider, stream)).state, mail);
}

// One-click unsubscribing: what a mail's link is about, and turning that category's mails off for its address.

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
