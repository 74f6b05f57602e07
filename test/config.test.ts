// The environment: what each variable may say, what it means when it is left out, and which combinations are refused.
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { run } from "../src/cli/command.ts";
import { ConfigError, readConfig } from "../src/config.ts";

const SECRET = "0123456789abcdef0123456789abcdef";
/** What any set-up outside development mode needs. */
const SERVERS = { DATABASE_URL: "postgres://db.example/chat", ADMIN_KEY: SECRET, ENCRYPTION_KEYS: "a" };

/** The message of the refusal; undefined when there is none. */
function refusal(environment: Record<string, string>): string | undefined {
  try {
    readConfig(environment);
    return undefined;
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
}

test("nothing set: everything on this machine, in development mode", () => {
  expect(readConfig({})).toEqual({
    host: "127.0.0.1",
    port: 8000,
    dataDir: "./data",
    databaseUrl: undefined,
    eventStore: undefined,
    redisUrl: undefined,
    roles: new Set(["api", "projector", "worker"]),
    processes: 1,
    development: true,
    encryptionKeys: undefined,
    adminKey: undefined,
    metricsToken: undefined,
    openRegistration: false,
    publicUrl: undefined,
    smtpEhloName: undefined,
    inboundSmtp: undefined,
    allowedHosts: [],
    corsOrigins: undefined,
    trustProxy: [],
    rateLimits: {},
    outboundAllow: [],
    retryPolicy: {
      scheduleMs: [5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000].map((s) => s * 1_000),
      jitter: 0.2,
    },
    logLevel: "info",
  });
});

test("an empty variable is one that is not set, and what is read stays as it is", () => {
  const config = readConfig({ PORT: "", DATABASE_URL: "", ROLES: "" });
  expect(config.port).toBe(8000);
  expect(Object.isFrozen(config)).toBe(true);
});

describe("values", () => {
  const good: [Record<string, string>, object][] = [
    [{ PORT: "0" }, { port: 0 }],
    [{ INBOUND_SMTP: "0.0.0.0:25" }, { inboundSmtp: { host: "0.0.0.0", port: 25 } }],
    [{ INBOUND_SMTP: "[::1]:2525" }, { inboundSmtp: { host: "::1", port: 2525 } }],
    [{ HOST: "::1" }, { host: "::1", development: true }],
    [{ HOST: "localhost" }, { development: true }],
    [{ DATA_DIR: "/var/lib/chat" }, { dataDir: "/var/lib/chat" }],
    [
      { DATABASE_URL: "postgres://chat@/chat?host=/run", ADMIN_KEY: SECRET, ENCRYPTION_KEYS: "a" },
      { development: false },
    ],
    [{ ROLES: "worker,projector,worker,api" }, { roles: new Set(["api", "projector", "worker"]) }],
    [{ PROCESSES: "1" }, { processes: 1 }],
    [{ PROCESSES: "32" }, { processes: 32 }],
    [{ PROCESSES: "auto" }, { processes: Math.min(availableParallelism(), 8) }],
    [{ REDIS_URL: "rediss://:pw@redis.example:6380/2" }, { redisUrl: "rediss://:pw@redis.example:6380/2" }],
    [{ METRICS_TOKEN: SECRET }, { metricsToken: SECRET }],
    [{ OPEN_REGISTRATION: "true" }, { openRegistration: true }],
    [{ PUBLIC_URL: "https://chat.example/" }, { publicUrl: "https://chat.example" }],
    [{ ALLOWED_HOSTS: "a.example, b.example," }, { allowedHosts: ["a.example", "b.example"] }],
    [{ CORS_ORIGINS: "https://a.example" }, { corsOrigins: ["https://a.example"] }],
    [{ TRUST_PROXY: "10.0.0.0/8,::1" }, { trustProxy: ["10.0.0.0/8", "::1"] }],
    [{ OUTBOUND_ALLOW: "10.1.2.0/24" }, { outboundAllow: ["10.1.2.0/24"] }],
    [{ ENCRYPTION_KEYS: "new, old" }, { encryptionKeys: ["new", "old"] }],
    [
      { RETRY_SCHEDULE: "1s,2m,3min,4h,1d,1.5s", RETRY_JITTER: "0" },
      { retryPolicy: { scheduleMs: [1_000, 120_000, 180_000, 14_400_000, 86_400_000, 1_500], jitter: 0 } },
    ],
    [{ LOG_LEVEL: "silent" }, { logLevel: "silent" }],
  ];
  test.each(good)("%j", (environment, expected) => {
    expect(readConfig(environment)).toMatchObject(expected);
  });

  type Refused = [Record<string, string>];
  const bad: Refused[] = [
    ...["2525", ":2525", "mx.example.com", "mx.example.com:65536", "::1:25", "[mx]:25", "a b:25", "smtp://mx:25"].map(
      (INBOUND_SMTP) => [{ INBOUND_SMTP }] as Refused,
    ),
    ...["eighty", "65536", "-1", "80.5"].map((PORT) => [{ PORT }] as Refused),
    [{ DATABASE_URL: "mysql://db.example/chat" }],
    [{ DATABASE_URL: "postgres://chat:pass/word@db.example/chat" }],
    [{ EVENTSTORE_URL: "http://events.example:2113" }],
    [{ EVENTSTORE_STREAM_PREFIX: "$chat-" }],
    [{ REDIS_URL: "http://redis.example" }],
    [{ REDIS_URL: "redis://:pass#word@redis.example" }],
    [{ ROLES: "api,reader" }],
    [{ ROLES: " , " }],
    ...["0", "abc", "-1", "1.5", "33", "Auto"].map((PROCESSES) => [{ PROCESSES }] as Refused),
    [{ ADMIN_KEY: SECRET.slice(1) }],
    [{ METRICS_TOKEN: "short" }],
    [{ OPEN_REGISTRATION: "yes" }],
    [{ PUBLIC_URL: "chat.example" }],
    [{ TRUST_PROXY: "everybody" }],
    [{ OUTBOUND_ALLOW: "10.0.0.0/33" }],
    [{ RETRY_SCHEDULE: "5 apples" }],
    [{ RETRY_JITTER: "1.1" }],
    ...["mx example", "-mx.example.com", "[::1"].map((SMTP_EHLO_NAME) => [{ SMTP_EHLO_NAME }] as Refused),
    [{ RATE_LIMIT_REQUESTS: "0/10s" }],
    [{ RATE_LIMIT_NOTIFICATIONS: "100" }],
    [{ RATE_LIMIT_USER: "100/10s/1" }],
    [{ RATE_LIMIT_USER_ROOMS: "60/1.5s" }],
    [{ RATE_LIMIT_USER_MEMBERS: "500/8d" }],
    [{ CHATAPI_FAILPOINT: "append/nowhere" }],
    [{ LOG_LEVEL: "loud" }],
  ];
  test.each(bad)("%j is refused in one line that begins with its name", (environment) => {
    const message = refusal(environment);
    expect(message).toMatch(new RegExp(`^${Object.keys(environment)[0]}: `));
    expect(message).not.toMatch(/\n|pass.word/);
  });

  test.each(bad)("%j ends the process with exit code 78", async (environment) => {
    const printed = vi.spyOn(process.stderr, "write").mockReturnValue(true);
    const { exitCode } = process;
    onTestFinished(() => {
      printed.mockRestore();
      process.exitCode = exitCode;
    });
    await run(() => (readConfig(environment) ? 0 : 1));
    expect([process.exitCode, printed.mock.calls]).toEqual([78, [[`${refusal(environment)}\n`]]]);
  });

  test("of every variable are refused, but for those that take any text or are read later", async () => {
    const example = await readFile(new URL("../.env.example", import.meta.url), "utf8");
    const refused = new Set(bad.flatMap(([environment]) => Object.keys(environment)));
    const others = [...example.matchAll(/^#?([A-Z_]+)=/gm)].flatMap(([, name = ""]) =>
      refused.has(name) ? [] : [name],
    );
    expect(others).toEqual(["HOST", "DATA_DIR", "ENCRYPTION_KEYS", "ALLOWED_HOSTS", "CORS_ORIGINS"]);
  });
});

describe("combinations", () => {
  test("development mode ends with a server of the operator's or a host that others reach", () => {
    for (const environment of [SERVERS, { ...SERVERS, EVENTSTORE_URL: "esdb://events.example:2113" }]) {
      expect(readConfig(environment).development).toBe(false);
    }
    expect(readConfig({ ADMIN_KEY: SECRET, ENCRYPTION_KEYS: "a", HOST: "0.0.0.0" }).development).toBe(false);
    expect(readConfig({ REDIS_URL: "redis://127.0.0.1" }).development).toBe(true);
  });

  test("outside of it the operator's key and the wrapping keys are needed", () => {
    const { ADMIN_KEY: _admin, ...withoutAdmin } = SERVERS;
    const { ENCRYPTION_KEYS: _keys, ...withoutKeys } = SERVERS;
    expect(refusal(withoutAdmin)).toMatch(/^ADMIN_KEY: /);
    expect(refusal(withoutKeys)).toMatch(/^ENCRYPTION_KEYS: /);
    expect(refusal({ HOST: "0.0.0.0" })).toMatch(/^ADMIN_KEY: /);
    expect(refusal(SERVERS)).toBeUndefined();
  });

  test("EventStoreDB needs a PostgreSQL beside it", () => {
    const EVENTSTORE_URL = "esdb+discover://a.example,b.example";
    expect(refusal({ EVENTSTORE_URL })).toMatch(/^EVENTSTORE_URL: .*DATABASE_URL/);
    expect(readConfig({ ...SERVERS, EVENTSTORE_URL }).eventStore).toEqual({ url: EVENTSTORE_URL, prefix: "chatapi-" });
    const named = { ...SERVERS, EVENTSTORE_URL, EVENTSTORE_STREAM_PREFIX: "second.system-" };
    expect(readConfig(named).eventStore?.prefix).toBe("second.system-");
  });

  test("dividing the work needs a PostgreSQL that the nodes share", () => {
    for (const ROLES of ["api", "projector", "worker", "api,worker"]) {
      expect(refusal({ ROLES })).toMatch(/^ROLES: .*DATABASE_URL/);
      expect(readConfig({ ...SERVERS, ROLES }).roles).toEqual(new Set(ROLES.split(",")));
    }
  });
});
