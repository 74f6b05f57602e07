// One-click unsubscribing: the page of a mail's link, what opening it changes (nothing), and what its button does.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Api, type Body, mails, newClient, notificationUntil } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url, "My <Shop>");
});
afterAll(() => server[Symbol.asyncDispose]());

const send = async (to: string, more: Body = {}): Promise<Body> => {
  const about = {
    type: "email",
    to_email: to,
    subject: "Hello",
    content: "Hello",
    category: "news",
    unsubscribe: true,
  };
  const { body, status } = await api.post("/notifications", { ...about, ...more });
  expect(status, JSON.stringify(body)).toBe(202);
  return notificationUntil(api, body.id, (one) => !["pending", "processing"].includes(one.status));
};
const linkOf = async ({ deliveries }: Body): Promise<URL> => {
  const [mail] = await mails(server.url, deliveries[0].recipient);
  expect(mail.headers["list-unsubscribe-post"]).toBe("List-Unsubscribe=One-Click");
  const [, link = ""] = /^<(.+)>$/.exec(mail.headers["list-unsubscribe"]) ?? [];
  expect(new URL(link).port).toBe(new URL(server.url).port);
  const raw = await (await fetch(`${server.url}/dev/mailbox/${mail.id}/raw`)).text();
  expect(raw).toContain(`List-Unsubscribe: <${link}>\r\n`);
  return new URL(new URL(link).pathname, server.url);
};
const post = (url: URL, body: string | FormData, headers: Record<string, string> = {}) =>
  fetch(url, { method: "POST", body, headers });
const FORM = { "content-type": "application/x-www-form-urlencoded" };
const listed = async (address: string) => (await api.get(`/suppressions/${address}`)).status === 200;

test("a scanner that follows the link changes nothing; the POST of a mail program ends the category for the address", async () => {
  const first = await send("ann@example.com");
  const url = await linkOf(first);
  for (const method of ["GET", "HEAD", "GET"]) {
    const page = await fetch(url, { method });
    expect(page.status).toBe(200);
    expect(page.headers.get("content-security-policy")).toContain("default-src 'none'");
    expect(page.headers.get("content-security-policy")).toContain("form-action 'self'");
    if (method === "GET") expect(await page.text()).toContain("My &lt;Shop&gt;");
  }
  expect(await listed("ann@example.com")).toBe(false);
  expect((await send("ann@example.com")).status).toBe("sent");

  const done = await post(url, "List-Unsubscribe=One-Click", FORM);
  expect(done.status).toBe(200);
  expect((await api.get("/suppressions/ann@example.com")).body).toMatchObject({
    ...{ reason: "unsubscribed", category: "news", delivery_id: first.deliveries[0].id },
  });
  const next = await send("Ann@example.com");
  expect(next.deliveries[0]).toMatchObject({ status: "suppressed", error: { code: "unsubscribed" }, attempt_count: 0 });
  expect((await send("ann@example.com", { category: "orders" })).status).toBe("sent");
  expect((await send("ann@example.com", { priority: "critical" })).status).toBe("sent");
  expect((await send("bob@example.com")).status).toBe("sent");

  const again = await post(url, "List-Unsubscribe=One-Click", FORM);
  expect(again.status).toBe(200);
  expect((await api.get("/suppressions?search=ann@")).body.data).toHaveLength(1);
});

test("the body may be a form in parts, and is nothing else", async () => {
  const url = await linkOf(await send("cleo@example.com"));
  for (const body of ["", "List-Unsubscribe=No", "Unsubscribe=One-Click"]) {
    expect((await post(url, body, FORM)).status).toBe(400);
  }
  expect((await post(url, "x".repeat(5_000), FORM)).status).toBe(413);
  expect(await listed("cleo@example.com")).toBe(false);
  const form = new FormData();
  form.set("List-Unsubscribe", "One-Click");
  expect((await post(url, form)).status).toBe(200);
  expect(await listed("cleo@example.com")).toBe(true);
});

test("a link that this server did not make is not found, by GET and by POST", async () => {
  const url = await linkOf(await send("dora@example.com"));
  const token = url.pathname.slice("/u/".length);
  const other = (await linkOf(await send("eve@example.com"))).pathname.slice("/u/".length);
  const flipped = `${token.slice(0, -1)}${token.endsWith("0") ? "1" : "0"}`;
  const mixed = other.slice(0, 26) + token.slice(26);
  for (const wrong of [flipped, mixed, token.slice(0, -1), `${token}0`, token.slice(0, 26), "x", "a".repeat(3_000)]) {
    const target = new URL(`/u/${wrong}`, server.url);
    expect((await fetch(target)).status).toBe(404);
    expect((await post(target, "List-Unsubscribe=One-Click", FORM)).status).toBe(404);
  }
  expect(await listed("dora@example.com")).toBe(false);
  expect(await listed("eve@example.com")).toBe(false);
});

test("it needs a category, and a place where its link leads", async () => {
  const about = { type: "email", to_email: "a@example.com", subject: "Hello", content: "Hello", unsubscribe: true };
  const { status, body } = await api.post("/notifications", about);
  expect({ status, path: body.errors[0].path }).toEqual({ status: 422, path: "category" });
});
