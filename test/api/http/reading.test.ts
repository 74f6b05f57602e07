// Reading what was written: Read-After, one's own writes, conditions, and pages with their cursors.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sharedCommands } from "../../../src/api/http/api.ts";
import { Positions } from "../../../src/app/positions.ts";
import type { Caller } from "../../../src/app/services.ts";
import type { ClientId } from "../../../src/contract/ids.ts";
import type { Position } from "../../../src/event-store/event-store.ts";
import type { ReadSide } from "../../../src/projections/read-side.ts";
import { type Api, type Body, newClient, tokenOf } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api & { readonly id: ClientId };
beforeAll(async () => {
  server = await startTestServer();
  const client = await newClient(server.url);
  api = { ...client, id: client.id as ClientId };
});
afterAll(() => server[Symbol.asyncDispose]());

describe("Read-After", () => {
  test("shows the write that it names, to another caller too", async () => {
    const alice = api.as(await tokenOf(api, "alice"));
    for (let round = 0; round < 50; round += 1) {
      const name = `Name ${round}`;
      const { headers } = await api.patch("/users/alice", { name });
      const position = headers.get("position") ?? "";
      expect((await alice.get("/users/alice", { "read-after": position })).body.name).toBe(name);
    }
  });

  test("of one's own last write needs no header, through the same node", async () => {
    for (let round = 0; round < 50; round += 1) {
      await api.put(`/users/own-${round}`, { name: `${round}` });
      expect((await api.get(`/users/own-${round}`)).body.name).toBe(`${round}`);
    }
  });

  test("none waits for nothing", async () => {
    const answer = await api.get("/users", { "read-after": "none" });
    expect(answer.status).toBe(200);
  });

  test("that is damaged, another client's, of another log or beyond the end is an invalid position", async () => {
    const { positions, store } = server.services;
    const tail = await store.tail();
    const [log = "", hex = ""] = tail.split(".");
    const own = positions.ofRequest(api.id, tail);
    expect((await api.get("/users", { "read-after": own })).status).toBe(200);
    const other = (await newClient(server.url)).id as ClientId;
    const bad = [
      "nonsense",
      "",
      tail,
      own.slice(0, -1),
      `${own}A`,
      own.toLowerCase(),
      positions.ofRequest(other, tail),
    ];
    const beyond = positions.ofEvent(api.id, `${log}.${"f".repeat(16)}`);
    for (const position of [...bad, positions.ofEvent(api.id, `other.${hex}`), beyond]) {
      const answer = await api.get("/users", { "read-after": position });
      expect([answer.status, answer.body.code], position).toEqual([400, "invalid_position"]);
    }
    expect((await api.get("/users?limit=x", { "read-after": "nonsense" })).status).toBe(400);
  });

  test("tells nothing of what others write", async () => {
    const { positions, store } = server.services;
    const tail = await store.tail();
    const next = tail.replace(/.$/, (digit) =>
      Number.parseInt(digit, 16) === 15 ? "0" : `${Number.parseInt(digit, 16) + 1}`,
    );
    const sealed = [1, 2, 3].map(() => positions.ofRequest(api.id, tail));
    expect(new Set([...sealed, positions.ofRequest(api.id, next as Position)]).size).toBe(4);
    for (const text of sealed) {
      expect(text).toMatch(/^[\w-]{22}$/);
      expect(positions.open(api.id, text)).toBe(tail);
    }
    const answer = await api.delete("/users/never-was/tokens");
    expect(answer.headers.get("position")).toMatch(/^[\w-]{22}$/);
    expect((await api.get("/audit/events?limit=1")).body.data[0].position).toMatch(/^[\w-]{22}$/);
    const { body } = await api.get("/audit/events?limit=1");
    expect(Buffer.from(body.next_cursor, "base64url").toString("latin1")).not.toContain(
      tail.slice(0, tail.indexOf(".")),
    );
  });

  test("past its time is 503, one's own writes are not waited for that long", async () => {
    const waits: number[] = [];
    const behind = {
      compare: async () => "ahead" as const,
      waitFor: async (_position: Position, timeoutMs: number) => {
        waits.push(timeoutMs);
        return false;
      },
    };
    const readSide = behind as unknown as ReadSide;
    const positions = new Positions({ secret: new Uint8Array(32), store: { logId: "log" } });
    const { writes } = sharedCommands({ readSide, positions });
    const caller: Caller = {
      kind: "key",
      client: "cli_1",
      actor: { type: "key", id: "key_1" },
      keyId: "key_1",
      scopes: new Set(),
      expiresAt: null,
    };
    const asked = await writes.targetOf(caller, positions.ofRequest("cli_1", "log.0000000000000002"));
    await expect(writes.waitFor(asked)).rejects.toMatchObject({
      code: "read_model_behind",
      headers: { "Retry-After": "1" },
    });
    expect(await writes.targetOf(caller, undefined)).toBeUndefined();
    writes.record(caller, "log.0000000000000002");
    writes.record(caller, "log.0000000000000001");
    const own = await writes.targetOf(caller, undefined);
    expect(own).toEqual({ position: "log.0000000000000002", named: false });
    await writes.waitFor(own);
    expect(waits).toEqual([5_000, 1_000]);
  });
});

describe("If-Match", () => {
  const room = async () => (await api.post("/rooms", { name: "R" })).body;
  const patch = (id: string, match: string) => api.call("PATCH", `/rooms/${id}`, { name: "S" }, { "if-match": match });

  test("lets a change through that rests on the newest, and no other", async () => {
    const { id } = await room();
    expect((await patch(id, '"2"')).status).toBe(412);
    expect((await patch(id, '"1"')).status).toBe(200);
    const stale = await patch(id, '"1"');
    expect([stale.status, stale.body.code]).toEqual([412, "precondition_failed"]);
    expect((await patch(id, "*")).status).toBe(200);
  });

  test("never holds for a weak or a strange tag", async () => {
    const { id } = await room();
    for (const tag of ['W/"1"', '"one"', '""', '"1.0"', '"-1"']) expect((await patch(id, tag)).status, tag).toBe(412);
  });

  test("that is no tag is a fault of the header", async () => {
    const { id } = await room();
    for (const tag of ["1", "", '"1', 'w/"1"', '"1"; "2"', "nonsense"]) {
      const answer = await patch(id, tag);
      expect([answer.status, answer.body.errors], tag).toEqual([
        422,
        [{ path: "Header: If-Match", code: "invalid_format", message: expect.any(String) }],
      ]);
    }
  });
});

describe("pages", () => {
  let paged: Api;
  beforeAll(async () => {
    paged = await newClient(server.url);
    for (let index = 0; index < 7; index += 1) await paged.put(`/users/user-${index}`, {});
  });
  const ids = (body: Body) => body.data.map(({ id }: Body) => id);

  test("lead through a list once, newest first, while more is made", async () => {
    const first = await paged.get("/users?limit=3");
    await paged.put("/users/late", {});
    const second = await paged.get(`/users?limit=3&cursor=${first.body.next_cursor}`);
    const third = await paged.get(`/users?limit=3&cursor=${second.body.next_cursor}`);
    expect([...ids(first.body), ...ids(second.body), ...ids(third.body)]).toEqual(
      [6, 5, 4, 3, 2, 1, 0].map((index) => `user-${index}`),
    );
    expect(third.body.next_cursor).toBeNull();
  });

  test("keep the filters of the first, and take no others", async () => {
    const to = encodeURIComponent(new Date(Date.now() + 60_000).toISOString());
    const { body } = await paged.get(`/users?limit=2&to=${to}&from=2020-01-01`);
    const next = (query: string) => paged.get(`/users?cursor=${body.next_cursor}${query}`);
    expect((await next("&limit=2")).body.data).toHaveLength(2);
    expect((await next(`&to=${to}`)).status).toBe(200);
    for (const query of ["&from=2021-01-01", "&from=2020-01-01&to=2020-01-01", "&search=x"]) {
      const answer = await next(query);
      expect([answer.status, answer.body.code], query).toEqual([400, "invalid_cursor"]);
    }
  });

  test("refuse a cursor that is damaged, of another list or of another client", async () => {
    const { body } = await paged.get("/users?limit=2");
    const cursor: string = body.next_cursor;
    await api.post("/rooms", { name: "A" });
    await api.post("/rooms", { name: "B" });
    const { body: rooms } = await api.get("/rooms?limit=1");
    const middle = cursor.length >> 1;
    const flipped = `${cursor.slice(0, middle)}${cursor[middle] === "A" ? "B" : "A"}${cursor.slice(middle + 1)}`;
    for (const bad of ["", "x", "%00", cursor.slice(1), cursor.slice(0, -2), `${cursor}A`, flipped, "A".repeat(500)]) {
      const answer = await paged.get(`/users?cursor=${bad}`);
      expect([answer.status, answer.body.code], bad).toEqual([400, "invalid_cursor"]);
    }
    expect((await paged.get(`/users?cursor=${rooms.next_cursor}`)).status).toBe(400);
    expect((await api.get(`/users?cursor=${cursor}`)).status).toBe(400);
  });

  test("have 1 to 100 rows, 50 unless asked", async () => {
    const faults = async (query: string) =>
      (await paged.get(`/users?${query}`)).body.errors.map(({ path, code }: Body) => `${path} ${code}`);
    expect(await faults("limit=0")).toEqual(["?limit too_small"]);
    expect(await faults("limit=101")).toEqual(["?limit too_large"]);
    expect(await faults("limit=-1")).toEqual(["?limit too_small"]);
    for (const limit of ["", "x", "1.5", "1e2", "0x10", "1&limit=2", "99999999999999999999"]) {
      expect(await faults(`limit=${limit}`), limit).toEqual(["?limit wrong_type"]);
    }
    expect((await paged.get("/users?limit=100")).status).toBe(200);
  });

  test("name every fault of a query", async () => {
    const { body } = await paged.get("/users?limt=5&from=yesterday&to=2026-02-30&x=%00");
    expect(body.errors.map(({ path, code }: Body) => `${path} ${code}`).toSorted()).toEqual([
      "?from invalid_format",
      "?limt unknown_field",
      "?to invalid_format",
      "?x invalid_format",
    ]);
    expect(body.errors.find(({ path }: Body) => path === "?limt").message).toContain("limit");
    const bad = [
      "2026-01-01T00:00:00",
      "2026-01-01T25:00:00Z",
      "2026-13-01",
      "1767225600",
      "2026-01-01T00:00:00+99:00",
    ];
    for (const from of bad) expect((await paged.get(`/users?from=${encodeURIComponent(from)}`)).status, from).toBe(422);
  });

  test("are bounded by creation: from counts, to does not", async () => {
    const { body: user } = await paged.get("/users/user-3");
    const at = user.created_at;
    const between = async (from: string, to: string) =>
      ids((await paged.get(`/users?from=${encodeURIComponent(from)}&to=${encodeURIComponent(to)}`)).body);
    const next = new Date(Date.parse(at) + 1).toISOString();
    expect(await between(at, next)).toContain("user-3");
    expect(await between("2020-01-01", at)).not.toContain("user-3");
    const offset = next.replace("Z", "+00:00");
    expect(await between("2020-01-01", offset)).toContain("user-3");
    expect((await paged.get("/clients/me?limit=5")).body.errors[0]).toMatchObject({
      path: "?limit",
      code: "unknown_field",
    });
  });
});
