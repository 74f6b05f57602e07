// What is beside the API in development mode: probes, metrics, pages, the mailbox; and what a fault of ours looks like.
import { createTransport } from "nodemailer";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createHttpServer } from "../../../src/api/http/app.ts";
import { route, routesOf } from "../../../src/api/http/route.ts";
import { PROBLEMS } from "../../../src/contract/errors.ts";
import { newClient, until } from "../../e2e/support/api.ts";
import { type RawAnswer, raw } from "../../support/raw.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const get = (path: string, headers: Record<string, string> = {}) => raw(server.url, path, { headers });
const policyOf = ({ headers }: RawAnswer) => String(headers["content-security-policy"]);

describe("probes", () => {
  test("show each part and its lag", async () => {
    // A machine that is busy may not be ready at every moment.
    const { status, body } = await until(
      () => get("/readyz"),
      (answer) => answer.status === 200,
    );
    expect([status, body.status], JSON.stringify(body)).toEqual([200, "ready"]);
    expect(body.parts.read_models).toMatchObject({ ok: true, state: expect.any(String), lag: expect.any(Number) });
    expect(body.parts.store).toEqual({ ok: true });
  });

  test("say 503 when a part fails, hangs or throws", { timeout: 15_000 }, async () => {
    const bad = {
      failing: () => ({ ok: false, detail: { why: "down" } }),
      throwing: () => {
        throw new Error("broken");
      },
      hanging: () => new Promise<never>(() => {}),
    };
    const http = createHttpServer(server.services, [], { probes: bad });
    const url = await listen(http.server);
    const { status, body } = await raw(url, "/readyz");
    expect([status, body.status]).toEqual([503, "not_ready"]);
    expect(body.parts).toMatchObject({
      failing: { ok: false, why: "down" },
      throwing: { ok: false, error: "broken" },
      hanging: { ok: false, error: "no answer in time" },
    });
    http.server.close();
  });
});

const listen = async (http: { listen(port: number, host: string, done: () => void): unknown; address(): unknown }) => {
  await new Promise<void>((resolve) => {
    http.listen(0, "127.0.0.1", resolve);
  });
  return `http://127.0.0.1:${(http.address() as { port: number }).port}`;
};

test("a fault of ours is logged once with the request's id, and shown to nobody", async () => {
  const broken = route("GET", "/broken", {
    summary: "Break",
    description: "Breaks.",
    access: { kind: "keyOrUser", scope: null },
    responses: { 200: null },
    handle: async () => {
      throw new Error("the secret is open sesame");
    },
  });
  const { key } = await newClient(server.url);
  const http = createHttpServer(server.services, routesOf("rooms", { broken }));
  const url = await listen(http.server);
  const before = server.logged.length;
  const headers = { authorization: `Bearer ${key}`, "x-request-id": "broken-1" };
  const answer = await raw(url, "/api/v1/broken", { headers });
  expect([answer.status, answer.body.code, answer.body.request_id]).toEqual([500, "internal", "broken-1"]);
  expect(answer.text).not.toMatch(/secret|sesame|Error|at /);
  const lines = server.logged.slice(before).filter((line) => JSON.stringify(line).includes("broken-1"));
  expect(lines).toEqual([expect.objectContaining({ level: 50, request_id: "broken-1", method: "GET" })]);
  expect(JSON.stringify(lines)).not.toContain(key);
  http.server.close();
});

describe("pages", () => {
  test("load nothing, run nothing, and stand in no frame", async () => {
    for (const path of ["/docs", "/docs/errors", "/dev/mailbox"]) {
      const page = await get(path, { accept: "text/html" });
      expect([page.status, page.headers["content-type"]], path).toEqual([200, "text/html; charset=utf-8"]);
      expect(policyOf(page)).toMatch(/default-src 'none'.*frame-ancestors 'none'/);
      expect(policyOf(page)).not.toMatch(/script-src|unsafe/);
      expect(page.headers["x-content-type-options"]).toBe("nosniff");
      expect(page.text).not.toMatch(/<script|javascript:| on[a-z]+=|https?:\/\/(?!127)/i);
    }
    const home = await get("/");
    expect([home.status, home.headers.location]).toEqual([302, "/docs"]);
  });

  test("describe every route and every error", async () => {
    const reference = (await get("/docs")).text;
    for (const path of ["/api/v1/clients", "/api/v1/rooms/:room_id/messages", "/api/v1/users/:user_id/tokens"]) {
      expect(reference).toContain(`<code>${path}</code>`);
    }
    const errors = (await get("/docs/errors/")).text;
    for (const code of Object.keys(PROBLEMS)) expect(errors).toContain(`id="${code}"`);
  });
});

describe("the development mailbox", () => {
  const send = async (subject: string, to: string) => {
    const { host, port } = server.mailbox ?? { host: "", port: 0 };
    const transport = createTransport({ host, port, ignoreTLS: true });
    await transport.sendMail({
      from: "a@example.com",
      to,
      subject,
      text: "plain",
      html: `<script>alert(1)</script><b>bold</b>`,
    });
    transport.close();
  };

  test("lists mails, newest first, by recipient", async () => {
    await send("One", "one@example.com");
    await send("Two", "two@example.com");
    const { body } = await get("/dev/mailbox");
    expect(body.data.map(({ subject }: { subject: string }) => subject)).toEqual(["Two", "One"]);
    const filtered = await get("/dev/mailbox?to=ONE%40example.com");
    expect(filtered.body.data).toEqual([body.data[1]]);
    expect((await get(`/dev/mailbox/${body.data[0].id}`)).body).toEqual(body.data[0]);
    const bytes = await get(`/dev/mailbox/${body.data[0].id}/raw`);
    expect([bytes.headers["content-type"], bytes.text]).toEqual([
      "text/plain; charset=utf-8",
      expect.stringContaining("Subject: Two"),
    ]);
  });

  test("shows a mail's markup only in a frame that runs nothing", async () => {
    await send("<img src=x onerror=alert(1)>", "three@example.com");
    const { body } = await get("/dev/mailbox");
    const page = await get("/dev/mailbox", { accept: "text/html,*/*" });
    expect(page.text).toContain("&lt;img src=x");
    expect(page.text).not.toContain("<b>bold</b>");
    const frames = page.text.match(/<iframe[^>]*>/g) ?? [];
    expect(frames.length).toBe(body.data.length);
    for (const frame of frames)
      expect(frame).toMatch(/^<iframe sandbox loading="lazy" [^>]*src="\/dev\/mailbox\/[^"]+\/html">$/);
    const mail = await get(`/dev/mailbox/${body.data[0].id}/html`);
    expect(policyOf(mail)).toMatch(/^sandbox; default-src 'none'/);
    expect(policyOf(mail)).toContain("frame-ancestors 'self'");
    expect(mail.text).toContain("<b>bold</b>");
  });

  test("is emptied, and knows what it does not have", async () => {
    const { body } = await get("/dev/mailbox");
    expect((await raw(server.url, "/dev/mailbox", { method: "DELETE" })).status).toBe(204);
    expect((await get("/dev/mailbox")).body).toEqual({ data: [] });
    for (const path of ["", "/raw", "/html", "/else"]) {
      const answer = await get(`/dev/mailbox/${body.data[0].id}${path}`);
      expect([answer.status, answer.body.code], path).toEqual([404, "not_found"]);
    }
    expect((await raw(server.url, "/dev/mailbox", { method: "POST" })).headers.allow).toBe("GET, HEAD, DELETE");
  });
});
