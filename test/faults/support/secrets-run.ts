// A run through the whole product that uses every kind of secret, in rooms and in notifications.
import type { Body } from "../../e2e/support/api.ts";
import { SseClient } from "../../support/sse-client.ts";
import { type Person, type Run, readAll, refuse } from "./secrets-requests.ts";

export type Used = {
  readonly client: string;
  readonly key: string;
  readonly user: string;
  readonly room: string;
  readonly delivery: string;
};

/** Everything once; gives what is there at its end. */
export async function useEverything(run: Run): Promise<Used> {
  const { talk, kept, adminKey, requestId } = run;
  const headers = { "x-request-id": requestId };
  const idempotent = { "idempotency-key": kept.plain("idempotency key") };
  const registered = await talk.call("POST", "/clients", { as: adminKey, body: { name: "Acme" }, headers });
  kept.keep("webhook secret", registered.webhook_secret);
  const first = kept.keep("API key", registered.api_key as string);
  const [ann, ben] = [await person(run, first), await person(run, first)];
  const members = [ann, ben].map(({ id }) => ({ user_id: id, name: kept.text("name") }));
  const body = { name: "Room", members };
  const room = await talk.call("POST", "/rooms", { as: first, body, headers: { ...headers, ...idempotent } });
  await talk.call("POST", "/rooms", { as: first, body, headers: idempotent });
  await chat(run, first, room.id, ann, ben);
  const delivery = await notify(run, first, ann, ben);
  const { key } = await talk.call("GET", "/clients/me", { as: first });
  const rotated = await talk.call("POST", `/clients/me/keys/${key.id}/rotate`, {
    as: first,
    body: { grace_seconds: 600 },
  });
  const second = kept.keep("API key", rotated.api_key as string);
  await refuse(run, second, ann);
  await readAll(run, second, room.id, ann);
  await talk.call("DELETE", `/users/${encodeURIComponent(ann.id)}/tokens`, { as: second });
  await talk.call("GET", `/users/${encodeURIComponent(ann.id)}/rooms`, { as: ann.tokens[0] ?? "", status: 401 });
  talk.end();
  return { client: registered.id, key: second, user: ben.id, room: room.id, delivery };
}

async function person({ talk, kept }: Run, key: string): Promise<Person> {
  const [id, email] = [kept.userId(), kept.address()];
  const path = `/users/${encodeURIComponent(id)}`;
  await talk.call("PUT", path, {
    as: key,
    body: { name: kept.text("name"), email, meta: { note: kept.text("name") } },
  });
  const tokens: string[] = [];
  for (let n = 0; n < 3; n += 1) {
    const { token } = await talk.call("POST", `${path}/tokens`, { as: key, body: {} });
    tokens.push(kept.keep("user token", token));
  }
  return { id, email, tokens };
}

/** A token in the header, in the address, and in the first frame; and the client's own key. */
async function chat({ talk, kept }: Run, key: string, room: string, ann: Person, ben: Person): Promise<void> {
  const bearer = (credential: string) => ({ authorization: `Bearer ${credential}` });
  const [inHeader = "", inAddress = "", inFrame = ""] = ann.tokens;
  const ticket = async (as: string, body = {}): Promise<string> =>
    kept.keep("ticket", (await talk.call("POST", "/tickets", { as, body })).ticket);
  const [opened, wasted, streamed] = [
    await ticket(inHeader),
    await ticket(key),
    await ticket(key, { user_id: ben.id }),
  ];
  const sockets = [
    talk.socket("/ws", bearer(inHeader)),
    talk.socket(`/ws?token=${inAddress}`),
    talk.socket("/api/v1/ws"),
    talk.socket(`/ws?user_id=${encodeURIComponent(ben.id)}`, bearer(key)),
    talk.socket(`/ws?ticket=${opened}`),
  ];
  const stream = `/rooms/${room}/events?after_seq=0&ticket=`;
  using streaming = await SseClient.open(talk.url, stream + streamed);
  for (const used of [streamed, `${wasted}x`]) {
    await talk.call("GET", stream + used, { headers: { accept: "text/event-stream" }, status: 401 });
  }
  // Only a stream takes it, and it says so without repeating it.
  await talk.call("GET", stream + wasted, { status: 401 });
  await sockets[2]?.opened();
  sockets[2]?.send({ type: "auth", token: inFrame });
  for (const socket of sockets) {
    await socket.next("welcome");
    await socket.ask({ type: "subscribe", room_id: room, after_seq: 0 });
  }
  const messages = `/rooms/${room}/messages`;
  const content = () => ({ content: kept.text("message"), meta: { note: kept.text("message") } });
  const posted = await talk.call("POST", messages, {
    as: key,
    body: { sender_id: ben.id, sender_name: kept.text("name"), ...content() },
  });
  await talk.call("POST", messages, { as: inHeader, body: content() });
  // It stays as it is: its words are in the log and between its events.
  const begun = content();
  const growing = { sender_id: ben.id, state: "growing", ...begun };
  const { id } = await talk.call("POST", messages, { as: key, body: growing });
  const piece = { text: kept.text("message"), offset: [...begun.content].length };
  await talk.call("POST", `${messages}/${id}/append`, { as: key, body: piece });
  await talk.call("PATCH", `${messages}/${posted.id}`, { as: key, body: content() });
  await talk.call("DELETE", `${messages}/${posted.id}`, { as: key });
  await talk.call("POST", `${messages}/${posted.id}/restore`, { as: key });
  await sockets[0]?.ask({ type: "read", room_id: room, seq: posted.seq });
  await sockets[1]?.next("event", { event: "message.restored" });
  await streaming.next("message.restored");
  talk.note("frames", ...streaming.events.map((event) => JSON.stringify(event)));
}

/** Mails that are refused first and then taken, a fallback, webhooks under both secrets, and what is never sent. */
async function notify({ talk, kept, receivers }: Run, key: string, ann: Person, ben: Person): Promise<string> {
  const { smtp } = receivers;
  const words = () => ({
    subject: kept.text("notification"),
    content: kept.text("notification"),
    meta: { note: kept.text("notification") },
  });
  const provider = async (password: string) => {
    const config = { host: "127.0.0.1", port: smtp.port, security: "none", username: smtp.username, password };
    await talk.call("PUT", "/email-providers/main", {
      as: key,
      body: { type: "smtp", config, from_email: "app@acme.example" },
    });
    return await talk.call("POST", "/email-providers/main/verify", { as: key, body: {} });
  };
  const ask = (body: Body) => talk.call("POST", "/notifications", { as: key, body: { ...words(), ...body } });
  const until = (id: string, status: string) => talk.once(`/notifications/${id}`, key, (one) => one.status === status);

  await provider(kept.text("SMTP password"));
  const to = [{ email: kept.address(), name: kept.text("name") }];
  const mail = await ask({ type: "email", to, cc: [kept.address()], bcc: [kept.address()], reply_to: kept.address() });
  await until(mail.id, "failed");
  await provider(smtp.password);
  await talk.call("POST", `/notifications/${mail.id}/retry`, { as: key });
  const fallback = {
    enabled: true,
    after_seconds: 1,
    subject: kept.text("notification"),
    content: kept.text("notification"),
  };
  const unseen = await ask({ type: "websocket", user_ids: [ben.id], email_fallback: fallback });

  const seen = talk.socket(`/ws?token=${ann.tokens[0]}`);
  await seen.next("welcome");
  const offered = await ask({ type: "websocket", user_ids: [ann.id] });
  await seen.ask({ type: "ack", delivery_id: offered.deliveries[0].id });
  await until(
    (await ask({ type: "webhook", url: receivers.hook("taken"), content: { note: kept.text("notification") } })).id,
    "delivered",
  );
  kept.keep("webhook secret", (await talk.call("GET", "/clients/me/webhook-secret", { as: key })).webhook_secret);
  const rotated = await talk.call("POST", "/clients/me/webhook-secret/rotate", {
    as: key,
    body: { grace_seconds: 600 },
  });
  kept.keep("webhook secret", rotated.webhook_secret);
  await until((await ask({ type: "webhook", url: receivers.hook("taken") })).id, "delivered");
  const refused = await ask({ type: "webhook", url: receivers.hook("refused") });
  await talk.once(`/notifications/${refused.id}`, key, (one) => one.deliveries[0].status === "retrying");
  await talk.call("POST", `/notifications/${refused.id}/cancel`, { as: key });
  const later = await ask({
    type: "email",
    to_email: kept.address(),
    send_at: new Date(Date.now() + 3_600_000).toISOString(),
  });
  await talk.call("PATCH", `/notifications/${later.id}`, { as: key, body: words() });
  await talk.call("POST", `/notifications/${later.id}/cancel`, { as: key });
  await until(mail.id, "sent");
  await until(unseen.id, "sent");
  return offered.deliveries[0].id;
}
