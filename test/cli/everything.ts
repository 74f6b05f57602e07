// A client to which everything happens that can happen: at least one event of every type, made over HTTP.
import { createHmac, randomUUID } from "node:crypto";
import { mapBounded } from "../../src/platform/bounded.ts";
import { httpServer } from "../channels/servers.ts";
import { type Api, type Body, newClient, notificationUntil, tokenOf, until } from "../e2e/support/api.ts";

const soon = (ms: number): string => new Date(Date.now() + ms).toISOString();
const LATER_MS = 3_600_000;
/** Longer than a request takes on a busy machine: one that has expired is refused. */
const SHORT_LIVED_MS = 10_000;
/** The longest wait for what a sweep does, which comes once a minute. */
const SWEPT_MS = 120_000;
/** Requests under way at once. */
const AT_ONCE = 500;

/** What the server needs, so that attempts fail for good within a second. */
export const EVERYTHING_ENV = { RETRY_SCHEDULE: "1s", RETRY_JITTER: "0" };

/** An answer with a status that says it worked. */
async function worked(answer: Promise<{ status: number; body: Body }>): Promise<Body> {
  const { status, body } = await answer;
  if (status >= 300) throw new Error(`${status} ${JSON.stringify(body)}`);
  return body;
}

/** Waits until the audit has an event of a type. */
async function happened(api: Api, type: string): Promise<void> {
  const ask = async (): Promise<Body[]> => (await api.get(`/audit/events?type=${type}&limit=1`)).body.data;
  const found = await until(ask, (data) => data.length > 0, SWEPT_MS);
  if (found.length === 0) throw new Error(`no ${type}`);
}

async function people(api: Api): Promise<void> {
  await worked(api.patch("/clients/me", { description: "of the tests" }));
  const { key } = await worked(api.get("/clients/me"));
  await worked(api.post("/clients/me/webhook-secret/rotate", { grace_seconds: 60 }));
  await worked(api.put("/users/alice", { name: "Alice", email: "alice@example.com" }));
  await worked(api.patch("/users/alice", { name: "Alice ☃" }));
  await worked(api.put("/users/carol", { name: "Carol" }));
  await tokenOf(api, "carol");
  await worked(api.delete("/users/carol/tokens"));
  const smtp = { host: "127.0.0.1", port: 2525, username: "u", password: "smtp-secret", security: "none" };
  const provider = { type: "smtp", config: smtp, from_email: "us@example.com" };
  await worked(api.put("/email-providers/backup", provider));
  await worked(api.delete("/email-providers/backup"));
  await worked(api.post(`/clients/me/keys/${key.id}/rotate`, { grace_seconds: 3_600 }));
  const reader = await worked(api.post("/clients/me/keys", { name: "Reads", scopes: ["rooms:read"] }));
  await worked(api.delete(`/clients/me/keys/${reader.id}`));
  for (const address of ["former@example.com", "back@example.com"])
    await worked(api.put(`/suppressions/${address}`, { reason: "manual" }));
  await worked(api.delete("/suppressions/back@example.com"));
}

async function rooms(api: Api, messages: number): Promise<string> {
  const members = [{ user_id: "alice", name: "Alice", role: "owner" }, { user_id: "bob" }];
  const readers = [...members, { user_id: "eve" }];
  const busy = await worked(api.post("/rooms", { name: "Busy", external_id: "order-1", members: readers }));
  const quiet = await worked(api.post("/rooms", { name: "Quiet", members, meta: { n: [1, null, "ü"] } }));
  const gone = await worked(api.post("/rooms", { name: "Gone", members }));
  await worked(
    api.post("/rooms", { kind: "direct", name: "Two", members: [{ user_id: "alice" }, { user_id: "bob" }] }),
  );
  const numbers = Array.from({ length: messages }, (_, n) => n);
  const posted = await mapBounded(numbers, AT_ONCE, (n) => {
    const body = { sender_id: n % 2 ? "bob" : "alice", content: `message ${n}` };
    const key: Record<string, string> = n < 20 ? { "idempotency-key": `message-${n}` } : {};
    return worked(api.post(`/rooms/${(n % 3 === 0 ? quiet : busy).id}/messages`, body, key));
  });
  for (const [n, { id, room_id }] of posted.slice(0, 12).entries()) {
    await worked(api.patch(`/rooms/${room_id}/messages/${id}`, { content: `edited ${n}` }));
    if (n % 2 === 0) await worked(api.delete(`/rooms/${room_id}/messages/${id}`));
    if (n % 4 === 0) await worked(api.post(`/rooms/${room_id}/messages/${id}/restore`));
  }
  await responses(api, busy.id);
  await unfinished(api, busy.id);
  await worked(api.put(`/rooms/${busy.id}/reads/eve`, { seq: 5 }));
  await worked(api.put(`/rooms/${busy.id}/reads/eve`, { delivered_seq: 6 }));
  await worked(api.patch(`/rooms/${busy.id}`, { name: "Very busy" }));
  await worked(api.put(`/rooms/${busy.id}/members/carol`, { name: "Carol" }));
  await worked(api.put(`/rooms/${busy.id}/members/carol`, { role: "admin" }));
  await worked(api.delete(`/rooms/${busy.id}/members/carol`));
  await worked(api.patch(`/rooms/${busy.id}/members/eve`, { muted_until: soon(LATER_MS) }));
  for (const user of ["mallory", "trudy"])
    await worked(api.post(`/rooms/${busy.id}/bans/${user}`, { reason: "spam", until: soon(LATER_MS) }));
  await worked(api.delete(`/rooms/${busy.id}/bans/trudy`));
  await worked(api.post(`/rooms/${quiet.id}/deactivate`));
  await worked(api.post(`/rooms/${quiet.id}/activate`));
  await worked(api.delete(`/rooms/${gone.id}`));
  return busy.id;
}

/** A reply that mentions somebody, and reactions: one stays, one is taken back. */
async function responses(api: Api, room: string): Promise<void> {
  const at = `/rooms/${room}/messages`;
  const { id } = await worked(api.post(at, { sender_id: "alice", content: "Shall we?" }));
  await worked(api.post(at, { sender_id: "bob", content: "@eve decides", thread_of: id, mentions: ["eve"] }));
  for (const emoji of ["👍", "🎉"])
    await worked(api.put(`${at}/${id}/reactions/${encodeURIComponent(emoji)}`, { user_id: "bob" }));
  await worked(api.delete(`${at}/${id}/reactions/${encodeURIComponent("🎉")}?user_id=bob`));
}

/** Messages that grow and end either way; messages for later: sent, taken back, refused. */
async function unfinished(api: Api, room: string): Promise<void> {
  const at = `/rooms/${room}/messages`;
  for (const end of ["complete", "cancel"]) {
    const { id } = await worked(api.post(at, { sender_id: "alice", content: "It", state: "growing" }));
    await worked(api.post(`${at}/${id}/append`, { text: " grows", offset: 2 }));
    await worked(api.post(`${at}/${id}/${end}`));
  }
  const later = `/rooms/${room}/scheduled-messages`;
  const schedule = async (sender_id: string): Promise<string> =>
    `${later}/${(await worked(api.post(at, { sender_id, content: "Later", send_at: soon(LATER_MS) }))).id}`;
  const sent = await schedule("bob");
  await worked(api.patch(sent, { send_at: soon(2 * LATER_MS) }));
  await worked(api.post(`${sent}/send-now`));
  await worked(api.delete(await schedule("bob")));
  await worked(api.put(`/rooms/${room}/members/walter`, {}));
  const refused = await schedule("walter");
  await worked(api.delete(`/rooms/${room}/members/walter`));
  await worked(api.post(`${refused}/send-now`));
}

type Hooks = Readonly<Record<"failing" | "hanging" | "gone" | "well", string>>;

/** Webhook endpoints: one that everything is done with, one that is gone, one that stays. */
async function endpoints(api: Api, room: string, { gone, well }: Hooks): Promise<void> {
  const made = (url: string): Promise<Body> => worked(api.post("/webhooks", { url, events: ["message.*"] }));
  const [{ id }] = await Promise.all([made(well), made(gone), made(well)]);
  const at = `/webhooks/${id}`;
  await worked(api.patch(at, { description: "of the tests" }));
  await worked(api.post(`${at}/rotate-secret`, {}));
  await worked(api.post(`${at}/pause`));
  await worked(api.post(`${at}/resume`));
  await worked(api.post(`/rooms/${room}/messages`, { sender_id: "bob", content: "for the endpoints" }));
  await happened(api, "EndpointDisabled");
  await worked(api.post(`${at}/rewind`, { to: soon(-1_000) }));
  await worked(api.delete(at));
}

/** What is held back: by its recipient's choice, until quiet hours end, and by keys. */
async function heldBack(api: Api): Promise<void> {
  const ask = (body: Body): Promise<Body> => worked(api.post("/notifications", { content: "Held back", ...body }));
  const live = { type: "websocket" };
  await worked(api.put("/users/nina/preferences", { categories: { news: { websocket: false } } }));
  const unwanted = await ask({ ...live, user_ids: ["nina"], category: "news" });
  await notificationUntil(api, unwanted.id, (body) => body.status === "suppressed", SWEPT_MS);
  const often = { throttle: { key: "often", limit: 1, per_seconds: 60 }, dedupe: { key: "once", window_seconds: 60 } };
  await ask({ ...live, user_ids: ["dan"], collapse_key: "likes", ...often });
  await happened(api, "DeliveryCollapsed");
  await happened(api, "ThrottleDecided");
  await happened(api, "DedupeKeyTaken");
  // Quiet hours are to the minute: these end in ten seconds at the earliest.
  const clock = (ms: number): string => soon(ms).slice(11, 16);
  const quiet_hours = { from: clock(-LATER_MS), to: clock(70_000), timezone: "UTC" };
  await worked(api.put("/users/hugo/preferences", { quiet_hours }));
  await ask({ ...live, user_ids: ["hugo"] });
  await happened(api, "DeliveryHeld");
  await happened(api, "DeliveryReleased");
}

/** An inbox, marked one by one and as a whole. */
async function inbox(api: Api): Promise<void> {
  const notify = () => worked(api.post("/notifications", { type: "websocket", user_ids: ["fay"], content: "Read me" }));
  const sent = [await notify(), await notify()];
  // The second stays unread, so that there is something to read as a whole.
  for (const [n, { id }] of sent.entries()) {
    const mark = () => api.post(`/users/fay/notifications/${id}/${n === 0 ? "archive" : "unread"}`);
    await worked(until(mark, ({ status }) => status !== 404, SWEPT_MS));
  }
  await worked(api.post("/users/fay/notifications/read-all", {}));
  await happened(api, "InboxAcknowledged");
}

/** What comes after a mail was sent: its provider's report, and that its notification is deleted. */
async function afterwards(api: Api): Promise<void> {
  const about = { type: "email", to_email: "jane@example.com", subject: "Hello", content: "Hello" };
  const mail = async (): Promise<Body> => {
    const { id } = await worked(api.post("/notifications", about));
    return notificationUntil(api, id, (body) => body.status === "sent", SWEPT_MS);
  };
  const [forgotten, returned] = [await mail(), await mail()];
  await worked(api.delete(`/notifications/${forgotten.id}`));
  await happened(api, "DeliveryErased");
  const config = { api_key: "k", domain: "example.com", webhook_signing_key: "signing" };
  const provider = { type: "mailgun", config, from_email: "us@example.com" };
  const { events_url } = await worked(api.put("/email-providers/mailgun", provider));
  const [timestamp, token] = [String(Math.floor(Date.now() / 1_000)), randomUUID()];
  const signature = createHmac("sha256", "signing")
    .update(timestamp + token)
    .digest("hex");
  const event = {
    ...{ id: randomUUID(), event: "failed", severity: "permanent", reason: "bounce", timestamp: Number(timestamp) },
    ...{ recipient: about.to_email, "user-variables": { chatapi_delivery: returned.deliveries[0].id } },
    "delivery-status": { code: 550, message: "5.1.1 no such user", description: "" },
  };
  const body = JSON.stringify({ signature: { timestamp, token, signature }, "event-data": event });
  const answer = await fetch(api.url + new URL(events_url).pathname, { method: "POST", body });
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  await notificationUntil(api, returned.id, (one) => one.deliveries[0].status === "bounced", SWEPT_MS);
  await worked(api.delete("/email-providers/mailgun"));
}

/** All webhooks that have failed for good are started again. */
async function redrive(api: Api): Promise<void> {
  const ask = () => api.post("/deliveries/redrive", { channel: "webhook" });
  const { job_id } = await worked(until(ask, ({ body }) => body.matched > 0, SWEPT_MS));
  const { body } = await until(
    () => api.get(`/redrives/${job_id}`),
    (answer) => answer.body.status === "done",
    SWEPT_MS,
  );
  if (body.done === 0) throw new Error(`nothing was started again: ${JSON.stringify(body)}`);
}

async function notifications(api: Api, { failing, hanging }: Hooks, letGo: () => void): Promise<void> {
  const ask = (body: Body): Promise<Body> => worked(api.post("/notifications", body));
  const mail = { type: "email", to_email: "user@example.com", subject: "Hi", content: "<p>Hello</p>" };
  const live = { type: "websocket", content: "Read me" };
  const attached = Buffer.from("attached ☃".repeat(100_000)).toString("base64");
  const sent = await ask({ ...mail, attachments: [{ filename: "a.txt", content: attached }] });
  const broken = await ask({ type: "webhook", url: failing, content: { n: 1 } });
  const open = await ask({ type: "webhook", url: hanging, content: "n" });
  const fallen = await ask({ ...live, user_ids: ["alice"], email_fallback: { enabled: true, after_seconds: 1 } });
  const shortLived = await ask({ ...live, user_ids: ["bob"], expires_at: soon(SHORT_LIVED_MS) });
  const stopped = await ask({ ...live, user_ids: ["alice", "bob"] });
  const edited = await ask({ ...mail, send_at: soon(LATER_MS) });
  await worked(api.patch(`/notifications/${edited.id}`, { subject: "Hi again" }));
  const cancelled = await ask({ ...mail, send_at: soon(LATER_MS) });
  await worked(api.post(`/notifications/${cancelled.id}/cancel`));
  await worked(api.post(`/notifications/${stopped.id}/cancel`));

  const acked = await ask({ ...live, user_ids: ["bob"] });
  const bob = api.as(await tokenOf(api, "bob"));
  // The delivery is announced before it is made.
  const ack = () => bob.post(`/deliveries/${acked.deliveries[0].id}/ack`);
  await worked(until(ack, ({ status }) => status !== 404, SWEPT_MS));

  await notificationUntil(api, open.id, (body) => body.deliveries[0]?.status === "sending", SWEPT_MS);
  await worked(api.post(`/notifications/${open.id}/cancel`));
  // The router tells the delivery, whose attempt is open.
  await happened(api, "DeliveryCancelRequested");
  letGo();
  await notificationUntil(api, sent.id, (body) => body.status === "sent", SWEPT_MS);
  await notificationUntil(api, broken.id, (body) => body.deliveries[0]?.status === "exhausted", SWEPT_MS);
  await worked(api.post(`/notifications/${broken.id}/retry`, {}));
  await notificationUntil(api, broken.id, (body) => body.deliveries[0]?.attempt_count > 2, SWEPT_MS);
  await notificationUntil(
    api,
    fallen.id,
    (body) => body.deliveries.some((one: Body) => one.fallback_of !== null),
    SWEPT_MS,
  );
  await notificationUntil(api, shortLived.id, (body) => body.status === "expired", SWEPT_MS);
}

const STATUSES: ReadonlyMap<string, number> = new Map([
  ["/failing", 500],
  ["/gone", 410],
  ["/well", 204],
]);

/** Makes it all happen; gives the client's API, that of its user bob, and the room that most happened in. */
export async function everything(url: string, messages: number): Promise<{ api: Api; bob: Api; room: string }> {
  const { promise: held, resolve: letGo } = Promise.withResolvers<void>();
  await using hook = await httpServer((request, response) => {
    request.resume();
    const status = STATUSES.get(request.url ?? "");
    if (status !== undefined) response.writeHead(status).end();
    else void held.then(() => response.writeHead(200).end());
  });
  using _ = { [Symbol.dispose]: letGo };
  const api = await newClient(url);
  await people(api);
  const room = await rooms(api, messages);
  const at = (path: string): string => `http://127.0.0.1:${hook.port}/${path}`;
  const hooks = { failing: at("failing"), hanging: at("hanging"), gone: at("gone"), well: at("well") };
  await Promise.all([notifications(api, hooks, letGo), endpoints(api, room, hooks), heldBack(api), inbox(api)]);
  // The mails before it find no provider, and go to the mailbox.
  await afterwards(api);
  await redrive(api);
  return { api, bob: api.as(await tokenOf(api, "bob")), room };
}
