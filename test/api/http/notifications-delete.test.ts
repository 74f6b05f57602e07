// Deleting a notification: what is open is cancelled, words and addresses are gone wherever they were shown, the rest stays.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { notifications } from "../../../src/projections/models/notifications.ts";
import { tableName } from "../../../src/projections/projection.ts";
import { type Api, type Body, mails, newClient, notificationUntil, tokenOf, until } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";
import { SocketClient } from "../../support/socket-client.ts";

let server: TestServer;
let api: Api;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
});
afterAll(() => server[Symbol.asyncDispose]());

const send = async (body: object): Promise<Body> => {
  const answer = await api.post("/notifications", body);
  expect(answer.status).toBe(202);
  return answer.body;
};
/** Whatever the API shows of a notification, and of the client's events. */
const everything = async (id: string) => {
  const paths = [
    ...[`/notifications/${id}`, `/notifications?ids=${id}`, `/notifications/${id}/timeline?limit=100`],
    ...[`/audit/streams/notification-${id}/events`, `/audit/events?limit=100&notification_id=${id}`],
  ];
  const { body } = await api.get(`/notifications/${id}`);
  const own = body.deliveries.flatMap((one: Body) => [
    `/deliveries/${one.id}`,
    `/audit/streams/delivery-${one.id}/events`,
  ]);
  return JSON.stringify(await Promise.all([...paths, ...own].map(async (path) => (await api.get(path)).body)));
};
/** Once every delivery's erasure is recorded. */
const erased = (id: string) =>
  until(
    async () => {
      const { rows } = await server.storage.pool.query(
        `select erasing from read.${tableName(notifications)} where id = $1`,
        [id],
      );
      return rows[0];
    },
    (row) => row?.erasing === false,
  );
/** What the tables of the read models hold, in any column. */
async function stored(word: string): Promise<readonly string[]> {
  const { pool } = server.storage;
  const { rows } = await pool.query("select tablename from pg_tables where schemaname = 'read'");
  const found = [];
  for (const { tablename } of rows) {
    const { rowCount } = await pool.query(`select from read.${tablename} t where t::text like $1 limit 1`, [
      `%${word}%`,
    ]);
    if ((rowCount ?? 0) > 0) found.push(tablename);
  }
  return found;
}

describe("deleting a notification", () => {
  test("that was sent erases words and addresses everywhere, and keeps ids, statuses and times", async () => {
    const word = "platypus";
    const email = { type: "email", subject: `${word} s`, content: `${word} c`, text: `${word} t`, meta: { m: word } };
    const several = await send({ ...email, to_email: [`${word}1@example.com`, `${word}2@example.com`] });
    const single = await send({
      ...email,
      to: [{ email: `${word}3@example.com`, name: word }],
      reply_to: `${word}4@example.com`,
    });
    for (const { id } of [several, single]) {
      const before = await notificationUntil(api, id, ({ status }) => status === "sent");
      expect((await everything(id)).includes(word)).toBe(true);
      const answer = await api.delete(`/notifications/${id}`);
      expect([answer.status, answer.body]).toEqual([204, undefined]);
      expect((await everything(id)).includes(word)).toBe(false);
      await erased(id);
      expect((await everything(id)).includes(word)).toBe(false);
      const { body: after } = await api.get(`/notifications/${id}`);
      expect(after).toEqual({
        ...before,
        ...{ subject: null, content: null, meta: {}, updated_at: expect.any(String) },
        deliveries: before.deliveries.map((one: Body) => ({
          ...one,
          recipient: null,
          attempts: one.attempts.map((attempt: Body) => ({ ...attempt, response: null })),
        })),
      });
      const tail = await server.storage.store.tail();
      expect((await api.delete(`/notifications/${id}`)).status).toBe(204);
      expect(await server.storage.store.tail()).toBe(tail);
      expect((await api.post(`/notifications/${id}/retry`)).body.code).toBe("nothing_to_retry");
    }
    expect(await stored(word)).toEqual([]);
    // The key of several recipients' content is gone.
    const keys = await server.storage.pool.query("select 1 from keys.data_keys where owner = any($1)", [
      [several.id, single.id],
    ]);
    expect(keys.rowCount).toBe(0);
  });

  test("that is scheduled or open cancels it", async () => {
    const tomorrow = new Date(Date.now() + 86_400_000).toISOString();
    const later = await send({
      type: "websocket",
      user_ids: ["ann"],
      content: "later",
      send_at: tomorrow,
    });
    const open = await send({ type: "websocket", user_ids: ["ann", "bob"], content: "open", email_fallback: true });
    await notificationUntil(api, open.id, ({ deliveries }) => deliveries.length === 2);
    for (const { id } of [later, open]) expect((await api.delete(`/notifications/${id}`)).status).toBe(204);
    expect((await api.get(`/notifications/${later.id}`)).body.status).toBe("cancelled");
    const stopped = await notificationUntil(api, open.id, ({ status }) => status === "cancelled");
    expect(stopped.deliveries.map((one: Body) => [one.status, one.recipient])).toEqual([
      ["cancelled", null],
      ["cancelled", null],
    ]);
    await erased(open.id);
    using ann = await SocketClient.connect(server.url.replace("http", "ws"), await tokenOf(api, "ann"));
    await ann.ask({ type: "ping" });
    expect(ann.of("notification")).toEqual([]);
    const { body } = await api.get(`/audit/streams/notification-${later.id}/events`);
    expect(body.data.map((one: Body) => one.type)).toEqual([
      "NotificationRequested",
      "NotificationCancelled",
      "NotificationDeleted",
    ]);
  });

  test("of a moment ago sends nothing", async () => {
    const email = { type: "email", to_email: "moment@example.com", subject: "No", content: "No" };
    const made = await send({ ...email, send_at: new Date(Date.now() + 700).toISOString() });
    await api.delete(`/notifications/${made.id}`);
    await until(
      async () => Date.now() > Date.parse(made.send_at) + 500,
      (over) => over,
    );
    expect(await mails(server.url, "moment@example.com")).toEqual([]);
  });

  test("asks for the change that it rests on, and for one of the client's own", async () => {
    const { id } = await send({ type: "websocket", user_ids: ["ann"], content: "mine" });
    const stale = await api.call("DELETE", `/notifications/${id}`, undefined, { "if-match": '"99"' });
    expect([stale.status, stale.body.code]).toEqual([412, "precondition_failed"]);
    const other = await newClient(server.url);
    for (const as of [api.as(other.key ?? ""), api]) {
      expect((await as.delete(as === api ? "/notifications/ntf_unknown" : `/notifications/${id}`)).status).toBe(404);
    }
  });
});
