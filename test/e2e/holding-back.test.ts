// Throttles, deduplication and collapse keys over two server processes on one database, one of which is killed meanwhile.
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Mailbox, startMailbox } from "../../src/embedded/mailbox.ts";
import { databaseWithTables } from "../support/database-with-tables.ts";
import { isLong } from "../support/size.ts";
import { type Answer, type Api, apiOf, type Body, until } from "./support/api.ts";
import { dataFolder, type Running, startServer } from "./support/server.ts";
import { ADMIN_KEY, registeredClient } from "./support/setups.ts";

const REQUESTS = 100;
const WAIT_MS = 60_000;
/** Processes take their time to start. */
const inLong = test.runIf(isLong);

const open = new AsyncDisposableStack();
let mailbox: Mailbox;
let start: () => Promise<Running>;
let first: Running;
let api: Api;
beforeAll(async () => {
  mailbox = open.use(await startMailbox({ log: () => {} }));
  const database = open.use(await databaseWithTables());
  const folder = open.use(await dataFolder());
  const env = {
    ...{ DATABASE_URL: database.url, ADMIN_KEY, OUTBOUND_ALLOW: "127.0.0.0/8", LOG_LEVEL: "error" },
    ENCRYPTION_KEYS: randomBytes(32).toString("base64"),
  };
  start = () => startServer({ dataDir: folder.path, env });
  first = open.use(await start());
  api = await registeredClient(first.url, mailbox);
}, WAIT_MS);
afterAll(() => open.disposeAsync());

/**
 * Requests the same of both nodes at once, each under a key of its own. The second node is killed (SIGKILL) once `killWhen`
 * says so, and what it did not answer is requested of the first one again. Gives the answers.
 */
async function requestOfBoth(name: string, body: object, killWhen: () => Promise<boolean>): Promise<readonly Answer[]> {
  const second = await start();
  try {
    const there = apiOf(second.url, api.key);
    const about = { type: "email", subject: "Hi", content: "Hello", ...body };
    const request = async (_: unknown, n: number): Promise<Answer> => {
      const headers = { "idempotency-key": `${name}-${n}` };
      const again = () => api.post("/notifications", about, headers);
      return n % 2 === 0 ? again() : there.post("/notifications", about, headers).catch(again);
    };
    const answers = Promise.all(Array.from({ length: REQUESTS }, request));
    await until(killWhen, (due) => due, WAIT_MS);
    await second.kill();
    return await answers;
  } finally {
    await second.kill();
  }
}

const listed = async (query: string): Promise<readonly Body[]> =>
  (await api.get(`/notifications?limit=100&${query}`)).body.data;
const counted = (all: readonly Body[], status: string): number => all.filter((one) => one.status === status).length;

inLong(
  "of a hundred under one throttle of 1 one is sent, 99 are suppressed and say why",
  async () => {
    const query = "recipient=tom@example.com";
    const throttle = { key: "alert", limit: 1, per_seconds: 3_600 };
    const isSent = async () => counted(await listed(query), "sent") > 0;
    const answers = await requestOfBoth("throttle", { to_email: "tom@example.com", throttle }, isSent);
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([202]));
    const all = await until(
      () => listed(query),
      (some) => some.length === REQUESTS && some.every(({ status }) => ["sent", "suppressed"].includes(status)),
      WAIT_MS,
    );
    expect([counted(all, "sent"), counted(all, "suppressed")]).toEqual([1, REQUESTS - 1]);
    const withheld = (await api.get("/deliveries?recipient=tom@example.com&status=suppressed&limit=100")).body.data;
    expect(new Set(withheld.map((one: Body) => one.error.code))).toEqual(new Set(["throttled"]));
    expect(mailbox.list({ to: "tom@example.com" })).toHaveLength(1);
  },
  120_000,
);

inLong(
  "of a hundred with one deduplication key one is made, and all are answered with it",
  async () => {
    const body = { to_email: "dan@example.com", dedupe: { key: "order 1", window_seconds: 600 } };
    const isMade = async () => (await listed("recipient=dan@example.com")).length > 0;
    const answers = await requestOfBoth("dedupe", body, isMade);
    expect(answers.filter(({ status }) => status !== 200 && status !== 202)).toEqual([]);
    expect(new Set(answers.map((one) => one.body.id)).size).toBe(1);
    await until(
      () => listed("recipient=dan@example.com"),
      (all) => all.length === 1 && all[0]?.status === "sent",
      WAIT_MS,
    );
    expect(mailbox.list({ to: "dan@example.com" })).toHaveLength(1);
  },
  120_000,
);

inLong(
  "of a hundred with one collapse key the newest is left, 99 are suppressed and say why",
  async () => {
    const body = { type: "websocket", user_ids: ["cleo"], collapse_key: "likes" };
    const isRouted = async () => counted(await listed("recipient=cleo"), "suppressed") > 0;
    await requestOfBoth("collapse", body, isRouted);
    const all = await until(
      () => listed("recipient=cleo"),
      (some) => some.length === REQUESTS && counted(some, "suppressed") === REQUESTS - 1,
      WAIT_MS,
    );
    expect(counted(all, "pending")).toBe(1);
    const withheld = (await api.get("/deliveries?recipient=cleo&status=suppressed&limit=100")).body.data;
    expect(new Set(withheld.map((one: Body) => one.error.code))).toEqual(new Set(["collapsed"]));
  },
  120_000,
);
