// Two clients on one server, each with one of everything; and all who have no right to what is the first one's.

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { ALL_SCOPES } from "../../../src/contract/fields.ts";
import type { ClientId } from "../../../src/contract/ids.ts";
import { type Api, type Body, newClient, tokenOf, until } from "../../e2e/support/api.ts";
import type { TestServer } from "../../support/server.ts";

/** By the name of a path's parameter. */
export type Ids = Readonly<Record<string, string>>;

/** Somebody who asks. */
export type Asker = {
  readonly name: string;
  /** Undefined: nothing is sent. */
  readonly bearer: string | undefined;
  readonly kind: "nobody" | "key" | "user";
  /** Why it counts for nothing, wherever it is sent. */
  readonly refused?: "unauthenticated" | "key_expired" | "token_expired";
  /** What it may use, for the parameters that a try is not about. */
  readonly own: Ids;
  /** What no answer to it may hold. */
  readonly hidden: readonly string[];
  /** Of another client: what it asks for does not exist for it. */
  readonly foreign: boolean;
};

/** Something of acme's, and one of its ids. */
export type Target = { readonly what: string; readonly id: string };

export type Cast = {
  /** The client that is to be protected. */
  readonly acme: Asker & { readonly kind: "key"; readonly api: Api };
  /** Its user to whom everything belongs. */
  readonly erin: Asker;
  /** What is tried, by parameter. */
  readonly targets: Readonly<Record<string, readonly Target[]>>;
  /** All who have no right to it. */
  readonly strangers: readonly Asker[];
};

/** What stands in acme's texts, by who may see it: everybody in the client, members of the private room, erin alone. */
export const MARKS = { client: "acme-alone", room: "acme-room", erin: "acme-erin" };
export const ALL_MARKS = Object.values(MARKS);

const expectGood = ({ status, body }: { status: number; body: Body }): Body => {
  if (status >= 300) throw new Error(`${status} ${JSON.stringify(body)}`);
  return body;
};

/** Beyond what any of this takes, and within a year. */
const LATER = new Date(Date.now() + 300 * 86_400_000).toISOString();

/** A private room with a message in it, one that grows, and one for later. */
async function room(api: Api, owner: string, mark: string, more: Body = {}): Promise<Ids> {
  const about = {
    name: `${mark} room`,
    description: mark,
    meta: { mark },
    members: [{ user_id: owner, role: "owner" }],
  };
  const { id } = expectGood(await api.post("/rooms", { ...about, ...more }));
  const message = { sender_id: owner, content: `${mark} message` };
  const posted = expectGood(await api.post(`/rooms/${id}/messages`, message));
  expectGood(await api.put(`/rooms/${id}/reads/${owner}`, { seq: posted.seq }));
  const growing = expectGood(await api.post(`/rooms/${id}/messages`, { ...message, state: "growing" }));
  expectGood(
    await api.post(`/rooms/${id}/messages/${growing.id}/append`, { text: mark, offset: `${mark} message`.length }),
  );
  const later = expectGood(await api.post(`/rooms/${id}/messages`, { ...message, send_at: LATER }));
  return { room_id: id, message_id: posted.id, growing_id: growing.id, scheduled_id: later.id };
}

/** A notification for a user that is delivered to nobody yet, once its delivery is there. */
async function notification(api: Api, user: string, mark: string): Promise<Ids> {
  const about = { type: "websocket", user_ids: [user], subject: mark, content: `${mark} notification`, meta: { mark } };
  const { id } = expectGood(await api.post("/notifications", about));
  const made = await until(
    () => api.get(`/notifications/${id}`),
    ({ body }) => body.deliveries.length === 1,
  );
  return { notification_id: id, delivery_id: made.body.deliveries[0].id };
}

/** One of everything, for one user of the client. */
async function furnish(api: Api, user: string, mark: string, provider: string): Promise<Ids> {
  expectGood(await api.put(`/users/${user}`, { name: user, email: `${mark}@example.com`, meta: { mark } }));
  const config = { host: "127.0.0.1", port: 1, security: "none" };
  const about = { type: "smtp", config, from_email: `${mark}@example.com` };
  expectGood(await api.put(`/email-providers/${provider}`, about));
  // An address is told to whoever names it, so it has no mark.
  const email = `${user}@former.example`;
  expectGood(await api.put(`/suppressions/${email}`, { reason: "manual" }));
  const { key } = expectGood(await api.get("/clients/me"));
  const hook = { url: `http://127.0.0.1:8099/${mark}`, events: ["provider.*"], description: mark, retry_schedule: [] };
  const { id: endpoint_id } = expectGood(await api.post("/webhooks", hook));
  const { delivery_id: webhook_delivery_id } = expectGood(await api.post(`/webhooks/${endpoint_id}/test`));
  await until(
    () => api.get(`/webhooks/${endpoint_id}/deliveries`),
    ({ body }) => body.data[0]?.status === "exhausted",
  );
  const ids = { user_id: user, name: provider, key_id: key.id, endpoint_id, webhook_delivery_id };
  return { email, ...(await notification(api, user, mark)), ...ids };
}

const keyOf = async (api: Api): Promise<string> => expectGood(await api.get("/clients/me")).key.id;

/** Another key in place of the one in use, which holds that long. */
async function rotated(api: Api, graceSeconds: number): Promise<Api> {
  const path = `/clients/me/keys/${await keyOf(api)}/rotate`;
  return api.as(expectGood(await api.post(path, { grace_seconds: graceSeconds })).api_key);
}

const GRACE_SECONDS = 1;
const HOUR_MS = 3_600_000;

/** The cast on a server in development mode. Nothing moves any more when it is ready. */
export async function cast(server: TestServer): Promise<Cast> {
  const first = await newClient(server.url, MARKS.client);
  const second = await rotated(first, GRACE_SECONDS);
  const acme = await rotated(second, 0);
  const other = await newClient(server.url, "Other");

  const inside = await room(acme, "erin", MARKS.room, {
    members: [{ user_id: "erin", role: "owner" }, { user_id: "eve" }, { user_id: "rita", role: "reader" }],
    external_id: "acme-private",
  });
  const open = await room(acme, "erin", MARKS.client, { kind: "public", external_id: "acme-public" });
  const direct = await room(acme, "erin", MARKS.erin, {
    kind: "direct",
    members: [{ user_id: "erin" }, { user_id: "eve" }],
  });
  const spare = expectGood(await acme.post("/clients/me/keys", { name: "spare", scopes: ["keys:manage"] }));
  const erins = { ...(await furnish(acme, "erin", MARKS.erin, "acme-mailer")), ...inside };
  const ottos = { ...erins, ...(await room(acme, "otto", "otto")), user_id: "otto" };
  const others = {
    ...(await furnish(other, "mallory", "other", "mailer")),
    ...(await room(other, "mallory", "other")),
  };

  const erinsRedrive = expectGood(await acme.post("/deliveries/redrive", {}));
  const revoked = await tokenOf(acme, "erin");
  expectGood(await acme.delete("/users/erin/tokens"));
  const client = first.id as ClientId;
  const subject = await server.services.keyring.subjectOfUser(client, "erin");
  const past = { ttlSeconds: 60, now: Date.now() - HOUR_MS, jti: randomUUID() };
  const expired = await server.services.tokens.mint({
    client,
    userId: "erin",
    generation: 1,
    scopes: ALL_SCOPES,
    ...past,
  });

  const foreign = { foreign: true, own: others, hidden: [...ALL_MARKS, first.id, subject] } as const;
  const ended = { foreign: false, own: erins, hidden: foreign.hidden } as const;
  const user = async (api: Api, id: string) => ({ bearer: await tokenOf(api, id), kind: "user" }) as const;
  const strangers: Asker[] = [
    { name: "nobody", bearer: undefined, kind: "nobody", refused: "unauthenticated", ...ended },
    { name: "a revoked key", bearer: second.key, kind: "key", refused: "key_expired", ...ended },
    { name: "an expired key", bearer: first.key, kind: "key", refused: "key_expired", ...ended },
    { name: "a revoked token", bearer: revoked, kind: "user", refused: "unauthenticated", ...ended },
    { name: "an expired token", bearer: expired.token, kind: "user", refused: "token_expired", ...ended },
    { name: "another client's key", bearer: other.key, kind: "key", ...foreign },
    { name: "another client's user", ...(await user(other, "mallory")), ...foreign },
    { name: "another client's erin", ...(await user(other, "erin")), ...foreign },
    { name: "an outsider", ...(await user(acme, "otto")), ...own(ottos, [MARKS.room, MARKS.erin]) },
    { name: "a reader", ...(await user(acme, "rita")), ...own({ ...erins, user_id: "rita" }, [MARKS.erin]) },
  ];
  const streams = [`room-${inside.room_id}`, `reads-${inside.room_id}`, `notification-${erins.notification_id}`];
  const targets = {
    room_id: [
      { what: "private room", id: idOf(inside.room_id) },
      { what: "public room", id: idOf(open.room_id) },
      { what: "direct room", id: idOf(direct.room_id) },
      { what: "private room", id: "ext:acme-private" },
      { what: "public room", id: "ext:acme-public" },
    ],
    message_id: [
      { what: "message in the private room", id: idOf(inside.message_id) },
      { what: "message in the public room", id: idOf(open.message_id) },
      { what: "message in the direct room", id: idOf(direct.message_id) },
      { what: "growing message in the private room", id: idOf(inside.growing_id) },
      { what: "growing message in the public room", id: idOf(open.growing_id) },
    ],
    scheduled_id: [{ what: "message for later", id: idOf(inside.scheduled_id) }],
    notification_id: [{ what: "notification", id: idOf(erins.notification_id) }],
    delivery_id: [{ what: "delivery", id: idOf(erins.delivery_id) }],
    key_id: [{ what: "key", id: spare.id }],
    endpoint_id: [{ what: "endpoint", id: idOf(erins.endpoint_id) }],
    webhook_delivery_id: [{ what: "endpoint's delivery", id: idOf(erins.webhook_delivery_id) }],
    job_id: [{ what: "redrive", id: erinsRedrive.job_id }],
    user_id: [{ what: "user", id: "eve" }],
    name: [{ what: "provider", id: "acme-mailer" }],
    email: [{ what: "address", id: "erin@former.example" }],
    stream: [...streams, `delivery-${erins.delivery_id}`, `client-${client}`, `user-${subject}`].map((id) => ({
      what: "stream",
      id,
    })),
  };
  await Promise.all(strangers.filter((one) => one.refused !== undefined).map((one) => ends(acme.as(one.bearer ?? ""))));
  const erin = { name: "erin", ...(await user(acme, "erin")), ...own(erins, []) };
  // What grows goes on growing: its end would be in the log, and nobody's doing.
  await server.storage.pool.query("update jobs.growing_messages set touched_at = $1", [Number.MAX_SAFE_INTEGER]);
  await quiet(server);
  const owner = { name: "acme", bearer: acme.key, kind: "key", api: acme, ...own(erins, []) } as const;
  return { acme: owner, erin, targets, strangers };
}

const own = (ids: Ids, hidden: readonly string[]) => ({ foreign: false, own: ids, hidden }) as const;

function idOf(id: string | undefined): string {
  if (id === undefined) throw new Error("something was not made");
  return id;
}

/** Resolves once a credential counts for nothing. */
async function ends(api: Api): Promise<void> {
  const { status } = await until(
    () => api.get("/rooms"),
    (answer) => answer.status === 401,
  );
  if (status !== 401) throw new Error("a credential goes on to hold");
}

const QUIET_MS = 300;

/** Resolves once nothing has been written to the log for a while. */
async function quiet({ storage }: TestServer): Promise<void> {
  for (let before = ""; ; ) {
    const now = await storage.store.tail();
    if (now === before) return;
    before = now;
    await sleep(QUIET_MS);
  }
}
