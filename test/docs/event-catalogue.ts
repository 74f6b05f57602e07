// The catalogue of public events in docs/events.md, made from the contract: `npm run docs:events` writes it.
import { readFile, writeFile } from "node:fs/promises";
import { PUBLIC_EVENT_TYPES, PUBLIC_EVENTS, type PublicEventType } from "../../src/contract/public-events.ts";
import { RESOURCE_EXAMPLES } from "../../src/contract/resource-examples.ts";
import { withPart } from "../support/written-part.ts";

export const PAGE = new URL("../../docs/events.md", import.meta.url);

type Fields = Readonly<Record<string, unknown>>;
function exampleOf(resource: string, { without }: { without?: string } = {}): Fields {
  const { [without ?? ""]: _left, ...fields } = { ...(RESOURCE_EXAMPLES[resource] as Fields | undefined) };
  if (Object.keys(fields).length === 0) throw new Error(`there is no example of ${resource}`);
  return fields;
}

const room = exampleOf("Room");
const member = exampleOf("Member");
const message = exampleOf("Message");
const notification = exampleOf("Notification", { without: "deliveries" });
const delivery = exampleOf("Delivery", { without: "attempts" });
const endpoint = exampleOf("WebhookEndpoint").id;
const at = String(message.created_at);

/** What is said of a kind of event, and what differs for one type. */
const KINDS: Readonly<Record<string, Fields>> = { room, member, message, notification, delivery };
const OWN: { readonly [T in PublicEventType]?: Fields } = {
  "room.deactivated": { ...room, active: false },
  "member.left": { ...member, reason: "left" },
  "member.banned": exampleOf("Ban"),
  "member.unbanned": { user_id: exampleOf("Ban").user_id },
  "message.cancelled": { ...message, state: "cancelled" },
  "message.edited": { ...message, edited_at: at, edited_by: { type: "user", id: message.sender_id } },
  "reaction.added": { message_id: message.id, emoji: "👍", user_id: "bob" },
  "reaction.removed": { message_id: message.id, emoji: "👍", user_id: "bob" },
  "message.deleted": { id: message.id, seq: message.seq, deleted_at: at },
  "provider.failed_over": { name: "primary", reason: "account" },
  "provider.down": { name: "primary", reason: "account" },
  "provider.up": { name: "primary", reason: "probe" },
  "webhook.disabled": { endpoint_id: endpoint, reason: "gone" },
  "webhook.test": { endpoint_id: endpoint },
  "notification.cancelled": { ...notification, status: "cancelled" },
};

/** An event as a webhook's body has it. */
export function bodyOf(type: PublicEventType): Fields {
  const [kind = ""] = type.split(".");
  const known = { ...(OWN[type] ?? KINDS[kind]) };
  if (Object.keys(known).length === 0) throw new Error(`there is no example of ${type}`);
  const status = kind === "delivery" && type !== "delivery.opened" && type !== "delivery.read";
  const data = status ? { ...known, status: type.slice("delivery.".length) } : known;
  const inRoom = ["room", "member", "message", "reaction"].includes(kind);
  return {
    ...{ id: "evt_5f0c3b1e8a545d0c9c1b1d2f3a4b5c6d", type, timestamp: at, position: "c3VjaCBhIG5pY2UgZGF5IQ" },
    ...{ room_id: inRoom ? room.id : null, seq: inRoom ? message.seq : null },
    ...{ actor: { type: "user", id: "alice" }, data },
  };
}

/** A member a line. */
const printed = (body: Fields): string =>
  `{\n${Object.entries(body)
    .map(([name, value]) => `  "${name}": ${JSON.stringify(value)}`)
    .join(",\n")}\n}`;

/** The page with the catalogue in its place. */
export function withCatalogue(page: string): string {
  const sections = PUBLIC_EVENT_TYPES.map(
    (type) => `### \`${type}\`\n\n${PUBLIC_EVENTS[type].meaning}\n\n\`\`\`json\n${printed(bodyOf(type))}\n\`\`\``,
  );
  return withPart(page, { part: "public events", script: "docs:events" }, sections.join("\n\n"));
}

if (import.meta.main) await writeFile(PAGE, withCatalogue(await readFile(PAGE, "utf8")));
