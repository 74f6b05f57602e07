// Two clients: for every route with an id, the other client's id answers exactly as an unknown id does.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Answer, type Api, type Body, newClient, tokenOf, until } from "./support/api.ts";
import { dataFolder, type Running, startServer } from "./support/server.ts";
import { connect } from "./support/socket.ts";

const stack = new AsyncDisposableStack();
let server: Running;
let mine: Api;
let theirs: Api;
/** By parameter name: an id of the other client, and one of the same shape that nobody has. */
let ids: Record<string, { foreign: string; unknown: string }>;
let operations: { method: string; path: string }[];

const scrambled = (id: string) => `${id.slice(0, -6)}zzzzzz`;

beforeAll(async () => {
  const folder = stack.use(await dataFolder());
  server = stack.use(await startServer({ dataDir: folder.path }));
  mine = await newClient(server.url, "Mine");
  theirs = await newClient(server.url, "Theirs");
  const { body: room } = await theirs.post("/rooms", {
    name: "Theirs",
    kind: "public",
    external_id: "theirs",
    members: [{ user_id: "eve" }],
  });
  const { body: message } = await theirs.post(`/rooms/${room.id}/messages`, {
    sender_id: "eve",
    content: "Ours alone",
  });
  const { body: notification } = await theirs.post("/notifications", {
    type: "websocket",
    user_ids: ["eve"],
    content: "Ours alone",
  });
  const { body: me } = await theirs.get("/clients/me");
  await theirs.put("/email-providers/mailer", {
    type: "smtp",
    config: { host: "127.0.0.1", port: 2525, security: "none" },
    from_email: "a@b.example",
  });
  await until(
    () => theirs.get(`/notifications/${notification.id}`),
    ({ body }) => body.deliveries.length === 1,
  );
  const of = (id: string) => ({ foreign: id, unknown: scrambled(id) });
  ids = {
    room_id: of(room.id),
    message_id: of(message.id),
    notification_id: of(notification.id),
    delivery_id: of(notification.deliveries[0].id),
    key_id: of(me.key.id),
    user_id: { foreign: "eve", unknown: "nobody" },
    name: { foreign: "mailer", unknown: "nothing" },
    stream: { foreign: `room-${room.id}`, unknown: `room-${scrambled(room.id)}` },
  };
  const document = (await (await fetch(`${server.url}/openapi.json`)).json()) as Body;
  operations = Object.entries(document.paths as Record<string, Body>).flatMap(([path, methods]) =>
    Object.keys(methods)
      .filter(() => path.startsWith("/api/v1/") && path.includes("{"))
      .map((method) => ({ method: method.toUpperCase(), path: path.slice("/api/v1".length) })),
  );
});
afterAll(() => stack.disposeAsync());

const BODIES: Record<string, Body> = {
  "PATCH /rooms/{room_id}": { name: "Renamed" },
  "POST /rooms/{room_id}/messages": { sender_id: "eve", content: "Let me in" },
  "PATCH /rooms/{room_id}/messages/{message_id}": { content: "Changed" },
  "PUT /rooms/{room_id}/reads/{user_id}": { seq: 1 },
  "PUT /rooms/{room_id}/members/{user_id}": {},
  "PATCH /notifications/{notification_id}": { subject: "Changed" },
};

/** What tells two answers apart, with the ids and what differs on every request taken out. */
const face = ({ status, body, headers }: Answer, used: Record<string, string>) => {
  let text = JSON.stringify({ status, body, etag: headers.get("etag") });
  for (const [name, id] of Object.entries(used)) text = text.replaceAll(id, `{${name}}`);
  return text.replaceAll(/"request_id":"[^"]+"/g, '"request_id":"…"');
};

test("REST: the other client's ids answer as unknown ones do", async () => {
  expect(operations.length).toBeGreaterThan(25);
  const own = await mine.post("/rooms", { name: "Mine", members: [{ user_id: "me" }] });
  for (const { method, path } of operations) {
    const names = [...path.matchAll(/\{([a-z_]+)\}/g)].map(([, name = ""]) => name);
    for (const name of names) expect(ids[name], `an id for {${name}} of ${path}`).toBeDefined();
    if (["/users/{user_id}", "/email-providers/{name}"].includes(path) && method === "PUT") continue;
    if (path === "/users/{user_id}/tokens") continue;
    const ask = (kind: "foreign" | "unknown") => {
      const used = Object.fromEntries(names.map((name) => [name, ids[name]?.[kind] ?? ""]));
      const target = names.reduce(
        (text, name) => text.replace(`{${name}}`, encodeURIComponent(used[name] ?? "")),
        path,
      );
      return mine
        .call(method, target, BODIES[`${method} ${path}`] ?? (method === "GET" ? undefined : {}))
        .then((answer) => face(answer, used));
    };
    const [foreign, unknown] = [await ask("foreign"), await ask("unknown")];
    expect(foreign, `${method} ${path}`).toBe(unknown);
    expect(foreign, `${method} ${path}`).not.toContain("Ours alone");
  }
  // A message of theirs in a room of mine.
  const strange = await mine.get(`/rooms/${own.body.id}/messages/${ids.message_id?.foreign}`);
  expect(strange.status).toBe(404);
  expect((await mine.get("/rooms/ext:theirs")).status).toBe(404);
});

test("frames: the other client's rooms and deliveries answer as unknown ones do", async () => {
  await using socket = await connect(server.url, await tokenOf(mine, "me"));
  const ask = async (frame: Body, ref: string) => {
    socket.send({ ...frame, ref });
    const { ref: _ref, ...answer } = await socket.next((one) => one.ref === ref);
    return JSON.stringify(answer).replaceAll(String(frame.room_id ?? frame.delivery_id), "…");
  };
  for (const [type, field] of [
    ["subscribe", "room_id"],
    ["read", "room_id"],
    ["ack", "delivery_id"],
  ] as const) {
    const extra = type === "read" ? { seq: 1 } : {};
    const foreign = await ask({ type, [field]: ids[field]?.foreign, ...extra }, `${type}-foreign`);
    const unknown = await ask({ type, [field]: ids[field]?.unknown, ...extra }, `${type}-unknown`);
    expect(foreign).toBe(unknown);
    expect(foreign).toContain("not_found");
  }
});

test("the other client's names are free", async () => {
  expect((await mine.post("/rooms", { name: "Same", external_id: "theirs" })).status).toBe(201);
  expect((await mine.put("/users/eve", { name: "Another Eve" })).status).toBe(201);
  expect((await theirs.get("/users/eve")).body.name).not.toBe("Another Eve");
});
