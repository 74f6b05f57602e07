// The main job, to the letter: from nothing to a chat room that pushes live and a notification that arrives.
import { describe, expect, test } from "vitest";
import { sized } from "../support/size.ts";
import { apiOf, type Body, notificationUntil, tokenOf, until } from "./support/api.ts";
import type { Opened } from "./support/setups.ts";
import { connect, subscribe } from "./support/socket.ts";

/** The tests of it, on a set-up with a client. */
export function mainJob(given: Opened): void {
  const seqs = (frames: readonly Body[]) => frames.filter((frame) => frame.type === "event").map((frame) => frame.seq);

  test("a client, an email notification, and the mail is in the development mailbox", async () => {
    const mine = await given.setup.newClient("My App");
    const asked = await mine.post("/notifications", {
      type: "email",
      to_email: "user@example.com",
      subject: "Welcome!",
      content: "<h1>Welcome to our platform!</h1>",
      email_fallback: { enabled: true },
    });
    expect(asked.status).toBe(202);
    const [mail]: readonly Body[] = await until(
      () => given.setup.mails("user@example.com"),
      (all) => all.length > 0,
    );
    expect(mail).toMatchObject({ subject: "Welcome!" });
    expect(mail.html).toContain("<h1>Welcome to our platform!</h1>");
    expect(mail.text.toLowerCase()).toContain("welcome to our platform!");

    const sent = await notificationUntil(mine, asked.body.id, (body) => body.status === "sent");
    expect(sent).toMatchObject({
      status: "sent",
      deliveries_total: 1,
      deliveries: [{ status: "sent", attempt_count: 1 }],
    });
    const timeline = await mine.get(`/notifications/${asked.body.id}/timeline`);
    expect(timeline.body.data.map((event: Body) => event.type)).toEqual([
      "NotificationRequested",
      "NotificationReleased",
      "DeliveryRequested",
      "NotificationRouted",
      "DeliveryAttemptStarted",
      "DeliverySucceeded",
    ]);
  });

  describe("a room", () => {
    test("pushes what is posted to both sockets, with the seq of the answer", async () => {
      const { body: room } = await given.api.post("/rooms", {
        name: "General",
        members: [{ user_id: "alice" }, { user_id: "bob" }],
      });
      await using alice = await connect(given.setup.url, await tokenOf(given.api, "alice"));
      await using bob = await connect(given.setup.other, await tokenOf(given.api, "bob"));
      await Promise.all([subscribe(alice, room.id), subscribe(bob, room.id)]);
      const posted = await given.api.post(`/rooms/${room.id}/messages`, { sender_id: "alice", content: "Hello!" });
      expect(posted.status).toBe(201);
      for (const socket of [alice, bob]) {
        const frame = await socket.next((one) => one.event === "message.posted");
        expect(frame).toMatchObject({
          room_id: room.id,
          seq: posted.body.seq,
          data: { id: posted.body.id, content: "Hello!" },
        });
      }
    });

    test("a socket that was cut while 500 messages came has every seq once, in order, while posting goes on", async () => {
      const { body: room } = await given.api.post("/rooms", {
        name: "Busy",
        members: [{ user_id: "alice" }, { user_id: "bob" }],
      });
      const token = await tokenOf(given.api, "bob");
      const post = (n: number) =>
        given.api.post(`/rooms/${room.id}/messages`, { sender_id: "alice", content: `message ${n}` });
      const first = await connect(given.setup.other, token);
      await subscribe(first, room.id, 0);
      await post(0);
      await first.next((frame) => frame.event === "message.posted");
      const seen = seqs(first.frames);
      first.cut();
      await first.closed;

      let posting = true;
      const going = (async () => {
        for (let n = 501; posting; n += 1) await post(n);
      })();
      for (let n = 1; n <= 500; n += 25) await Promise.all(Array.from({ length: 25 }, (_, k) => post(n + k)));
      await using second = await connect(given.setup.other, token);
      await subscribe(second, room.id, seen.at(-1));
      await second.next((frame) => frame.type === "caught_up");
      await Promise.all(Array.from({ length: 50 }, (_, n) => post(10_000 + n)));
      posting = false;
      await going;
      const { body: now } = await given.api.get(`/rooms/${room.id}`);
      await second.next((frame) => frame.seq === now.seq);
      expect([...seen, ...seqs(second.frames)]).toEqual(Array.from({ length: now.seq }, (_, n) => n + 1));
    });

    test("a deleted message's text is found nowhere but in the audit", async () => {
      const { body: room } = await given.api.post("/rooms", {
        name: "Regrets",
        members: [{ user_id: "alice" }, { user_id: "bob" }],
      });
      const secret = "the-words-that-were-taken-back";
      const { body: message } = await given.api.post(`/rooms/${room.id}/messages`, {
        sender_id: "alice",
        content: secret,
        meta: { note: secret },
      });
      await given.api.patch(`/rooms/${room.id}/messages/${message.id}`, { content: `${secret}, edited` });
      expect((await given.api.delete(`/rooms/${room.id}/messages/${message.id}`)).status).toBe(204);

      await using away = await connect(given.setup.other, await tokenOf(given.api, "bob"));
      await subscribe(away, room.id, 0);
      await away.next((frame) => frame.type === "caught_up");
      const answers = await Promise.all([
        given.api.get(`/rooms/${room.id}/messages`),
        given.api.get(`/rooms/${room.id}/messages?include_deleted=true`),
        given.api.get(`/rooms/${room.id}/messages/${message.id}`),
        given.api.get("/users/alice/rooms"),
        given.api.get("/users/bob/rooms"),
      ]);
      expect(JSON.stringify([answers.map((answer) => answer.body), away.frames])).not.toContain(secret);
      expect(answers[2].body).toMatchObject({ id: message.id, content: null, meta: {} });
      expect(seqs(away.frames)).toEqual([1, 2, 3, 4]);
      const audit = await given.api.get(`/audit/streams/${encodeURIComponent(`room-${room.id}`)}/events`);
      expect(JSON.stringify(audit.body)).toContain(secret);
    });
  });

  // In the long form embedded a thousand times, as promised; on servers the machine that tests is the bound.

  const times = given.name === "embedded" ? sized(100, 1_000) : sized(50, 200);

  test(`write, then read on another node with Read-After: the write is there, ${times} times`, async () => {
    const { body: room } = await given.api.post("/rooms", { name: "Quick", members: [{ user_id: "alice" }] });
    const other = apiOf(given.setup.other, given.api.key);
    for (let n = 0; n < times; n += 1) {
      const { body: message, headers } = await given.api.post(`/rooms/${room.id}/messages`, {
        sender_id: "alice",
        content: `message ${n}`,
      });
      const after = { "read-after": String(headers.get("position")) };
      // 503: the wait was too long, on a machine that is busy with other things.
      const read = await until(
        () => other.get(`/rooms/${room.id}/messages?limit=1`, after),
        ({ status }) => status !== 503,
      );
      expect(read.body.data[0]?.id).toBe(message.id);
    }
  }, 240_000);
}
