// Nothing that a tenant can set makes this server connect to a private address: not when it is set, not when it is used.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { httpServer } from "../channels/servers.ts";
import { apiOf, type Body, notificationUntil, until } from "../e2e/support/api.ts";
import { testDatabase } from "../support/postgres.ts";
import { ADMIN_KEY, encryptionKey, production, startTestServer, type TestServer } from "../support/server.ts";
import { countSockets, type Inside, inside, inUrl, outward, resolver, strictGuard } from "./support/outward.ts";
import { ODD_URLS, OTHER_PORTS, PRIVATE_V4, PRIVATE_V6, spellingsOf, spellingsOfV6 } from "./support/ssrf-targets.ts";

const PUBLIC = "93.184.215.14";
const REDIRECTS = [301, 302, 303, 307, 308];

let private_: Inside;
let cases = 0;
beforeAll(async () => {
  private_ = await inside();
});
afterAll(async () => {
  console.log(`SSRF: ${cases} attempts to reach what is not public, ${private_.connections() - allowed} connections`);
  await private_[Symbol.asyncDispose]();
});
/** Connections that a test meant to be made. */
let allowed = 0;
const reached = () => private_.connections() - allowed;

describe("what counts connections", () => {
  test("sees one by webhook, by mail and by a provider's trial, in each spelling of loopback, where it is allowed", async () => {
    const names = resolver();
    await using out = outward(strictGuard(names, ["127.0.0.0/8", "::1"]));
    const hosts = ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "１２７.0.0.1", "[::1]", "[::ffff:127.0.0.1]"];
    using sockets = countSockets();
    for (const host of hosts) {
      await out.webhook(`http://${host}:${private_.port}/`);
      await out.mail(host, private_.port);
      await out.verify(host, private_.port);
    }
    await until(
      async () => private_.connections(),
      (count) => count >= hosts.length * 3,
    );
    allowed = private_.connections();
    expect(allowed).toBeGreaterThanOrEqual(hosts.length * 3);
    expect(sockets.opened()).toBe(allowed);
  });
});

/** Each way out, tried on hosts that are private literals: what got through, as sentences. */
async function leaksOf(hosts: readonly (readonly [how: string, host: string])[]): Promise<readonly string[]> {
  const names = resolver();
  const guard = strictGuard(names);
  await using out = outward(guard);
  using sockets = countSockets();
  const leaks: string[] = [];
  const { port } = private_;
  for (const [how, host] of hosts) {
    const url = `http://${inUrl(host)}:${port}/`;
    const ways: readonly (readonly [string, () => Promise<boolean>])[] = [
      ["a webhook is set", async () => guard.checkUrl(url).ok],
      ["a webhook over TLS is set", async () => guard.checkUrl(url.replace("http", "https")).ok],
      ["a provider is set", async () => (await guard.checkHost(host)).ok],
      ["a webhook is sent", async () => (await out.webhook(url)).error?.code === undefined],
      ["a mail is sent", async () => (await out.mail(host, port)).error?.code !== "address_not_allowed"],
      ["a provider is tried", () => out.verify(host, port)],
    ];
    for (const [what, leaks_] of ways) {
      const opened = sockets.opened();
      cases += 1;
      if (await leaks_()) leaks.push(`${what}: ${host} (${how})`);
      if (sockets.opened() !== opened) leaks.push(`${what}, a socket is opened: ${host} (${how})`);
    }
  }
  if (names.asked.length > 0) leaks.push(`taken for names: ${names.asked.join(", ")}`);
  return leaks;
}

describe("a private literal", () => {
  test.each(PRIVATE_V4)("%s (%s), in each spelling", async (address) => {
    expect(await leaksOf(spellingsOf(address))).toEqual([]);
    expect(reached()).toBe(0);
  });

  test.each(PRIVATE_V6)("%s (%s), in each spelling", async (address) => {
    expect(await leaksOf(spellingsOfV6(address))).toEqual([]);
    expect(reached()).toBe(0);
  });
});

describe("a URL", () => {
  test.each(ODD_URLS)("%j", async (template) => {
    const names = resolver({ "public.example": [[PUBLIC]] });
    const guard = strictGuard(names);
    await using out = outward(guard);
    using sockets = countSockets();
    const url = template.replaceAll("PORT", String(private_.port));
    cases += 2;
    expect(guard.checkUrl(url)).toMatchObject({ ok: false });
    expect(await out.webhook(url)).toMatchObject({ outcome: "transient", response: null });
    expect([sockets.opened(), reached()]).toEqual([0, 0]);
  });

  test.each(OTHER_PORTS)("with another protocol's port, %i, of a public host", async (port) => {
    const guard = strictGuard(resolver({ "public.example": [[PUBLIC]] }));
    await using out = outward(guard);
    using sockets = countSockets();
    const url = `http://public.example:${port}/`;
    cases += 2;
    expect(guard.checkUrl(url)).toMatchObject({ ok: false, code: "not_allowed" });
    expect(await out.webhook(url)).toMatchObject({ error: { code: "invalid_target" } });
    expect(sockets.opened()).toBe(0);
  });
});

describe("a name", () => {
  test.each([...PRIVATE_V4, ...PRIVATE_V6])(
    "that was public when it was set, and is %s (%s) when it is used",
    async (address) => {
      const names = resolver({
        "hook.example": [[address], [PUBLIC, address], [address, PUBLIC]],
        "mail.example": [[PUBLIC], [address], [PUBLIC, address], [address]],
      });
      const guard = strictGuard(names);
      await using out = outward(guard);
      using sockets = countSockets();
      const { port } = private_;
      cases += 6;
      expect(guard.checkUrl(`http://hook.example:${port}/`)).toEqual({ ok: true });
      expect(await guard.checkHost("mail.example")).toEqual({ ok: true });
      for (let attempt = 1; attempt <= 3; attempt += 1) {
        const result = await out.webhook(`http://hook.example:${port}/`);
        expect(result).toMatchObject({ outcome: "transient", error: { code: "address_not_allowed" } });
      }
      for (let attempt = 1; attempt <= 2; attempt += 1) {
        expect(await out.mail("mail.example", port)).toMatchObject({ error: { code: "address_not_allowed" } });
      }
      expect(await out.verify("mail.example", port)).toBe(false);
      expect([sockets.opened(), reached()]).toEqual([0, 0]);
    },
  );

  test("is looked up once an attempt: what is connected to is what was checked", async () => {
    const names = resolver({ "hook.example": [["127.0.0.9"], ["127.0.0.1"], ["127.0.0.9"]] });
    await using out = outward(strictGuard(names, ["127.0.0.9"]));
    cases += 3;
    const before = private_.connections();
    await out.webhook(`http://hook.example:${private_.port}/`);
    await until(
      async () => private_.connections(),
      (count) => count > before,
    );
    allowed += private_.connections() - before;
    expect(names.asked).toEqual(["hook.example"]);
    expect(await out.webhook(`http://hook.example:${private_.port}/`)).toMatchObject({
      error: { code: "address_not_allowed" },
    });
    expect(reached()).toBe(0);
  });

  test.each(["localhost", "LOCALHOST", "localhost.", "ip6-localhost"])("of this machine itself: %s", async (host) => {
    const guard = strictGuard(resolver({ localhost: [["127.0.0.1", "::1"]], "ip6-localhost": [["::1"]] }));
    await using out = outward(guard);
    using sockets = countSockets();
    cases += 4;
    expect(await guard.checkHost(host)).toMatchObject({ ok: false, code: "not_allowed" });
    expect(await out.webhook(`http://${host}:${private_.port}/`)).toMatchObject({ response: null });
    expect(await out.mail(host, private_.port)).toMatchObject({ error: { code: "address_not_allowed" } });
    expect(await out.verify(host, private_.port)).toBe(false);
    expect(sockets.opened()).toBe(0);
  });
});

describe("a redirect", () => {
  test.each(REDIRECTS)(
    "by %i to a private address, or to a public one, is an answer and not followed",
    async (status) => {
      const { port } = private_;
      const targets = [
        ...[`http://127.0.0.2:${port}/`, `http://[::1]:${port}/`, `http://127.0.0.1:${port}/allowed`, "//127.0.0.1/"],
        ...["http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "gopher://127.0.0.1:25/", "/again"],
      ];
      let asked = 0;
      await using receiver = await httpServer((_request, response) => {
        const location = targets[asked] ?? "/";
        asked += 1;
        response.writeHead(status, { location, refresh: `0; url=${location}` }).end();
      });
      await using out = outward(strictGuard(resolver(), ["127.0.0.1"]));
      for (const _target of targets) {
        cases += 1;
        const result = await out.webhook(`http://127.0.0.1:${receiver.port}/`);
        expect(result).toMatchObject({
          outcome: "transient",
          response: { status },
          error: { code: "unexpected_status" },
        });
      }
      expect(asked).toBe(targets.length);
      expect(reached()).toBe(0);
    },
  );
});

const provider = (host: string, port: number): Body => ({
  ...{ type: "smtp", config: { host, port, security: "none" }, from_email: "me@example.com" },
});
const webhook = (url: string, more: Body = {}): Body => ({ type: "webhook", url, content: { a: 1 }, ...more });

describe("a started server", () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer({ config: production });
  });
  afterAll(() => server[Symbol.asyncDispose]());

  test("refuses each target when it is set, and has no event of it", async () => {
    const { body: client } = await apiOf(server.url, ADMIN_KEY).post("/clients", { name: "A" });
    const api = apiOf(server.url, client.api_key);
    const { port } = private_;
    const before = await server.services.store.tail();
    const hosts = [
      ...spellingsOf("127.0.0.1"),
      ...PRIVATE_V4.map(([address]) => ["dotted", address] as const),
      ...PRIVATE_V6.map(([address]) => ["bracketed", `[${address}]`] as const),
      ["a name of this machine", "localhost"] as const,
    ];
    const taken: string[] = [];
    const note = (what: string, answer: { status: number }) => {
      cases += 1;
      if (answer.status !== 422) taken.push(`${what}: ${answer.status}`);
    };
    for (const [how, host] of hosts) {
      const url = `http://${inUrl(host)}:${port}/`;
      note(`webhook ${url} (${how})`, await api.post("/notifications", webhook(url)));
      note(`provider ${host} (${how})`, await api.put("/email-providers/main", provider(host, port)));
    }
    for (const template of ODD_URLS) {
      const url = template.replaceAll("PORT", String(port));
      note(`webhook ${url}`, await api.post("/notifications", webhook(url)));
    }
    const second = { type: "webhook", urls: ["http://93.184.215.14/", "http://93.184.215.14:25/"], content: 1 };
    note("the second of two URLs of one host", await api.post("/notifications", second));
    expect(taken).toEqual([]);
    expect(await server.services.store.tail()).toBe(before);
    expect(reached()).toBe(0);
  });
});

test("what was allowed when it was set, and no longer is when its time comes, is not connected to", async () => {
  await using database = await testDatabase();
  const env = { ENCRYPTION_KEYS: encryptionKey(), RETRY_SCHEDULE: "1s,1s", RETRY_JITTER: "0" };
  const ids: string[] = [];
  let key = "";
  const later = new Date(Date.now() + 6_000).toISOString();
  {
    const config = { ...production, outboundAllow: ["127.0.0.0/8"] };
    await using server = await startTestServer({ env, config, databaseUrl: database.url });
    const { body: client } = await apiOf(server.url, ADMIN_KEY).post("/clients", { name: "A" });
    key = client.api_key;
    const api = apiOf(server.url, key);
    const set = await api.put("/email-providers/main", provider("127.0.0.1", private_.port));
    expect(set.status, JSON.stringify(set.body)).toBe(201);
    const mail = { type: "email", to_email: "a@example.com", subject: "Hi", content: "Hello", send_at: later };
    for (const asked of [webhook(`http://127.0.0.1:${private_.port}/`, { send_at: later }), mail]) {
      const { status, body } = await api.post("/notifications", asked);
      expect(status, JSON.stringify(body)).toBe(202);
      ids.push(body.id);
    }
    expect(reached()).toBe(0);
  }
  await using server = await startTestServer({ env, config: production, databaseUrl: database.url });
  const api = apiOf(server.url, key);
  for (const id of ids) {
    cases += 1;
    const done = await notificationUntil(api, id, (body) => body.status === "failed", 20_000);
    const [delivery] = done.deliveries;
    expect(delivery).toMatchObject({ status: "exhausted", attempt_count: 3 });
    const codes = delivery.attempts.map((one: Body) => one.error.code);
    expect(codes).toEqual(["address_not_allowed", "address_not_allowed", "address_not_allowed"]);
  }
  cases += 1;
  expect((await api.post("/email-providers/main/verify", {})).body).toMatchObject({ ok: false, stage: "resolve" });
  expect(reached()).toBe(0);
});
