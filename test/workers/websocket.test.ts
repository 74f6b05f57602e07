// WebSocket deliveries: a room's members as they were, and how many may be open.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClientId, NotificationId, RoomId } from "../../src/contract/ids.ts";
import { reveal, seal } from "../../src/domain/event.ts";
import { roomDecider, roomStream } from "../../src/domain/room.ts";
import { deliveryId, deriveTail } from "../../src/event-store/derived-ids.ts";
import { until } from "../support/until.ts";
import { openWorld, type World } from "./world.ts";

const MAX_OPEN = 5;
let world: World;
let client: ClientId;
beforeAll(async () => {
  world = await openWorld({ limits: { maxOpenDeliveries: MAX_OPEN } });
  client = await world.client();
});
afterAll(() => world[Symbol.asyncDispose]());

const member = async (user: string) => {
  const subject = await world.keyring.subjectOfUser(client, user);
  return { subject, user: seal(user), name: null, meta: seal({}) };
};

describe("websocket deliveries", () => {
  test("a room's members at a seq, in pages, with their user ids wherever these are known", async () => {
    const room: RoomId = `room_${deriveTail("room", "audience")}`;
    const users = Array.from({ length: 130 }, (_, n) => `user${n}`);
    const members = await Promise.all(
      users.map(async (user) => ({ ...(await member(user)), role: "member" as const })),
    );
    const settings = {
      name: "Room",
      description: null,
      kind: "private",
      joinRole: "member",
      maxMembers: null,
      posting: "everyone",
      history: "all",
      meta: {},
    } as const;
    const run = (command: Parameters<typeof roomDecider.decide>[1]) =>
      world.commands.execute(roomDecider, roomStream(room), command, world.context(client));
    await run({ type: "Create", at: Date.now(), settings, externalId: null, members });
    // Some are known as users; `user1` leaves and `late` joins after the notification was accepted.
    for (const user of users.slice(0, 3)) await world.user(client, user);
    const actor = { type: "key", id: "key_1" } as const;
    const { state } = await world.commands.load(roomDecider, roomStream(room));
    const atSeq = state.status === "live" ? state.seq : 0;
    const subject = await world.keyring.subjectOfUser(client, "user1");
    await run({ type: "RemoveMember", at: Date.now(), actor, subject, user: "user1" });
    await run({ type: "SetMember", at: Date.now(), actor, member: await member("late"), role: null });
    await world.readSide.waitFor(await world.store.tail(), 5_000);
    const audience = { roomId: room, atSeq, count: users.length };
    const id = await world.notify(client, "websocket", [], { audience, roomId: room });
    await until(
      () => world.notification(id),
      ({ routed }) => routed,
    );
    const addressOf = async (user: string) => {
      const delivery = deliveryId(id, await world.keyring.subjectOfUser(client, user), "websocket");
      const state = await world.delivery(delivery);
      return state.status === "pending" ? reveal(state.request.address) : state.status;
    };
    expect(await Promise.all(users.map(addressOf))).toEqual(users);
    expect(await addressOf("late")).toBe("none");
  });

  test("past the limit the oldest open ones of a user expire", async () => {
    const ids: NotificationId[] = [];
    for (let n = 0; n < MAX_OPEN + 3; n += 1) ids.push(await world.notify(client, "websocket", ["busy"]));
    const subject = await world.keyring.subjectOfUser(client, "busy");
    const all = ids.map((id) => deliveryId(id, subject, "websocket"));
    const statuses = await until(
      async () => (await Promise.all(all.map((one) => world.delivery(one)))).map((state) => state.status),
      (states) => states.filter((status) => status === "expired").length === 3,
      15_000,
    );
    expect(statuses.filter((status) => status === "pending")).toHaveLength(MAX_OPEN);
    const requested = await Promise.all(
      all.map(async (one) => ({
        one,
        at: (await world.events(one))[0]?.position ?? "",
        ended: await world.types(one),
      })),
    );
    const oldestFirst = requested.toSorted((a, b) => (a.at < b.at ? -1 : 1));
    expect(oldestFirst.slice(0, 3).every(({ ended }) => ended.includes("DeliveryExpired"))).toBe(true);
  });

  test("past the limit the oldest with a fallback falls back, before its time, and does not expire", async () => {
    const fallback = { to: null, subject: null, content: null, afterMs: 3_600_000 };
    const subject = await world.user(client, "away", "away@example.com");
    const ids: NotificationId[] = [];
    for (let n = 0; n < MAX_OPEN + 2; n += 1) ids.push(await world.notify(client, "websocket", ["away"], { fallback }));
    const all = ids.map((id) => deliveryId(id, subject, "websocket"));
    await until(
      async () => (await Promise.all(all.map((one) => world.delivery(one)))).map((state) => state.status),
      (states) => states.filter((status) => status === "fell_back").length === 2,
      15_000,
    );
    const types = (await Promise.all(all.map((one) => world.types(one)))).flat();
    expect(types).not.toContain("DeliveryExpired");
    await until(
      () => world.mailbox.list({ to: "away@example.com" }).length,
      (mails) => mails === 2,
    );
  });
});
