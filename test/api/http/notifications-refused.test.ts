// What is refused when a notification is asked for: every fault, by its path; and nothing is written.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Api, apiOf, type Body, newClient, tokenOf } from "../../e2e/support/api.ts";
import { ADMIN_KEY, production, startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
});
afterAll(() => server[Symbol.asyncDispose]());

const DAY = 86_400_000;
const iso = (offset: number) => new Date(Date.now() + offset).toISOString();
const email = { type: "email", to_email: "a@example.com", subject: "Hi", content: "Hello" };
const socket = { type: "websocket", user_ids: ["u"], content: "Hello" };
const hook = { type: "webhook", url: "http://127.0.0.1:8080/", content: {} };

const faultsOf = async (body: Body): Promise<string[]> => {
  const before = await server.services.store.tail();
  const { status, body: problem } = await api.post("/notifications", body);
  expect(status, JSON.stringify(problem)).toBe(422);
  expect(await server.services.store.tail()).toBe(before);
  if (problem.code !== "validation_failed") return [problem.code];
  return problem.errors.map((one: Body) => `${one.path} ${one.code}`).toSorted();
};

describe("faults", () => {
  const cases: readonly (readonly [string, Body, readonly string[]])[] = [
    ["no type", {}, ["type required"]],
    ["content of another kind", { ...email, content_type: "markdown" }, ["content_type not_allowed"]],
    ["a kind of content of another type", { ...socket, content_type: "text" }, ["content_type unknown_field"]],
    ["another type", { type: "pigeon" }, ["type not_allowed"]],
    ["an email with nothing", { type: "email" }, ["content required", "subject required"]],
    ["fields of another type", { ...socket, to_email: "a@b.example" }, ["to_email unknown_field"]],
    ["two kinds of targets", { ...email, recipients: ["b@example.com"] }, ["ambiguous_recipients"]],
    ["no target", { ...email, to_email: null }, ["ambiguous_recipients"]],
    ["a webhook to nowhere", { ...hook, url: undefined }, ["ambiguous_recipients"]],
    ["a socket for nobody", { ...socket, user_ids: undefined }, ["ambiguous_recipients"]],
    ["no recipients", { ...email, to_email: [] }, ["to_email too_short"]],
    [
      "too many recipients",
      { ...socket, user_ids: Array.from({ length: 1_001 }, (_, n) => `u${n}`) },
      ["user_ids too_long"],
    ],
    ["a subject of two lines", { ...email, subject: "a\r\nBcc: b" }, ["subject invalid_format"]],
    ["a blank subject", { ...email, subject: " \u3000\u200b\t" }, ["subject invalid_format"]],
    [
      "a blank subject of a fallback",
      { type: "websocket", user_ids: ["a"], content: "c", email_fallback: { subject: " " } },
      ["email_fallback.subject invalid_format"],
    ],
    ["a long subject", { ...email, subject: "x".repeat(256) }, ["subject too_long"]],
    ["no content", { ...email, content: "" }, ["content too_short"]],
    ["content that is no text", { ...socket, content: { a: 1 } }, ["content wrong_type"]],
    ["a webhook without content", { ...hook, content: undefined }, ["content required"]],
    ["too much content", { ...email, content: "é".repeat(140_000) }, ["content too_long"]],
    ["too much together", { ...email, content: "x".repeat(200_000), text: "x".repeat(100_000) }, ["content too_long"]],
    ["too much JSON", { ...hook, content: ["x".repeat(262_144)] }, ["content too_long"]],
    ["large meta", { ...email, meta: { a: "x".repeat(8_200) } }, ["meta too_long"]],
    ["a priority", { ...email, priority: "urgent" }, ["priority not_allowed"]],
    ["a far day", { ...email, send_at: iso(367 * DAY) }, ["send_at too_large"]],
    [
      "times beside a wrong field",
      { ...email, priority: 1, send_at: iso(400 * DAY), expires_at: iso(-DAY) },
      ["expires_at too_small", "priority wrong_type", "send_at too_large"],
    ],
    ["an end before the start", { ...email, send_at: iso(DAY), expires_at: iso(DAY - 1) }, ["expires_at too_small"]],
    ["an end in the past", { ...email, expires_at: iso(-1_000) }, ["expires_at too_small"]],
    ["a day without a zone", { ...email, send_at: "2030-01-01T00:00:00" }, ["send_at invalid_format"]],
    [
      "copies for several",
      { ...email, to_email: ["a@b.example", "b@b.example"], cc: "c@b.example" },
      ["cc not_allowed"],
    ],
    [
      "a fallback too late",
      { ...socket, email_fallback: { enabled: true, after_seconds: 604_801 } },
      ["email_fallback.after_seconds too_large"],
    ],
    ["an unknown room", { ...email, room_id: "room_0000000000000000000000000z" }, ["room_id not_allowed"]],
    [
      "several at once",
      { ...email, subject: 1, priority: "x", cc: ["nobody"] },
      ["cc.0 invalid_format", "priority not_allowed", "subject wrong_type"],
    ],
    ["a private target", { ...hook, url: "http://10.0.0.1/" }, ["url not_allowed"]],
    [
      "private ones among several",
      { ...hook, url: undefined, urls: ["http://127.0.0.1/", "http://[fd00::1]/", "http://10.0.0.1/a"] },
      ["urls.1 not_allowed", "urls.2 not_allowed"],
    ],
    ["a URL with a user", { ...hook, url: "http://a:b@127.0.0.1/" }, ["url not_allowed"]],
    ["no URL", { ...hook, url: "nowhere" }, ["url invalid_format"]],
  ];
  test.each(cases)("%s", async (_name, body, expected) => {
    expect(await faultsOf(body)).toEqual(expected);
  });

  test.each([
    '"quoted part"@example.com',
    "a@[127.0.0.1]",
    "a@127.0.0.1",
    "a@b@example.com",
    "a b@example.com",
    "a@example.com,b@example.com",
    "Ann <a@example.com>",
    "a@example..com",
    "@example.com",
    "a@",
    "a\n@example.com",
    `${"x".repeat(65)}@example.com`,
    ` a@example.com`,
  ])("no address: %j", async (address) => {
    expect(await faultsOf({ ...email, to_email: address })).toEqual(["to_email invalid_format"]);
    expect(await faultsOf({ ...email, to_email: ["b@example.com", address] })).toEqual(["to_email.1 invalid_format"]);
    expect(await faultsOf({ ...email, reply_to: address })).toEqual(["reply_to invalid_format"]);
  });

  test("the room of another client answers as an unknown one, a deleted one too, an empty one has nobody", async () => {
    const other = await newClient(server.url);
    const { body: theirs } = await other.post("/rooms", { name: "Theirs", members: [{ user_id: "x" }] });
    expect(await faultsOf({ ...email, room_id: theirs.id })).toEqual(["room_id not_allowed"]);
    const { body: gone } = await api.post("/rooms", { name: "Gone", members: [{ user_id: "x" }] });
    await api.delete(`/rooms/${gone.id}`);
    expect(await faultsOf({ ...email, room_id: gone.id })).toEqual(["room_id not_allowed"]);
    const { body: empty } = await api.post("/rooms", { name: "Empty" });
    expect(await faultsOf({ ...socket, user_ids: undefined, room_id: empty.id })).toEqual(["no_recipients"]);
  });
});

describe("who may", () => {
  test("user tokens may not", async () => {
    const user = api.as(await tokenOf(api, "ann"));
    for (const call of [() => user.post("/notifications", email), () => user.get("/notifications")]) {
      expect((await call()).body).toMatchObject({ status: 403, code: "forbidden" });
    }
  });

  test("outside development mode email needs a provider for its kind", async () => {
    await using strict = await startTestServer({ config: { ...production, openRegistration: true } });
    const { body: registered } = await apiOf(strict.url, ADMIN_KEY).post("/clients", { name: "Strict" });
    const mine = apiOf(strict.url, registered.api_key);
    const codeOf = async (body: Body) => {
      const { status, body: answer } = await mine.post("/notifications", body);
      return status === 202 ? 202 : `${status} ${answer.code}`;
    };
    const refused = "409 email_provider_not_configured";
    const later = { send_at: iso(DAY) };
    const two = { ...email, ...later, to_email: ["a@b.example", "b@b.example"] };
    expect(await codeOf(email)).toBe(refused);
    expect(await codeOf({ ...socket, email_fallback: true })).toBe(refused);
    expect(await codeOf(socket)).toBe(202);
    expect(await codeOf({ ...hook, url: "http://127.0.0.1/" })).toBe("422 validation_failed");
    const config = { host: "192.0.43.8", port: 25 };
    await mine.put("/email-providers/one", { type: "smtp", config, from_email: "me@b.example", use_for: ["single"] });
    expect(await codeOf({ ...email, ...later })).toBe(202);
    expect(await codeOf(two)).toBe(refused);
    expect(await codeOf({ ...socket, ...later, email_fallback: true })).toBe(202);
    await mine.put("/email-providers/two", { type: "smtp", config, from_email: "me@b.example", use_for: ["bulk"] });
    expect(await codeOf(two)).toBe(202);
  });
});
