// Bounds of requests, as a list: what goes past each is answered clearly, and afterwards all is well again.

import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll } from "vitest";
import { roomDecider } from "../../src/domain/room.ts";
import { type Body, until } from "../e2e/support/api.ts";
import { created, key, member, setMember } from "../specs/rooms.ts";
import { raw } from "../support/raw.ts";
import { type Bound, type BoundedServer, bearer, openBoundedServer, said, tryEach } from "./support/bounds.ts";

const MIB = 1024 * 1024;
let bounded: BoundedServer;
beforeAll(async () => {
  bounded = await openBoundedServer();
});
afterAll(() => bounded[Symbol.asyncDispose]());

const json = { "content-type": "application/json" };
const put = async ({ server, client }: BoundedServer, body: string, more: Readonly<Record<string, string>> = {}) =>
  raw(server.url, "/api/v1/users/ann", { method: "PUT", headers: { ...json, ...bearer(client.key), ...more }, body });
const users = (count: number) => Array.from({ length: count }, (_, n) => `user-${n}`);
const fine = async (at: BoundedServer) => said(await put(at, '{"name":"Ann"}')).slice(0, 2);

/** Refused for what it holds; with one less it is taken. */
const inBody = (what: string, bound: string, path: string, body: (more: 0 | 1) => Body, fault = "too_long"): Bound => ({
  ...{ what, bound, answer: `422 validation_failed ${fault}` },
  past: async ({ client }) => said(await client.post(path, body(1))),
  after: "20",
  well: async ({ client }) => said(await client.post(path, body(0))).slice(0, 2),
});
const notification = (fields: Body) => ({ type: "websocket", content: "x", ...fields });

const BOUNDS: readonly Bound[] = [
  {
    what: "bytes of a body",
    bound: "1 MiB",
    answer: "413 body_too_large 1048576",
    past: async (at) => {
      const answer = await put(at, `{}${" ".repeat(MIB - 1)}`);
      return `${said(answer)} ${answer.body.max_bytes}`;
    },
    after: "20",
    well: fine,
  },
  {
    what: "bytes of a client's bodies at once",
    bound: "64 MiB",
    answer: "429 rate_limited",
    past: async (at, using) => {
      const head = `PUT /api/v1/users/ann HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${at.client.key}\r\n`;
      const slow = `${head}Content-Type: application/json\r\nContent-Length: ${MIB}\r\n\r\n`;
      const almost = Buffer.alloc(MIB - 1, " ");
      const open = () => {
        const socket = connect(at.port, "127.0.0.1").resume();
        socket.on("error", () => undefined);
        using.defer(() => socket.destroy());
        socket.write(slow);
        socket.write(almost);
        return socket;
      };
      const sockets = Array.from({ length: 64 }, open);
      // What is asked while they arrive may take the room of the last of them, which is answered in its stead.
      const more = async () => {
        for (const [n, { bytesRead }] of sockets.entries()) if (bytesRead > 0) sockets[n] = open();
        await sleep(1_000);
        return put(at, JSON.stringify({ name: "x".repeat(100) }));
      };
      return said(await until(more, ({ status }) => status === 429));
    },
    after: "20",
    well: fine,
  },
  {
    what: "depth of a body",
    bound: "32",
    answer: "400 malformed_json",
    past: async (at) => said(await put(at, `{"meta":${'{"a":'.repeat(32)}1${"}".repeat(33)}`)),
    after: "20",
    well: async (at) => said(await put(at, `{"meta":${'{"a":'.repeat(31)}1${"}".repeat(32)}`)).slice(0, 2),
  },
  {
    what: "bytes of a request's headers",
    bound: "16 KiB",
    answer: "431 headers_too_large",
    past: async (at) => said(await put(at, "{}", { "x-more": "x".repeat(17 * 1024) })),
    after: "20",
    well: async (at) => said(await put(at, "{}", { "x-more": "x".repeat(15 * 1024) })).slice(0, 2),
  },
  {
    what: "rows of a page",
    bound: "100",
    answer: "422 validation_failed too_large",
    past: async ({ client }) => said(await client.get("/users?limit=101")),
    after: "200",
    well: async ({ client }) => said(await client.get("/users?limit=100")),
  },
  {
    what: "a cursor, with all that it may hold of a query",
    bound: "what was given; 4 KiB",
    answer: "400 invalid_cursor, 400 invalid_cursor, 400 invalid_cursor, 400 invalid_cursor",
    past: async ({ client, other }) => {
      for (const name of ["a", "b"]) await client.post("/rooms", { name: `${name}${"é".repeat(199)}` });
      const search = encodeURIComponent("é".repeat(199));
      const { body } = await client.get(`/rooms?search=${search}&limit=1`);
      const given = String(body.next_cursor);
      if (given.length > 4_096) return `${given.length} characters`;
      const damaged = `${given.slice(0, -2)}${given.endsWith("AA") ? "BB" : "AA"}`;
      const asked = [
        client.get(`/rooms?cursor=${damaged}`),
        client.get(`/rooms?cursor=${given.repeat(10).slice(0, 10_000)}`),
        client.get(`/rooms?cursor=${given}&active=false`),
        other.get(`/rooms?cursor=${given}`),
      ];
      return (await Promise.all(asked)).map(said).join(", ");
    },
    after: "200 1",
    well: async ({ client }) => {
      const { body } = await client.get("/rooms?limit=1");
      const next = await client.get(`/rooms?cursor=${body.next_cursor}&limit=1`);
      return `${said(next)} ${next.body.data.length}`;
    },
  },
  inBody("members of a room at its creation", "500", "/rooms", (more) => ({
    ...{ name: "Many", members: users(500 + more).map((user_id) => ({ user_id })) },
  })),
  {
    what: "members of a room",
    bound: "50,000",
    answer: "room_full",
    past: async () => {
      const full = created(Array.from({ length: 50_000 - 1 }, (_, n) => member(`sub_${n}`)));
      const room = roomDecider.evolve(roomDecider.initial, full, { seq: 1, at: 0 });
      const [joined] = roomDecider.decide(room, setMember(key, "sub_last"), new Map());
      if (joined?.type !== "MemberJoined") return "the last one has no place";
      const more = roomDecider.evolve(room, joined, { seq: 2, at: 0 });
      try {
        roomDecider.decide(more, setMember(key, "sub_more"), new Map());
      } catch (error) {
        return error instanceof Error ? error.message : String(error);
      }
      return "one more has a place";
    },
    after: "20",
    well: fine,
  },
  {
    what: "keys of a client that hold, rotated ones in their grace among them",
    bound: "20",
    answer: "409 key_limit",
    past: async ({ register }) => {
      let keys = await register("Locksmith");
      for (let n = 1; ; n += 1) {
        const { id } = (await keys.get("/clients/me")).body.key;
        const answer = await keys.post(`/clients/me/keys/${id}/rotate`, { grace_seconds: 3_600 });
        if (answer.status !== 200) return n === 20 ? said(answer) : `after ${n} keys: ${said(answer)}`;
        keys = { ...keys, ...keys.as(answer.body.api_key), key: answer.body.api_key };
      }
    },
    // In place of the one before there is always room.
    after: "200",
    well: async ({ client }) => {
      const { id } = (await client.get("/clients/me")).body.key;
      return said(await client.post(`/clients/me/keys/${id}/rotate`, { grace_seconds: 60 }));
    },
  },
  {
    what: "email providers of a client",
    bound: "20",
    answer: "409 provider_limit",
    past: async ({ client }) => {
      const provider = {
        type: "smtp",
        config: { host: "mail.example", port: 25, security: "none" },
        from_email: "app@example.com",
      };
      const set = Array.from({ length: 20 }, (_, n) => client.put(`/email-providers/p${n}`, provider));
      for (const { status } of await Promise.all(set)) if (status !== 201) return `a provider: ${status}`;
      return said(await client.put("/email-providers/more", provider));
    },
    after: "204",
    well: async ({ client }) => said(await client.delete("/email-providers/p0")),
  },
  inBody("recipients of a notification", "1,000", "/notifications", (more) =>
    notification({ user_ids: users(1_000 + more) }),
  ),
  inBody("bytes of a notification's content", "256 KiB", "/notifications", (more) =>
    notification({ user_ids: ["ann"], content: "x".repeat(256 * 1024 + more) }),
  ),
  inBody("bytes of meta", "8 KiB", "/rooms", (more) => ({ name: "R", meta: { a: "x".repeat(8 * 1024 - 8 + more) } })),
];

tryEach(BOUNDS, () => bounded);
