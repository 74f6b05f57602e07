// What is beside the API in development mode: probes, metrics, pages, the mailbox; and what a fault of ours looks like.
import { createTransport } from "nodemailer";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createHttpServer } from "../../../src/api/http/app.ts";
import { route, routesOf } from "../../../src/api/http/route.ts";
import { CLOSE_REASONS, FAULT_CODES, PROBLEMS, SOCKET_ERROR_CODES } from "../../../src/contract/errors.ts";
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
    expect(body.parts.store).toEqual({ ok: true, state: "verified", problem: null });
  });

  test("say 503 when a part fails, hangs or throws", { timeout: 60_000 }, async () => {
    const bad = {
      failing: () => ({ ok: false, detail: { why: "down" } }),
      throwing: () => {
        throw new Error("broken");
      },
      hanging: () => new Promise<never>(() => {}),
    };
    const http = createHttpServer(server.services, [], { probes: bad });
    http.open();
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
  http.open();
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
  test("load nothing from elsewhere, run only their own script, and are framed by nobody", async () => {
    for (const path of ["/docs/errors", "/docs/guides", "/docs/guides/http", "/dev/mailbox"]) {
      const page = await get(path, { accept: "text/html" });
      expect([page.status, page.headers["content-type"]], path).toEqual([200, "text/html; charset=utf-8"]);
      expect(policyOf(page)).toMatch(/default-src 'none'.*frame-ancestors 'none'/);
      expect(policyOf(page)).not.toMatch(/unsafe|script-src 'self'/);
      expect(page.headers["x-content-type-options"]).toBe("nosniff");
      expect(page.text).not.toMatch(/javascript:| on[a-z]+="/i);
    }
    const reference = await get("/docs", { accept: "text/html" });
    expect(policyOf(reference)).toMatch(
      /default-src 'none'; script-src 'self'; .*connect-src 'self'.*frame-ancestors 'none'/,
    );
    const home = await get("/");
    expect([home.status, home.headers.location]).toEqual([302, "/docs"]);
  });

  test("the reference is a program from its package, compressed where that is accepted", async () => {
    const page = (await get("/docs")).text;
    const [, script = ""] = /src="(\/docs\/reference\.js[^"]*)"/.exec(page) ?? [];
    const plain = await fetch(server.url + script, { headers: { "accept-encoding": "identity" } });
    const packed = await fetch(server.url + script, { headers: { "accept-encoding": "gzip" } });
    expect(packed.headers.get("content-encoding")).toBe("gzip");
    expect(packed.headers.get("cache-control")).toContain("immutable");
    const bytes = Buffer.from(await plain.arrayBuffer());
    expect(bytes.equals(Buffer.from(await packed.arrayBuffer()))).toBe(true);
    expect(bytes.length).toBeGreaterThan(1_000_000);
    expect((await get("/docs/start.js")).text).toContain('"telemetry":false');
    expect((await get("/favicon.ico")).headers["content-type"]).toBe("image/svg+xml");
  });

  test("each code of a problem, a field, a socket and a close has its anchor and a remedy", async () => {
    const errors = (await get("/docs/errors/")).text;
    const codes = [...Object.keys(PROBLEMS), ...FAULT_CODES, ...SOCKET_ERROR_CODES, ...Object.keys(CLOSE_REASONS)];
    for (const code of codes) {
      expect(errors).toMatch(
        new RegExp(
          `<dt id="${code}">.*?</dt><dd><span class="soft">What to do:</span> [^<\\s]|<dt id="${code}">.*?What to do:</span> <code>`,
        ),
      );
    }
    expect(errors.replaceAll(/<style>.*?<\/style>/gs, "")).not.toContain("`");
  });

  test("a guide shows its code as code, leads to the other guides, and keeps what the tests need to itself", async () => {
    const guide = (await get("/docs/guides/http")).text;
    expect(guide).toContain('href="/docs/guides/websocket"');
    expect(guide).toContain("<code>/docs</code>");
    expect(guide.replaceAll(/<style>.*?<\/style>|<pre.*?<\/pre>/gs, "")).not.toMatch(/`|&lt;!--|\*\*/);
    expect((await get("/docs/guides/nothing")).status).toBe(404);
  });

  test("a problem is a small page for a browser, and JSON for everybody else", async () => {
    for (const [path, status, code] of [
      ["/nothing", 404, "not_found"],
      ["/api/v1/rooms", 401, "unauthenticated"],
    ] as const) {
      const page = await get(path, { accept: "text/html,application/xhtml+xml,*/*;q=0.8" });
      expect([page.status, page.headers["content-type"], page.headers.vary]).toEqual([
        status,
        "text/html; charset=utf-8",
        "Accept",
      ]);
      expect(page.text).toContain(`href="/docs/errors#${code}"`);
      expect(policyOf(page)).toContain("default-src 'none'");
      for (const accept of ["*/*", "application/json"]) expect((await get(path, { accept })).body.code).toBe(code);
    }
    const named = await get("/x%3Cscript%3Ealert(1)%3C/script%3E", { accept: "text/html" });
    expect(named.text).not.toContain("<script>");
    const posted = await raw(server.url, "/nothing", { method: "POST", headers: { accept: "text/html" } });
    expect(posted.body.code).toBe("not_found");
  });
});

describe("the development mailbox", () => {
  const send = async (subject: string, to: string) => {
    const { host, port } = server.mailbox ?? { host: "", port: 0 };
    const transport = createTransport({ host, port, ignoreTLS: true });
    const html = `<script>alert(1)</script><b>bold</b>`;
    await transport.sendMail({ from: "a@example.com", to, subject, text: "plain", html });
    transport.close();
  };

  test("lists mails, newest first, by recipient", async () => {
    await send("One", "one@example.com");
    await send("Two", "two@example.com");
    const { body } = await get("/dev/mailbox");
    expect(body.data.map(({ subject }: { subject: string }) => subject)).toEqual(["Two", "One"]);
    const filtered = await get("/dev/mailbox?to=ONE%40example.com");
    expect(filtered.body.data).toEqual([body.data[1]]);
    expect((await get(`/dev/mailbox?after=${body.data[1].id}`)).body.data).toEqual([body.data[0]]);
    expect((await get(`/dev/mailbox/${body.data[0].id}`)).body).toEqual(body.data[0]);
    const bytes = await get(`/dev/mailbox/${body.data[0].id}/raw`);
    expect([bytes.headers["content-type"], bytes.text]).toEqual([
      "text/plain; charset=utf-8",
      expect.stringContaining("Subject: Two"),
    ]);
  });

  test("waits for a mail as long as it is told to, and at most 30 seconds", async () => {
    const waiting = get("/dev/mailbox?to=later@example.com&wait_seconds=20");
    await send("Later", "later@example.com");
    expect((await waiting).body.data.map(({ subject }: { subject: string }) => subject)).toEqual(["Later"]);
    expect((await get("/dev/mailbox?to=nobody@example.com&wait_seconds=1")).body.data).toEqual([]);
    for (const [value, code] of [
      ["31", "too_large"],
      ["-1", "wrong_type"],
      ["x", "wrong_type"],
    ]) {
      const { status, body } = await get(`/dev/mailbox?wait_seconds=${value}`);
      expect([status, body.errors]).toEqual([422, [expect.objectContaining({ path: "?wait_seconds", code })]]);
    }
  });

  test("shows a mail's markup only in a frame that runs nothing", async () => {
    await send("<img src=x onerror=alert(1)>", "three@example.com");
    const { body } = await get("/dev/mailbox");
    const list = await get("/dev/mailbox", { accept: "text/html,*/*" });
    const page = await get(`/dev/mailbox/${body.data[0].id}`, { accept: "text/html,*/*" });
    for (const { text } of [list, page]) {
      expect(text).toContain("&lt;img src=x");
      expect(text).not.toContain("<b>bold</b>");
    }
    expect(page.text.match(/<iframe[^>]*>/g)).toEqual([
      expect.stringMatching(/^<iframe sandbox title="[^"]+" src="\/dev\/mailbox\/[^"]+\/html">$/),
    ]);
    const mail = await get(`/dev/mailbox/${body.data[0].id}/html`);
    expect(policyOf(mail)).toMatch(/^sandbox; default-src 'none'/);
    expect(policyOf(mail)).toContain("frame-ancestors 'self'");
    expect(mail.text).toContain("<b>bold</b>");
  });

  test("deletes one, then all, for its own pages alone, and knows what it does not have", async () => {
    const { body } = await get("/dev/mailbox");
    const [first] = body.data;
    const foreign = { origin: "https://evil.example" };
    for (const path of ["/dev/mailbox", `/dev/mailbox/${first.id}`]) {
      const refused = await raw(server.url, path, { method: "DELETE", headers: foreign });
      expect([refused.status, refused.body.code]).toEqual([403, "forbidden"]);
    }
    const removed = () => raw(server.url, `/dev/mailbox/${first.id}`, { method: "DELETE" });
    expect([(await removed()).status, (await removed()).status]).toEqual([204, 404]);
    expect((await get("/dev/mailbox")).body.data).toEqual(body.data.slice(1));
    expect((await raw(server.url, "/dev/mailbox", { method: "DELETE" })).status).toBe(204);
    expect((await get("/dev/mailbox")).body).toEqual({ data: [] });
    for (const path of ["", "/raw", "/html", "/else"]) {
      const answer = await get(`/dev/mailbox/${body.data[0].id}${path}`);
      expect([answer.status, answer.body.code], path).toEqual([404, "not_found"]);
    }
    expect((await raw(server.url, "/dev/mailbox", { method: "POST" })).headers.allow).toBe("GET, HEAD, DELETE");
  });
});
