// The environment, checked once and frozen: the only place that reads it.
import { isIP } from "node:net";
import { availableParallelism } from "node:os";
import ipaddr from "ipaddr.js";
import { z } from "zod";
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS } from "./contract/time.ts";
import { DEFAULT_RETRY_POLICY } from "./domain/retry-policy.ts";
import { FAILPOINTS } from "./platform/failpoint.ts";
import { omitUndefined } from "./platform/omit-undefined.ts";

/** The set-up is wrong or unsafe: one line that names the variable. The process ends with exit code 78. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

const UNITS: Record<string, number> = { s: SECOND_MS, m: MINUTE_MS, min: MINUTE_MS, h: HOUR_MS, d: DAY_MS };

function duration(text: string, context: z.RefinementCtx): number {
  const match = /^(\d+(?:\.\d+)?)(s|m|min|h|d)$/.exec(text.trim());
  const unit = UNITS[match?.[2] ?? ""];
  if (match !== null && unit !== undefined) return Number(match[1]) * unit;
  context.addIssue({ code: "custom", message: `"${text}" is no duration such as 5s, 2m, 10h` });
  return 0;
}

/** So many in a time. */
export type Rate = { readonly count: number; readonly windowMs: number };

/** The longest window of a rate. */
const MAX_WINDOW_MS = 7 * DAY_MS;

/** Reads a rate such as `100/10s`. */
function rate(text: string, context: z.RefinementCtx): Rate {
  const [count = "", time = "", ...more] = text.split("/");
  const windowMs = duration(time, context);
  const refuse = (message: string) => context.addIssue({ code: "custom", message: `"${text}" ${message}` });
  if (!/^[1-9]\d{0,8}$/.test(count.trim()) || more.length > 0) refuse("is no rate such as 100/10s");
  if (windowMs % SECOND_MS !== 0 || windowMs < SECOND_MS || windowMs > MAX_WINDOW_MS) {
    refuse("must have a window of whole seconds, from 1s to 7d");
  }
  return { count: Number(count), windowMs };
}

/** Reads an address to listen on such as `0.0.0.0:25` or `[::]:25`. */
function listenAddress(text: string, context: z.RefinementCtx): { readonly host: string; readonly port: number } {
  const [, v6, name, digits = ""] =
    /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9][A-Za-z0-9.-]{0,252})):(\d{1,5})$/.exec(text.trim()) ?? [];
  const host = v6 ?? name ?? "";
  const port = Number(digits);
  if (host === "" || port > 65_535 || (v6 !== undefined && isIP(v6) !== 6)) {
    context.addIssue({ code: "custom", message: `"${text}" is no host:port such as 0.0.0.0:2525 or [::]:2525` });
  }
  return { host, port };
}

const list = (text: string): readonly string[] => text.split(",").flatMap((item) => item.trim() || []);
const cidr = (text: string): boolean => ipaddr.isValidCIDR(text) || ipaddr.isValid(text);
const cidrs = z
  .string()
  .default("")
  .transform(list)
  .refine((all) => all.every(cidr), "must be addresses or CIDR ranges, separated by commas");
const flag = z
  .enum(["true", "false"])
  .default("false")
  .transform((text) => text === "true");
/** What a node does: serve callers, keep the read models, deliver. */
const ROLES = ["api", "projector", "worker"] as const;
export type Role = (typeof ROLES)[number];
const roles = z
  .array(z.enum(ROLES, `must be a mix of ${ROLES.join(", ")}, separated by commas`))
  .nonempty("names no role")
  .transform((all): ReadonlySet<Role> => new Set(all));
const CODED = "must be a URL; in its user and password, characters as / # ? @ are written as %2F and so on";
const secret = z.string().min(32, "must have at least 32 characters").optional();

/** A number between two, written as one. */
function number(min: number, max: number, isInteger: boolean) {
  const says = `must be a ${isInteger ? "whole " : ""}number from ${min} to ${max}`;
  const schema = z.string().trim().min(1, says).transform(Number);
  return schema.pipe(
    z
      .number(says)
      .min(min, says)
      .max(max, says)
      .refine((value) => !isInteger || Number.isInteger(value), says),
  );
}

/** More are of no use: each reads the whole log. */
const MAX_PROCESSES = 32;
/** As many as `auto` takes at most: from then on the log's one writer is what posting waits for. */
const MAX_AUTO_PROCESSES = 8;
const processes = z.union(
  [
    z.literal("auto").transform(() => Math.min(availableParallelism(), MAX_AUTO_PROCESSES)),
    number(1, MAX_PROCESSES, true),
  ],
  `must be auto or a whole number from 1 to ${MAX_PROCESSES}`,
);

const EnvironmentSchema = z.object({
  HOST: z.string().min(1).default("127.0.0.1"),
  PORT: number(0, 65_535, true).default(8000),
  DATA_DIR: z.string().min(1).default("./data"),
  DATABASE_URL: z
    .string()
    .regex(/^postgres(ql)?:\/\//, "must begin with postgres:// or postgresql://")
    // The driver lets the host be left out behind a user.
    .refine((url) => URL.canParse(url.replace("@/", "@localhost/")), CODED)
    .optional(),
  EVENTSTORE_URL: z
    .string()
    .regex(/^esdb(\+discover)?:\/\//, "must begin with esdb:// or esdb+discover://")
    .optional(),
  EVENTSTORE_STREAM_PREFIX: z
    .string()
    .regex(
      /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/,
      "must be 1 to 64 letters, digits, '_', '.' or '-', a letter or digit first",
    )
    .default("chatapi-"),
  REDIS_URL: z
    .string()
    .regex(/^rediss?:\/\//, "must begin with redis:// or rediss://")
    .refine((url) => URL.canParse(url), CODED)
    .optional(),
  ROLES: z
    .string()
    .default(ROLES.join(","))
    .transform((text) => [...list(text)])
    .pipe(roles),
  PROCESSES: processes.default(1),
  ENCRYPTION_KEYS: z.string().transform(list).optional(),
  ADMIN_KEY: secret,
  METRICS_TOKEN: secret,
  OPEN_REGISTRATION: flag,
  PUBLIC_URL: z.url({ protocol: /^https?$/ }).optional(),
  SMTP_EHLO_NAME: z
    .string()
    .max(255)
    .regex(
      /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Za-z.:]+\])$/,
      "must be a host name, or an address in brackets",
    )
    .optional(),
  INBOUND_SMTP: z.string().transform(listenAddress).optional(),
  ALLOWED_HOSTS: z.string().default("").transform(list),
  CORS_ORIGINS: z.string().transform(list).optional(),
  TRUST_PROXY: cidrs,
  OUTBOUND_ALLOW: cidrs,
  RETRY_SCHEDULE: z
    .string()
    .transform((text, context) => list(text).map((one) => duration(one, context)))
    .default([...DEFAULT_RETRY_POLICY.scheduleMs]),
  RETRY_JITTER: number(0, 1, false).default(DEFAULT_RETRY_POLICY.jitter),
  /** Read in `platform/failpoint.ts`; checked here. */
  CHATAPI_FAILPOINT: z
    .string()
    .refine((text) => FAILPOINTS.some((name) => name === text.replace(/:[1-9]\d{0,8}$/, "")), {
      error: ({ input }) => `"${input}" is no failpoint, nor one with a number such as append/answer:3`,
    })
    .optional(),
  RATE_LIMIT_REQUESTS: z.string().transform(rate).optional(),
  RATE_LIMIT_NOTIFICATIONS: z.string().transform(rate).optional(),
  RATE_LIMIT_USER: z.string().transform(rate).optional(),
  RATE_LIMIT_USER_ROOMS: z.string().transform(rate).optional(),
  RATE_LIMIT_USER_MEMBERS: z.string().transform(rate).optional(),
  LOG_LEVEL: z.enum(["trace", "debug", "info", "warn", "error", "fatal", "silent"]).default("info"),
});

const isLoopback = (host: string): boolean =>
  host === "localhost" || (isIP(host) !== 0 && ipaddr.process(host).range() === "loopback");

/** The host of a URL as EHLO names it: an address in brackets (RFC 5321, 4.1.3). */
function ehloNameOf(url: string | undefined): string | undefined {
  const host = url === undefined ? undefined : URL.parse(url)?.hostname;
  if (host === undefined) return undefined;
  if (host.startsWith("[")) return `[IPv6:${host.slice(1)}`;
  return isIP(host) === 0 ? host : `[${host}]`;
}

/** Reads and checks the environment. Throws ConfigError for the first variable that is wrong. */
export function readConfig(environment: Readonly<Record<string, string | undefined>>) {
  const set = Object.fromEntries(
    Object.entries(environment).filter(([, value]) => value !== undefined && value !== ""),
  );
  const parsed = EnvironmentSchema.safeParse(set);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new ConfigError(`${String(issue?.path[0] ?? "environment")}: ${issue?.message ?? "is wrong"}`);
  }
  const env = parsed.data;
  if (env.DATABASE_URL === undefined) {
    if (env.EVENTSTORE_URL !== undefined) {
      throw new ConfigError("EVENTSTORE_URL: needs DATABASE_URL as well, for data keys, read models and jobs");
    }
    if (env.ROLES.size !== ROLES.length) {
      throw new ConfigError("ROLES: dividing the work needs DATABASE_URL, a PostgreSQL that the nodes share");
    }
  }
  const development = env.EVENTSTORE_URL === undefined && env.DATABASE_URL === undefined && isLoopback(env.HOST);
  if (!development && env.ADMIN_KEY === undefined) {
    throw new ConfigError("ADMIN_KEY: is needed (32 characters or more) outside development mode");
  }
  if (!development && env.ENCRYPTION_KEYS === undefined) {
    throw new ConfigError("ENCRYPTION_KEYS: is needed outside development mode (base64 of 32 random bytes)");
  }
  const byDefault = (one: Rate): Rate | undefined => (development ? undefined : one);
  return Object.freeze({
    host: env.HOST,
    port: env.PORT,
    dataDir: env.DATA_DIR,
    /** Undefined: a PostgreSQL of our own in the data folder. */
    databaseUrl: env.DATABASE_URL,
    /** Undefined: the log is in PostgreSQL. `prefix` precedes each stream name. */
    eventStore:
      env.EVENTSTORE_URL === undefined ? undefined : { url: env.EVENTSTORE_URL, prefix: env.EVENTSTORE_STREAM_PREFIX },
    /** Carries wake-ups between nodes; undefined: PostgreSQL does, or nothing where there is one node alone. */
    redisUrl: env.REDIS_URL,
    /** Not empty; all of them unless the nodes share a PostgreSQL. */
    roles: env.ROLES,
    /** Of more than one the first forks them and does nothing else. */
    processes: env.PROCESSES,
    /** No servers configured and a loopback host: open registration, `/dev/*`, loopback targets. */
    development,
    encryptionKeys: env.ENCRYPTION_KEYS,
    adminKey: env.ADMIN_KEY,
    metricsToken: env.METRICS_TOKEN,
    openRegistration: env.OPEN_REGISTRATION,
    publicUrl: env.PUBLIC_URL?.replace(/\/$/, ""),
    /** What mail servers are greeted with; undefined: this machine's own name. */
    smtpEhloName: env.SMTP_EHLO_NAME ?? ehloNameOf(env.PUBLIC_URL),
    /** Where a node of the role api receives reports of mails; undefined: nowhere. */
    inboundSmtp: env.INBOUND_SMTP,
    allowedHosts: env.ALLOWED_HOSTS,
    /** Undefined: any origin. */
    corsOrigins: env.CORS_ORIGINS,
    trustProxy: env.TRUST_PROXY,
    outboundAllow: env.OUTBOUND_ALLOW,
    /** Of a client, and of each of its users. */
    rateLimits: omitUndefined({
      requests: env.RATE_LIMIT_REQUESTS ?? byDefault({ count: 10_000, windowMs: 10 * SECOND_MS }),
      notifications: env.RATE_LIMIT_NOTIFICATIONS ?? byDefault({ count: 10_000, windowMs: 10 * SECOND_MS }),
      userRequests: env.RATE_LIMIT_USER ?? byDefault({ count: 100, windowMs: 10 * SECOND_MS }),
      userRooms: env.RATE_LIMIT_USER_ROOMS ?? byDefault({ count: 60, windowMs: HOUR_MS }),
      userMembers: env.RATE_LIMIT_USER_MEMBERS ?? byDefault({ count: 500, windowMs: HOUR_MS }),
    }),
    retryPolicy: { scheduleMs: env.RETRY_SCHEDULE, jitter: env.RETRY_JITTER },
    logLevel: env.LOG_LEVEL,
  });
}

/** The configuration of a server. */
export type Config = ReturnType<typeof readConfig>;
