// The interface as it was last agreed on: the OpenAPI and AsyncAPI documents, and a frame of each kind that the server sends.
//
// When one of these fails the interface has changed. If that was meant, run it once with UPDATE_GOLDEN=1, and say in the
// changelog what changed.
import { afterAll, beforeAll, expect, test } from "vitest";
import { TIMINGS } from "../../src/api/realtime/connection.ts";
import { expectGolden } from "../support/golden.ts";
import { raw } from "../support/raw.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { SocketClient } from "../support/socket-client.ts";
import { type Api, type Body, newClient, tokenOf } from "./support/api.ts";

let server: TestServer;
let api: Api;
beforeAll(async () => {
  server = await startTestServer({ bounds: { sockets: { ...TIMINGS, heartbeatMs: 1_000, silenceMs: 60_000 } } });
  api = await newClient(server.url);
});
afterAll(() => server[Symbol.asyncDispose]());

/** Without prose, which may change; of a description the codes in it remain. */
function withoutProse(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutProse);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, inner]): [string, unknown][] => {
      if (typeof inner !== "string") return [[key, withoutProse(inner)]];
      if (key === "summary") return [];
      if (key !== "description") return [[key, inner]];
      const codes = [...inner.matchAll(/`([a-z_]+)`/g)].map(([, code]) => code).toSorted();
      return codes.length === 0 ? [] : [["codes", codes]];
    }),
  );
}

test("the OpenAPI document", async () => {
  const { body } = await raw(server.url, "/openapi.json");
  const { info: _info, ...document } = body;
  expectGolden(new URL("golden/openapi.json", import.meta.url), withoutProse(document));
});

test("the AsyncAPI document", async () => {
  const { body } = await raw(server.url, "/asyncapi.json");
  const { info: _info, ...document } = body;
  expectGolden(new URL("golden/asyncapi.json", import.meta.url), withoutProse(document));
});

/** The kinds of frames, by a name for each, with the first of the kind as its text was. */
class Frames {
  readonly #texts = new Map<string, string>();
  readonly #names = new Map<string, string>();
  readonly #counts = new Map<string, number>();

  async connect(bearer: string | undefined): Promise<SocketClient> {
    const headers = bearer === undefined ? {} : { authorization: `Bearer ${bearer}` };
    const socket = new SocketClient(`${server.url.replace("http", "ws")}/ws`, headers);
    socket.socket.on("message", (data) => this.#add(String(data)));
    if (bearer === undefined) await socket.opened();
    else await socket.next("welcome");
    return socket;
  }

  #add(text: string): void {
    const frame: Body = JSON.parse(text);
    const marks = [frame.type, frame.event, frame.reason, frame.actor?.type, frame.data?.deleted_at && "deleted"];
    const kind = [...marks, "ref" in frame && "ref"].filter(Boolean).join(", ");
    if (!this.#texts.has(kind)) this.#texts.set(kind, text);
  }

  /** Ids numbered as they came, times and positions left out, and the words of errors, which may change. */
  golden(): Record<string, string> {
    const normal = (text: string) =>
      text
        .replaceAll(
          /\b(room|msg|ntf|dlv|key|cli|conn|evt)_[0-9A-Za-z]{10,}|[0-9a-f]{8}-[0-9a-f-]{27}/g,
          (id, prefix = "uuid") => {
            const known = this.#names.get(id);
            const number = (this.#counts.get(prefix) ?? 0) + (known === undefined ? 1 : 0);
            this.#counts.set(prefix, number);
            this.#names.set(id, known ?? `<${prefix} ${number}>`);
            return this.#names.get(id) ?? id;
          },
        )
        .replaceAll(/"ref":"r[0-9.]+"/g, '"ref":"<ref>"')
        .replaceAll(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, "<time>")
        .replaceAll(/"(position|cursor)":"[^"]+"/g, '"$1":"<$1>"')
        .replaceAll(/("type":"error",.*"message":)"(?:[^"\\]|\\.)*"/g, '$1"<message>"');
    return Object.fromEntries([...this.#texts].map(([kind, text]) => [kind, normal(text)]));
  }
}

test("frames of each kind", async () => {
  const frames = new Frames();
  const token = await tokenOf(api, "alice");
  const send = async (who: Api, ...call: Parameters<Api["call"]>): Promise<Body> => {
    const { status, body } = await who.call(...call);
    expect(status, `${call.join(" ")}: ${JSON.stringify(body)}`).toBeLessThan(400);
    return body;
  };
  const bearer = api.as(token);
  await send(api, "PUT", "/users/bob", { name: "Bob Builder" });
  const members = [
    { user_id: "alice", role: "owner" },
    { user_id: "bob", name: "Bobby" },
  ];
  const about = { name: "Lobby", description: "By the door", external_id: "lobby", meta: { floor: 1 } };
  const room = await send(api, "POST", "/rooms", { ...about, members });
  const at = `/rooms/${room.id}`;

  using alice = await frames.connect(undefined);
  alice.send({ type: "auth", token, ref: "1" });
  await alice.next("welcome");
  alice.send({ type: "subscribe", room_id: room.id, after_seq: 0, ref: "2" });
  await alice.next("caught_up");
  const live = (event: string, from = 0) => alice.next("event", { event }, from);
  using carol = await frames.connect(await tokenOf(api, "carol"));
  await send(api, "PUT", `${at}/members/carol`, { name: "Carol" });
  await live("member.joined");
  await carol.ask({ type: "subscribe", room_id: room.id });
  await send(api, "PUT", `${at}/members/carol`, { role: "admin", meta: { a: [1, null] } });
  await live("member.updated");
  await send(api, "DELETE", `${at}/members/carol`);
  await carol.next("unsubscribed", { reason: "removed" });
  await send(api, "PUT", `${at}/members/carol`, {});
  await carol.ask({ type: "subscribe", room_id: room.id });
  await send(api.as(await tokenOf(api, "carol")), "DELETE", `${at}/members/carol`);
  await carol.next("unsubscribed", { reason: "left" });

  await send(api, "PATCH", at, { name: "Hall", meta: { floor: 2 } });
  await live("room.updated");
  const first = await send(bearer, "POST", `${at}/messages`, { sender_id: "alice", content: "Hello", meta: { n: 1 } });
  const second = await send(api, "POST", `${at}/messages`, {
    ...{ sender_id: "bob", sender_name: "Bob B.", content: "Hi", type: "image", reply_to: first.id },
  });
  await send(bearer, "PATCH", `${at}/messages/${first.id}`, { content: "Hello!" });
  await live("message.edited");
  await send(bearer, "DELETE", `${at}/messages/${first.id}`);
  await live("message.deleted");
  await send(bearer, "POST", `${at}/messages/${first.id}/restore`, {});
  await live("message.restored");
  await send(api, "DELETE", `${at}/messages/${second.id}`);
  await send(api, "POST", `${at}/deactivate`, {});
  await live("room.deactivated");
  await send(api, "POST", `${at}/activate`, {});
  await live("room.activated");
  using observer = await frames.connect(api.key);
  const { seq } = await observer.ask({ type: "subscribe", room_id: room.id, after_seq: 0 });
  await observer.next("caught_up");
  await alice.ask({ type: "read", room_id: room.id, seq });
  await observer.next("read", { user_id: "alice" });
  await observer.ask({ type: "unsubscribe", room_id: room.id });

  const wanted = { type: "websocket", user_ids: ["alice"], subject: "Lunch?", content: "At noon", meta: { n: 1 } };
  using other = await frames.connect(token);
  await send(api, "POST", "/notifications", { ...wanted, room_id: room.id, priority: "high" });
  const { delivery_id } = await alice.next("notification");
  await other.next("notification");
  await alice.next("inbox_counts");
  await alice.ask({ type: "ack", delivery_id });
  await other.next("acked");

  using follower = await frames.connect(await tokenOf(api, "erin"));
  await follower.ask({ type: "follow" });
  const erins = await send(api, "POST", "/rooms", {
    name: "Erin's",
    members: [{ user_id: "bob" }, { user_id: "erin" }],
  });
  await follower.next("room");
  await send(api, "POST", `/rooms/${erins.id}/messages`, { sender_id: "bob", content: "Hello" });
  const { cursor } = await follower.next("event", { event: "message.posted" });
  await follower.ask({ type: "follow" });
  await follower.ask({ type: "read", room_id: erins.id, seq: 2 });
  await follower.next("read");
  await follower.ask({ type: "unfollow" });
  await follower.ask({ type: "follow", after: cursor });
  await follower.next("caught_up");
  await send(api, "DELETE", `/rooms/${erins.id}/members/erin`);
  await follower.next("unsubscribed");

  await alice.ask({ type: "ping" });
  alice.send({ type: "ping" });
  await alice.ask({ type: "dance" });
  alice.send({ type: "subscribe" });
  await alice.next("error", { code: "validation_failed" });
  await alice.next("heartbeat");
  await send(api, "DELETE", at);
  await live("room.deleted");
  await alice.next("unsubscribed", { reason: "room_deleted" });
  const kinds = frames.golden();
  expect(Object.keys(kinds).length).toBeGreaterThan(25);
  expectGolden(new URL("golden/frames.json", import.meta.url), kinds);
});
