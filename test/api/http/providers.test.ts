// Email providers over HTTP: set, read without their secrets, tried out, removed.
import { createServer } from "node:net";
import { SMTPServer } from "smtp-server";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Api, type Body, newClient, notificationUntil, tokenOf } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
});
afterAll(() => server[Symbol.asyncDispose]());

const smtp = (config: Body = {}, more: Body = {}): Body => ({
  type: "smtp",
  config: { host: "127.0.0.1", port: 2_525, security: "none", ...config },
  from_email: "me@example.com",
  ...more,
});
const typed = (type: string, config: Body): Body => ({ type, config, from_email: "me@example.com" });
const faults = (body: Body) => body.errors?.map((one: Body) => `${one.path} ${one.code}`).toSorted();

/** A real SMTP server that knows one login; gives its port and the mails it took. */
async function mailServer(): Promise<AsyncDisposable & { port: number; mails: string[] }> {
  const mails: string[] = [];
  const smtpServer = new SMTPServer({
    disabledCommands: ["STARTTLS"],
    // The channel keeps its connections open.
    closeTimeout: 100,
    allowInsecureAuth: true,
    authOptional: true,
    onAuth: ({ username, password }, _session, done) =>
      password === "right" ? done(null, { user: username }) : done(new Error("wrong password")),
    onData: (stream, _session, done) => {
      let mail = "";
      stream.on("data", (bytes) => {
        mail += String(bytes);
      });
      stream.on("end", () => {
        mails.push(mail);
        done();
      });
    },
  });
  const listening = smtpServer.listen(0, "127.0.0.1");
  await new Promise((resolve) => listening.once("listening", resolve));
  const address = listening.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const close = () => new Promise<void>((resolve) => smtpServer.close(() => resolve()));
  return { port, mails, [Symbol.asyncDispose]: close };
}

describe("a provider", () => {
  test("is set, replaced, read without its secrets, and removed", async () => {
    const made = await api.put("/email-providers/main", smtp({ username: "me", password: "s3cret!" }));
    expect(made.status, JSON.stringify(made.body)).toBe(201);
    expect(made.body).toEqual({
      name: "main",
      type: "smtp",
      config: {
        ...{ host: "127.0.0.1", port: 2_525, username: "me", password: { set: true }, security: "none", dkim: null },
      },
      from_email: "me@example.com",
      from_name: null,
      from_domains: [],
      reply_to: null,
      use_for: ["single", "bulk"],
      order: 0,
      options: {
        ...{ rate_per_second: null, timeout_seconds: null, weight: null, return_path: null, tags: [] },
        ...{ track_opens: null, track_clicks: null },
      },
      events_url: null,
      health: { state: "up", since: expect.any(String), last_error: null },
    });
    expect(made.headers.get("location")).toBe("/api/v1/email-providers/main");
    const full = { from_name: "Me", reply_to: "you@example.com", use_for: ["bulk"], order: 2 };
    const options = { rate_per_second: 5, timeout_seconds: 10 };
    const body = { ...smtp({ security: "starttls" }), ...full, options };
    const replaced = await api.put("/email-providers/main", body);
    expect(replaced.status).toBe(200);
    expect(replaced.body).toMatchObject({
      ...full,
      options,
      config: { username: null, password: null, security: "starttls" },
    });
    const before = await server.services.store.tail();
    expect((await api.put("/email-providers/main", body)).body).toEqual(replaced.body);
    expect(await server.services.store.tail()).toBe(before);
    expect((await api.get("/email-providers/main")).body).toEqual(replaced.body);
    expect((await api.get("/clients/me")).body.email).toMatchObject({ configured: true });
    expect((await api.delete("/email-providers/main")).status).toBe(204);
    expect((await api.delete("/email-providers/main")).body.code).toBe("not_found");
    expect((await api.get("/email-providers/main")).body.code).toBe("not_found");
  });

  test("has its last change as ETag, and is changed and removed only if that is what the caller saw", async () => {
    const made = await api.put("/email-providers/tagged", smtp());
    const etag = made.headers.get("etag") ?? "";
    expect((await api.get("/email-providers/tagged")).headers.get("etag")).toBe(etag);
    await api.put("/email-providers/another", smtp());
    const at = "/email-providers/tagged";
    const changed = await api.call("PUT", at, smtp({ username: "you", password: "other" }), { "if-match": etag });
    expect(changed.status).toBe(200);
    expect(changed.headers.get("etag")).not.toBe(etag);
    for (const method of ["PUT", "DELETE"]) {
      const stale = await api.call(method, at, method === "PUT" ? smtp() : undefined, { "if-match": etag });
      expect([stale.status, stale.body.code]).toEqual([412, "precondition_failed"]);
    }
    const last = { "if-match": changed.headers.get("etag") ?? "" };
    expect((await api.call("DELETE", at, undefined, last)).status).toBe(204);
    await api.delete("/email-providers/another");
  });

  test("uses STARTTLS unless told otherwise", async () => {
    const config = { host: "127.0.0.1", port: 587 };
    const { body } = await api.put("/email-providers/plain", { type: "smtp", config, from_email: "me@example.com" });
    expect(body.config.security).toBe("starttls");
    await api.delete("/email-providers/plain");
  });

  test.each([
    ["main", smtp({ host: "10.0.0.1" }), ["config.host not_allowed"]],
    ["main", smtp({ host: "a b" }), ["config.host invalid_format"]],
    ["main", smtp({ port: 0 }), ["config.port too_small"]],
    ["main", smtp({ port: 65_536 }), ["config.port too_large"]],
    ["main", smtp({ port: "25" }), ["config.port wrong_type"]],
    ["main", smtp({ security: "ssl" }), ["config.security not_allowed"]],
    ["main", smtp({ password: "x" }), ["config.username required"]],
    ["main", smtp({ username: "a\r\nQUIT" }), ["config.username invalid_format"]],
    ["main", smtp({ api_key: "x" }), ["config.api_key unknown_field"]],
    ["main", { ...smtp(), type: "pigeon" }, ["type not_allowed"]],
    ["main", typed("mailgun", { domain: "a b" }), ["config.api_key required", "config.domain invalid_format"]],
    [
      "main",
      typed("sendgrid", { api_key: "a b", region: "us" }),
      ["config.api_key invalid_format", "config.region not_allowed"],
    ],
    [
      "main",
      typed("sendgrid", { api_key: "k", webhook_public_key: "x" }),
      ["config.webhook_public_key invalid_format"],
    ],
    ["main", typed("postmark", { server_token: "k", base_url: "http://10.0.0.1" }), ["config.base_url not_allowed"]],
    ["main", typed("postmark", { server_token: "k", base_url: "http://a.example/b" }), ["config.base_url not_allowed"]],
    ["main", typed("postmark", { server_token: "k", webhook_password: "p" }), ["config.webhook_username required"]],
    [
      "main",
      typed("ses", { access_key_id: "a", secret_access_key: "b", region: "Mars" }),
      ["config.region invalid_format"],
    ],
    [
      "main",
      smtp({ dkim: { domain: "a.example", selector: "s", private_key: "x" } }),
      ["config.dkim.private_key invalid_format"],
    ],
    [
      "main",
      smtp({}, { from_domains: ["a b"], options: { weight: 0 } }),
      ["from_domains.0 invalid_format", "options.weight too_small"],
    ],
    ["main", { ...smtp(), from_email: "me" }, ["from_email invalid_format"]],
    ["main", { ...smtp(), use_for: ["spam"] }, ["use_for.0 not_allowed"]],
    ["main", {}, ["config required", "from_email required", "type required"]],
    ["Main Server", smtp(), ["name invalid_format"]],
  ])("%s: %j is refused", async (name, body, expected) => {
    const answer = await api.put(`/email-providers/${encodeURIComponent(name)}`, body);
    expect(answer.status, JSON.stringify(answer.body)).toBe(422);
    expect(faults(answer.body)).toEqual(expected);
  });

  test("is the client's own; user tokens may not", async () => {
    await api.put("/email-providers/mine", smtp());
    const other = await newClient(server.url);
    expect((await other.get("/email-providers")).body).toEqual({ data: [], next_cursor: null });
    expect((await other.get("/email-providers/mine")).body.code).toBe("not_found");
    expect((await other.post("/email-providers/mine/verify")).body.code).toBe("not_found");
    expect((await other.delete("/email-providers/mine")).body.code).toBe("not_found");
    const user = api.as(await tokenOf(api, "ann"));
    expect((await user.get("/email-providers")).body.code).toBe("forbidden");
    await api.delete("/email-providers/mine");
  });

  test("lists come in the order in which they are tried, in pages", async () => {
    const mine = await newClient(server.url);
    for (const [name, order] of [
      ["c", 0],
      ["b", 1],
      ["a", 1],
    ] as const) {
      await mine.put(`/email-providers/${name}`, smtp({}, { order }));
    }
    const names: string[] = [];
    for (let cursor = ""; ; ) {
      const { body } = await mine.get(`/email-providers?limit=2${cursor}`);
      names.push(...body.data.map((one: Body) => one.name));
      if (body.next_cursor === null) break;
      cursor = `&cursor=${body.next_cursor}`;
    }
    expect(names).toEqual(["c", "a", "b"]);
  });
});

describe("trying one out", () => {
  test("logs in, and sends a test mail when asked to", async () => {
    await using target = await mailServer();
    await api.put("/email-providers/real", smtp({ port: target.port, username: "me", password: "right" }));
    const passed = await api.post("/email-providers/real/verify");
    expect(passed.body).toEqual({ ok: true, stage: "auth", code: null, message: null });
    expect(target.mails).toEqual([]);
    const sent = await api.post("/email-providers/real/verify", { to_email: "you@example.com" });
    expect(sent.body).toEqual({ ok: true, stage: "send", code: null, message: null });
    expect(target.mails[0]).toContain("To: you@example.com");
    const asked = await api.post("/notifications", {
      type: "email",
      to_email: "x@y.example",
      subject: "s",
      content: "c",
    });
    const done = await notificationUntil(api, asked.body.id, (body) => body.status === "sent");
    expect(done.deliveries[0].provider).toBe("real");
    await api.put("/email-providers/real", smtp({ port: target.port, username: "me", password: "wrong" }));
    const refused = await api.post("/email-providers/real/verify");
    expect(refused.status).toBe(200);
    expect(refused.body).toMatchObject({ ok: false, stage: "auth", code: "auth_failed" });
    await api.delete("/email-providers/real");
  });

  test("tells nothing of a server that speaks no SMTP", async () => {
    const chatty = createServer((socket) => void socket.write("-ERR secret banner of a database\r\n"));
    await new Promise<void>((resolve) => chatty.listen(0, "127.0.0.1", resolve));
    const address = chatty.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    await api.put("/email-providers/odd", smtp({ port }));
    const { body } = await api.post("/email-providers/odd/verify");
    expect(body).toMatchObject({ ok: false, stage: "connect" });
    expect(JSON.stringify(body)).not.toContain("secret banner");
    chatty.close();
    await api.delete("/email-providers/odd");
  });
});
