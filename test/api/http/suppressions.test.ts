// The list of addresses that a client's mails do not go to, what puts them there, and what becomes of mails to them.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Api, type Body, newClient, notificationUntil } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api & { readonly id: string };
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
});
afterAll(() => server[Symbol.asyncDispose]());

const send = async (to: string, more: Body = {}): Promise<Body> => {
  const about = { type: "email", to_email: to, subject: "Hello", content: "Hello" };
  const { body, status } = await api.post("/notifications", { ...about, ...more });
  expect(status, JSON.stringify(body)).toBe(202);
  return notificationUntil(api, body.id, (one) => !["pending", "processing"].includes(one.status));
};
describe("the list", () => {
  test("takes addresses by hand, shows them in lower case, and gives them up again", async () => {
    const put = await api.put("/suppressions/Former@Example.com", { reason: "manual" });
    expect(put.status).toBe(201);
    expect(put.body).toEqual({
      ...{ email: "former@example.com", reason: "manual", category: null, delivery_id: null },
      created_at: expect.any(String),
    });
    const again = await api.put("/suppressions/former@example.com", { reason: "manual" });
    expect({ status: again.status, body: again.body }).toEqual({ status: 200, body: put.body });
    expect((await api.get("/suppressions/FORMER@example.com")).body).toEqual(put.body);
    expect((await api.get("/suppressions?search=ORMER@")).body).toEqual({ data: [put.body], next_cursor: null });
    expect((await api.get("/suppressions?reason=bounced,complained")).body.data).toEqual([]);
    expect((await send("former@EXAMPLE.com")).deliveries[0]).toMatchObject({
      ...{ status: "suppressed", attempt_count: 0, error: { code: "suppressed" } },
    });
    expect((await api.delete("/suppressions/former@example.com")).status).toBe(204);
    expect((await api.get("/suppressions/former@example.com")).status).toBe(404);
    expect((await api.delete("/suppressions/former@example.com")).status).toBe(404);
    expect((await send("former@example.com")).status).toBe("sent");
  });

  test("is a client's own", async () => {
    await api.put("/suppressions/own@example.com", { reason: "manual" });
    const other = await newClient(server.url);
    expect((await other.get("/suppressions/own@example.com")).status).toBe(404);
    expect((await other.get("/suppressions")).body.data).toEqual([]);
    expect((await other.delete("/suppressions/own@example.com")).status).toBe(404);
    expect((await api.get("/suppressions/own@example.com")).status).toBe(200);
  });

  test("refuses what is no address, and other reasons", async () => {
    expect((await api.put("/suppressions/nobody", { reason: "manual" })).body.code).toBe("validation_failed");
    expect((await api.put("/suppressions/a@example.com", { reason: "bounced" })).status).toBe(422);
    expect((await api.get("/suppressions?reason=spite")).status).toBe(422);
  });
});
