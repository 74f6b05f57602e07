// Every POST under an Idempotency-Key, sent twice at the same moment and again after a restart: one effect, one answer.
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type Answer,
  type Api,
  apiOf,
  type Body,
  mails,
  newClient,
  notificationUntil,
  tokenOf,
} from "./support/api.ts";
import { folderWithCluster, type Running, startServer } from "./support/server.ts";

const stack = new AsyncDisposableStack();
let dataDir: string;
let server: Running;
let api: Api;

beforeAll(async () => {
  const folder = stack.use(await folderWithCluster());
  dataDir = folder.path;
  server = await startServer({ dataDir, env: { RETRY_SCHEDULE: "1h" } });
  stack.defer(() => server[Symbol.asyncDispose]());
  api = await newClient(server.url);
});
afterAll(() => stack.disposeAsync());

type Case = {
  readonly name: string;
  readonly path: string;
  readonly body: Body;
  readonly as: () => Api;
  readonly secret?: string;
};

/** One case for each POST route that has effects under a client. */
async function cases(): Promise<Case[]> {
  const { body: room } = await api.post("/rooms", { name: "General", members: [{ user_id: "alice" }] });
  const { body: other } = await api.post("/rooms", { name: "Other", members: [{ user_id: "alice" }] });
  const { body: message } = await api.post(`/rooms/${room.id}/messages`, { sender_id: "alice", content: "gone" });
  await api.delete(`/rooms/${room.id}/messages/${message.id}`);
  await api.post(`/rooms/${other.id}/deactivate`);
  const later = new Date(Date.now() + 3_600_000).toISOString();
  const email = { type: "email", subject: "Hi", content: "Hello" };
  const { body: scheduled } = await api.post("/notifications", {
    ...email,
    to_email: "later@example.com",
    send_at: later,
  });
  const { body: failing } = await api.post("/notifications", {
    type: "webhook",
    url: "http://127.0.0.1:59999/",
    content: {},
    expires_at: new Date(Date.now() + 1_200_000).toISOString(),
  });
  await notificationUntil(api, failing.id, (body) => body.status === "expired");
  const { body: open } = await api.post("/notifications", {
    type: "websocket",
    user_ids: ["alice"],
    content: "Read me",
  });
  const { body: known } = await api.get(`/notifications/${open.id}`);
  const { body: me } = await api.get("/clients/me");
  const user = api.as(await tokenOf(api, "alice"));
  const key = () => api;
  return [
    { name: "a room", path: "/rooms", body: { name: "New", external_id: "ext-1" }, as: key },
    {
      name: "a direct room",
      path: "/rooms",
      body: { name: "Two", kind: "direct", members: [{ user_id: "x" }, { user_id: "y" }] },
      as: key,
    },
    { name: "a room by a user", path: "/rooms", body: { name: "Mine" }, as: () => user },
    { name: "deactivating", path: `/rooms/${room.id}/deactivate`, body: undefined, as: key },
    { name: "activating", path: `/rooms/${other.id}/activate`, body: undefined, as: key },
    { name: "a message", path: `/rooms/${other.id}/messages`, body: { sender_id: "alice", content: "Once" }, as: key },
    { name: "a notification", path: "/notifications", body: { ...email, to_email: "once@example.com" }, as: key },
    { name: "cancelling", path: `/notifications/${scheduled.id}/cancel`, body: undefined, as: key },
    { name: "retrying", path: `/notifications/${failing.id}/retry`, body: {}, as: key },
    { name: "acknowledging", path: `/deliveries/${known.deliveries[0].id}/ack`, body: undefined, as: () => user },
    { name: "a token", path: "/users/alice/tokens", body: {}, as: key, secret: "token" },
    { name: "a webhook secret", path: "/clients/me/webhook-secret/rotate", body: { grace_seconds: 60 }, as: key },
    {
      name: "a key",
      path: `/clients/me/keys/${me.key.id}/rotate`,
      body: { grace_seconds: 3600 },
      as: key,
      secret: "api_key",
    },
  ];
}

const comparable = ({ status, body }: Answer, secret: string | undefined) => {
  if (secret === undefined) return { status, body };
  const { [secret]: _shown, expires_at: _minted, ...rest } = body;
  return { status, body: rest };
};

test("one effect, the same answer", async () => {
  const all = await cases();
  const firsts: Answer[] = [];
  const before = new Map<string, number>();
  const countEvents = async () => {
    let total = 0;
    for (let after = ""; ; ) {
      const { body } = await api.get(
        `/audit/events?limit=100${after === "" ? "" : `&cursor=${encodeURIComponent(after)}`}`,
      );
      total += body.data.length;
      if (body.next_cursor === null) return total;
      after = body.next_cursor;
    }
  };
  for (const [index, one] of all.entries()) {
    const headers = { "idempotency-key": `key-${index}` };
    const send = () => one.as().post(one.path, one.body, headers);
    const [first, second] = await Promise.all([send(), send()]);
    const third = await send();
    expect(first.status, `${one.name}: ${JSON.stringify(first.body)}`).toBeLessThan(300);
    const replays = [first, second, third].filter((answer) => answer.headers.get("idempotent-replayed") === "true");
    expect(replays.length, one.name).toBe(2);
    for (const again of [second, third])
      expect(comparable(again, one.secret), one.name).toEqual(comparable(first, one.secret));
    firsts.push(first);
    if (one.body !== undefined && Object.keys(one.body).length > 0) {
      const another = await one
        .as()
        .post(one.path, { ...one.body, name: "Another", content: "Another", grace_seconds: 1 }, headers);
      expect([422, 409], `${one.name}: ${JSON.stringify(another.body)}`).toContain(another.status);
    }
  }
  await notificationUntil(api, firsts[6]?.body.id, (body) => body.status === "sent");
  expect(await mails(server.url, "once@example.com")).toHaveLength(1);
  const events = await countEvents();
  before.set("events", events);

  await server.stop();
  server = await startServer({ dataDir, env: { RETRY_SCHEDULE: "1h" } });
  const moved = (one: Api) => apiOf(server.url, one.key);
  for (const [index, one] of all.entries()) {
    const again = await moved(one.as()).post(one.path, one.body, { "idempotency-key": `key-${index}` });
    expect(again.headers.get("idempotent-replayed"), one.name).toBe("true");
    const first = firsts[index];
    if (first !== undefined) expect(comparable(again, one.secret), one.name).toEqual(comparable(first, one.secret));
  }
  api = moved(api);
  // The mailbox keeps its mails over a restart.
  expect(await mails(server.url, "once@example.com")).toHaveLength(1);
  // A token is minted anew each time; nothing else was written.
  expect(await countEvents()).toBeLessThanOrEqual(events + 1);
}, 120_000);
