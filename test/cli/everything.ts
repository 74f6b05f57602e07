// A client to which everything happens that can happen: at least one event of every type, made over HTTP.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { mapBounded } from "../../src/platform/bounded.ts";
import { type Api, type Body, newClient, notificationUntil, tokenOf, until } from "../e2e/support/api.ts";

const soon = (ms: number): string => new Date(Date.now() + ms).toISOString();
const LATER_MS = 3_600_000;
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
  await worked(api.put(`/rooms/${busy.id}/reads/eve`, { seq: 5 }));
  await worked(api.patch(`/rooms/${busy.id}`, { name: "Very busy" }));
  await worked(api.put(`/rooms/${busy.id}/members/carol`, { name: "Carol" }));
  await worked(api.put(`/rooms/${busy.id}/members/carol`, { role: "admin" }));
  await worked(api.delete(`/rooms/${busy.id}/members/carol`));
  await worked(api.post(`/rooms/${quiet.id}/deactivate`));
  await worked(api.post(`/rooms/${quiet.id}/activate`));
  await worked(api.delete(`/rooms/${gone.id}`));
  return busy.id;
}

type Hooks = { readonly failing: string; readonly hanging: string };

async function notifications(api: Api, { failing, hanging }: Hooks): Promise<void> {
  const ask = (body: Body): Promise<Body> => worked(api.post("/notifications", body));
  const mail = { type: "email", to_email: "user@example.com", subject: "Hi", content: "<p>Hello</p>" };
  const live = { type: "websocket", content: "Read me" };
  const attached = Buffer.from("attached ☃".repeat(100_000)).toString("base64");
  const sent = await ask({ ...mail, attachments: [{ filename: "a.txt", content: attached }] });
  const broken = await ask({ type: "webhook", url: failing, content: { n: 1 } });
  const open = await ask({ type: "webhook", url: hanging, content: "n" });
  const fallen = await ask({ ...live, user_ids: ["alice"], email_fallback: { enabled: true, after_seconds: 1 } });
  const shortLived = await ask({ ...live, user_ids: ["bob"], expires_at: soon(1_500) });
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
  await worked(until(ack, ({ status }) => status !== 404));

  await notificationUntil(api, open.id, (body) => body.deliveries[0]?.status === "sending");
  await worked(api.post(`/notifications/${open.id}/cancel`));
  await notificationUntil(api, sent.id, (body) => body.status === "sent");
  await notificationUntil(api, broken.id, (body) => body.deliveries[0]?.status === "exhausted");
  await worked(api.post(`/notifications/${broken.id}/retry`, {}));
  await notificationUntil(api, broken.id, (body) => body.deliveries[0]?.attempt_count > 2, 20_000);
  await notificationUntil(api, fallen.id, (body) => body.deliveries.some((one: Body) => one.fallback_of !== null));
  await notificationUntil(api, shortLived.id, (body) => body.status === "expired", 90_000);
}

/** Makes it all happen; gives the client's API, that of its user bob, and the room that most happened in. */
export async function everything(url: string, messages: number): Promise<{ api: Api; bob: Api; room: string }> {
  const hook = createServer((request, response) => {
    request.resume();
    if (request.url === "/failing") response.writeHead(500).end();
    else setTimeout(() => response.writeHead(200).end(), 2_000);
  });
  await new Promise<void>((resolve) => hook.listen(0, "127.0.0.1", resolve));
  const target = `http://127.0.0.1:${(hook.address() as AddressInfo).port}`;
  try {
    const api = await newClient(url);
    await people(api);
    const room = await rooms(api, messages);
    await notifications(api, { failing: `${target}/failing`, hanging: `${target}/hanging` });
    return { api, bob: api.as(await tokenOf(api, "bob")), room };
  } finally {
    hook.closeAllConnections();
    hook.close();
  }
}
