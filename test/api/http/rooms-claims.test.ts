// What may exist once: external ids and direct rooms, also when requests meet or are given up.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { externalIdClaim } from "../../../src/app/rooms.ts";
import type { ClientId, RoomId } from "../../../src/contract/ids.ts";
import { claimDecider } from "../../../src/domain/claim.ts";
import { roomDecider, roomStream } from "../../../src/domain/room.ts";
import { type Answer, type Api, type Body, newClient, tokenOf } from "../../e2e/support/api.ts";
import { contextOf } from "../../support/live.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api & { readonly id: string };
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
});
afterAll(() => server[Symbol.asyncDispose]());

const two = (one: string, other: string, more: Body = {}): Body => ({
  name: "Two",
  kind: "direct",
  members: [{ user_id: one }, { user_id: other }],
  ...more,
});
const statuses = (answers: readonly Answer[]) => answers.map((answer) => answer.status).toSorted();

describe("an external id", () => {
  test("is one room's until that is deleted", async () => {
    const { body: first } = await api.post("/rooms", { name: "First", external_id: "x-1" });
    const second = await api.post("/rooms", { name: "Second", external_id: "x-1" });
    expect([second.status, second.body.code, second.body.existing_id]).toEqual([409, "external_id_taken", first.id]);
    await api.delete(`/rooms/${first.id}`);
    const third = await api.post("/rooms", { name: "Third", external_id: "x-1" });
    expect(third.status).toBe(201);
    expect((await api.get("/rooms/ext:x-1")).body.id).toBe(third.body.id);
  });

  test("goes to one of those who ask at once", async () => {
    const ask = (n: number) => api.post("/rooms", { name: `Room ${n}`, external_id: "x-2" });
    const answers = await Promise.all(Array.from({ length: 8 }, (_, n) => ask(n)));
    expect(statuses(answers)).toEqual([201, ...Array.from({ length: 7 }, () => 409)]);
    const made = answers.find((answer) => answer.status === 201);
    for (const { status, body } of answers) if (status === 409) expect(body.existing_id).toBe(made?.body.id);
  });

  test("tells a user by no time whether a hidden room has it", async () => {
    await api.post("/rooms", { name: "Hidden", external_id: "x-hidden", members: [{ user_id: "alice" }] });
    const mallory = api.as(await tokenOf(api, "mallory"));
    const told: string[] = [];
    for (const name of ["ext:x-hidden", "ext:x-nowhere"]) {
      const asked: (() => Promise<Answer>)[] = [
        () => mallory.get(`/rooms/${name}`),
        () => mallory.get(`/rooms/${name}/messages`),
        () => mallory.post(`/rooms/${name}/messages`, { content: "Is anybody there?" }),
        () => mallory.get(`/rooms/${name}/scheduled-messages/sch_unknown`),
      ];
      for (const ask of asked) {
        const begun = performance.now();
        const { status, body } = await ask();
        // A timer may ring a millisecond early.
        told.push(`${status} ${body.code} ${performance.now() - begun >= 98 ? "late" : "at once"}`);
      }
    }
    expect(told).toEqual(Array.from({ length: 8 }, () => "404 not_found late"));
  });

  describe("claimed for a room that never came", () => {
    const claimFor = async (name: string, room: RoomId, age: number): Promise<void> => {
      const client = api.id as ClientId;
      const { stream } = await externalIdClaim(server.services.keyring, client, name);
      const command = { type: "Claim", at: Date.now() - age, room, abandoned: null } as const;
      await server.services.commands.execute(claimDecider, stream, command, contextOf(client));
    };

    test("is kept for it a while", async () => {
      const room: RoomId = "room_00000000000000000000000001";
      await claimFor("x-3", room, 0);
      const refused = await api.post("/rooms", { name: "Early", external_id: "x-3" });
      expect([refused.status, refused.body.existing_id]).toEqual([409, room]);
      expect((await api.get("/rooms/ext:x-3")).status).toBe(404);
    });

    test("is then taken over, and that room can no longer be made", async () => {
      const room: RoomId = "room_00000000000000000000000002";
      await claimFor("x-4", room, 60_000);
      const made = await api.post("/rooms", { name: "Later", external_id: "x-4" });
      expect(made.status).toBe(201);
      const settings = {
        name: "Slow",
        description: null,
        kind: "private",
        joinRole: "member",
        maxMembers: null,
        posting: "everyone",
        history: "all",
        meta: {},
      } as const;
      const create = { type: "Create", at: Date.now(), settings, externalId: "x-4", members: [] } as const;
      const context = contextOf(api.id as ClientId);
      const late = await server.services.commands.execute(roomDecider, roomStream(room), create, context);
      expect([late.events, late.state.status]).toEqual([[], "deleted"]);
      expect((await api.get("/rooms/ext:x-4")).body.id).toBe(made.body.id);
      expect((await api.get(`/rooms/${room}`)).status).toBe(404);
    });
  });
});

describe("a direct room", () => {
  test("has exactly two members, whom only a client key takes out and gives back", async () => {
    for (const members of [[], [{ user_id: "a" }], [{ user_id: "a" }, { user_id: "b" }, { user_id: "c" }]]) {
      const refused = await api.post("/rooms", { name: "Two", kind: "direct", members });
      expect([refused.status, refused.body.errors[0].path]).toEqual([422, "members"]);
    }
    const { body: room } = await api.post("/rooms", two("dora", "emil"));
    for (const answer of [
      await api.put(`/rooms/${room.id}/members/fred`, {}),
      await api.patch(`/rooms/${room.id}`, { kind: "public" }),
    ]) {
      expect([answer.status, answer.body.code]).toEqual([409, "direct_room_fixed"]);
    }
    const emil = api.as(await tokenOf(api, "emil"));
    expect((await emil.delete(`/rooms/${room.id}/members/emil`)).status).toBe(403);
    expect((await emil.delete(`/rooms/${room.id}/members/dora`)).status).toBe(403);
    expect((await api.delete(`/rooms/${room.id}/members/dora`)).status).toBe(204);
    expect((await api.put(`/rooms/${room.id}/members/dora`, {})).status).toBe(201);
  });

  test("of the same two is the one that they have, in either order", async () => {
    const { body: room } = await api.post("/rooms", two("gina", "hans"));
    await api.patch(`/rooms/${room.id}`, { description: "Ours" });
    const again = await api.post("/rooms", two("hans", "gina", { name: "Other" }));
    expect([again.status, again.body.id, again.body.description]).toEqual([200, room.id, "Ours"]);
    const hans = api.as(await tokenOf(api, "hans"));
    const own = await hans.post("/rooms", { name: "Mine", kind: "direct", members: [{ user_id: "gina" }] });
    expect([own.status, own.body.id]).toEqual([200, room.id]);
    await api.delete(`/rooms/${room.id}`);
    const fresh = await api.post("/rooms", two("gina", "hans"));
    expect(fresh.status).toBe(201);
    expect(fresh.body.id).not.toBe(room.id);
  });

  test("is made once when both ask at the same time", async () => {
    const answers = await Promise.all(
      Array.from({ length: 6 }, (_, n) => api.post("/rooms", n % 2 === 0 ? two("ida", "jan") : two("jan", "ida"))),
    );
    expect(statuses(answers)).toEqual([200, 200, 200, 200, 200, 201]);
    expect(new Set(answers.map((answer) => answer.body.id)).size).toBe(1);
  });
});
