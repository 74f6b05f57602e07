// What stands against sending a delivery: what its recipient chose, and what else was sent to it under the same key.
import { canonicalOrSame } from "../contract/fields.ts";
import type { ClientId, DeliveryId, Subject } from "../contract/ids.ts";
import type { Instant } from "../contract/time.ts";
import { collapseDecider, collapseStream, isReplaced } from "../domain/collapse.ts";
import { deliveryDecider, type Gate } from "../domain/delivery.ts";
import { deliveryStream } from "../domain/delivery-state.ts";
import { type NotificationData, notificationDecider, notificationStream } from "../domain/notification.ts";
import { type Chosen, choiceGate } from "../domain/preferences.ts";
import { isAdmitted, throttleDecider, throttleStream } from "../domain/throttle.ts";
import { deriveTail, deriveUuid } from "../event-store/derived-ids.ts";
import type { CommandContext } from "../event-store/envelope.ts";
import type { Commands } from "../event-store/handle-command.ts";
import { choicesOf, usersWithAddress } from "../projections/models/preferences.ts";
import type { ReadAs } from "../projections/read-side.ts";

/** Whom a delivery goes to. */
export type Addressee = {
  readonly subject: Subject;
  /** Null when it was erased. */
  readonly address: string | null;
  /** The user that it is for, where its subject is an address's; null: whoever has the address. */
  readonly user: Subject | null;
};

/**
 * What people chose, by the subject of the recipient. A mail counts as a user's when its recipient names one, or exactly
 * one user has the address. Rests on the read models as they are.
 */
export async function choiceGates(
  read: ReadAs,
  chosen: Chosen,
  people: readonly Addressee[],
  at: Instant,
): Promise<ReadonlyMap<Subject, Gate>> {
  if (chosen.channel === "webhook" || chosen.priority === "critical") return new Map();
  const users = await usersOf(read, chosen, people);
  const choices = await choicesOf(read, [...new Set(users.values())]);
  const gates = new Map<Subject, Gate>();
  for (const [subject, user] of users) {
    const own = choices.get(user);
    if (own !== undefined) gates.set(subject, choiceGate(own, chosen, { at, timezone: own.timezone }));
  }
  return gates;
}

/** The users whom recipients stand for, by the subject of the recipient. */
async function usersOf(read: ReadAs, { channel }: Chosen, people: readonly Addressee[]) {
  if (channel === "websocket") return new Map(people.map(({ subject }) => [subject, subject]));
  const keyOf = ({ address }: Addressee) => (address === null ? null : canonicalOrSame(address));
  const addresses = people.flatMap((one) => (one.user === null ? (keyOf(one) ?? []) : []));
  const owners = await usersWithAddress(read, [...new Set(addresses)]);
  const users = new Map<Subject, Subject>();
  for (const one of people) {
    const user = one.user ?? owners.get(keyOf(one) ?? "");
    if (user !== undefined) users.set(one.subject, user);
  }
  return users;
}

/** A delivery that may be one too many under its key, or be replaced by a newer one. */
type Keyed = {
  readonly client: ClientId;
  readonly delivery: DeliveryId;
  readonly recipient: Subject;
  readonly releasedAt: Instant;
  readonly at: Instant;
} & Pick<NotificationData, "collapse" | "throttle">;

/** A context for each of the commands that decide; null: only asks what they would decide now. */
type Deciding = ((commandId: string) => CommandContext) | null;

/**
 * Whether a throttle lets a delivery through. Decided once on a stream of the client's, recipient's and key's own, so
 * that it holds over nodes; asked again, the answer is the same.
 */
async function throttleGate(commands: Commands, keyed: Keyed, deciding: Deciding): Promise<Gate> {
  const { throttle, client, recipient, delivery, at } = keyed;
  if (throttle === null) return null;
  const { limit, perMs } = throttle;
  const stream = throttleStream(deriveTail("throttle", client, recipient, throttle.key));
  const command = { type: "Admit", at, delivery, limit, perMs } as const;
  const { state } =
    deciding === null
      ? await commands.load(throttleDecider, stream)
      : await commands.execute(throttleDecider, stream, command, deciding(deriveUuid("throttle", delivery)));
  return isAdmitted(state, command) ? null : { suppress: "throttled" };
}

/** Whether a newer delivery has taken this one's place. With `deciding` it takes that of an older one. */
export async function collapseGate(commands: Commands, keyed: Keyed, deciding: Deciding): Promise<Gate> {
  const { collapse, client, recipient, delivery, releasedAt, at } = keyed;
  if (collapse === null) return null;
  const stream = collapseStream(deriveTail("collapse", client, recipient, collapse.key));
  const command = { type: "Replace", at, delivery, releasedAt } as const;
  const { state } =
    deciding === null
      ? await commands.load(collapseDecider, stream)
      : await commands.execute(collapseDecider, stream, command, deciding(deriveUuid("collapse", delivery)));
  return isReplaced(state, command) ? { suppress: "collapsed" } : null;
}

/** What keys say, the throttle first: what it refuses must not replace anything. */
export const keyedGate = async (commands: Commands, keyed: Keyed, deciding: Deciding): Promise<Gate> =>
  (await throttleGate(commands, keyed, deciding)) ?? (await collapseGate(commands, keyed, deciding));

/**
 * What stands against starting a delivery again. A mail's next attempt asks what its recipient chose; on a WebSocket it goes
 * out at once.
 */
export async function redriveGate(commands: Commands, read: ReadAs, id: DeliveryId, at: Instant): Promise<Gate> {
  const { state } = await commands.load(deliveryDecider, deliveryStream(id));
  if (state.status === "none" || state.request.channel !== "websocket" || state.request.notification === null)
    return null;
  const { recipient, priority, notification, channel } = state.request;
  const about = await commands.load(notificationDecider, notificationStream(notification));
  if (about.state.status === "none") return null;
  const chosen = { channel, priority, category: about.state.data.category };
  const person = { subject: recipient, address: null, user: null };
  // fence: redrive-choices
  return (await choiceGates(read, chosen, [person], at)).get(recipient) ?? null;
}
