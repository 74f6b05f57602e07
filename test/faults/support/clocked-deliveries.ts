// Deliveries under a clock of the test's own: log, commands, reactors and the jobs' handlers as they are, days in a moment.

import type { AttemptResult } from "../../../src/channels/attempt-result.ts";
import type { EmailProvider } from "../../../src/channels/email/provider.ts";
import { type Instant, SECOND_MS } from "../../../src/contract/time.ts";
import { clientDecider, clientStream } from "../../../src/domain/client.ts";
import { type NotificationData, notificationDecider, notificationStream } from "../../../src/domain/notification.ts";
import { DEFAULT_RETRY_POLICY } from "../../../src/domain/retry-policy.ts";
import { decode, type StoredEvent } from "../../../src/event-store/envelope.ts";
import { Commands } from "../../../src/event-store/handle-command.ts";
import { handleJob } from "../../../src/workers/handle-job.ts";
import { type Job, queueOf, type TakenJob } from "../../../src/workers/jobs.ts";
import { jobsOf } from "../../../src/workers/reactors.ts";
import { CLIENT, NOTIFICATION } from "../../projections/log.ts";
import { openInMemoryLog } from "../../support/in-memory-log.ts";
import { jobServices } from "../../support/job-services.ts";
import { contextOf } from "../../support/live.ts";
import { memoryKeyring } from "../../support/memory-keyring.ts";
import { sweepOf } from "./due-jobs.ts";
import { noChoices } from "./no-choices.ts";

/** What the receiver does with an attempt, and how long that takes; after `dies` the process is gone, its outcome with it. */
export type Answer = {
  readonly kind: "busy" | "dies" | "gone" | "taken";
  readonly retryAfterMs: number | null;
  readonly takesMs: number;
};
/** Somebody sets the clock, just before it is read for the so-manieth time. */
export type ClockStep = { readonly reading: number; readonly byMs: number };
export type Story = {
  readonly start: Instant;
  readonly data: NotificationData;
  /** In order; the last one from then on. */
  readonly answers: readonly Answer[];
  readonly steps: readonly ClockStep[];
  /** Drawn in turn. */
  readonly chances: readonly number[];
  /** Which jobs get lost, counted as they come; the sweep has to find what they were for. */
  readonly lostJobs: readonly number[];
  /** Every job runs twice, as one whose worker was thought to be dead. */
  readonly twice: boolean;
};
export type ClockedRun = { readonly events: readonly StoredEvent[]; readonly sends: number; readonly sweeps: number };

/** A job comes back this long after its worker died. */
const BACK_AFTER_MS = 20 * SECOND_MS;
/** Who takes more turns than this runs in a circle. */
const MAX_TURNS = 2_000;

class SteppedClock {
  #at: Instant;
  #readings = 0;
  readonly #steps: readonly ClockStep[];

  constructor(at: Instant, steps: readonly ClockStep[]) {
    this.#at = at;
    this.#steps = steps;
  }
  read(): Instant {
    this.#readings += 1;
    for (const { reading, byMs } of this.#steps) if (reading === this.#readings) this.#at += byMs;
    return this.#at;
  }
  pass(ms: number): void {
    this.#at += ms;
  }
  /** Time goes by until it shows this. */
  reach(at: Instant): void {
    this.#at = Math.max(this.#at, at);
  }
}

/** Tells a notification from its request until nothing is left to do. */
export async function tell(story: Story): Promise<ClockedRun> {
  const keyring = memoryKeyring();
  await using store = await openInMemoryLog();
  const log = { store, keyring, snapshots: undefined, olderCommands: undefined };
  const commands = new Commands({ ...log, warn: () => undefined });
  const clock = new SteppedClock(story.start, story.steps);
  let [sends, chance, sweeps, queued] = [0, 0, 0, 0];
  let died = Promise.withResolvers<"died">();

  const send = (provider: string) => async (): Promise<AttemptResult> => {
    const { kind, takesMs, retryAfterMs } = answerTo(story, sends);
    sends += 1;
    clock.pass(takesMs);
    if (kind === "dies") {
      died.resolve("died");
      return new Promise<never>(() => {});
    }
    const nothing = { response: null, refusal: null, providerMessageId: null, recipients: [] };
    const about = { provider, retryAfterMs, ...nothing };
    if (kind === "taken") return { ...about, outcome: "succeeded", error: null };
    const error = { code: kind === "gone" ? "gone" : "unexpected_status", message: kind } as const;
    return { ...about, outcome: kind === "gone" ? "permanent" : "transient", error };
  };
  const close = async () => undefined;
  const verify = () => Promise.reject(new Error("nothing is verified here"));
  const mailbox: EmailProvider = {
    ...{ name: "mailbox", type: "smtp", account: "mailbox", attemptsAtOnce: 20, maxMs: 45 * SECOND_MS },
    ...{ send: send("mailbox"), verify },
  };
  const process = () =>
    jobServices({
      ...{ store, keyring, commands, retryPolicy: DEFAULT_RETRY_POLICY },
      webhook: { attemptTimeoutMs: 15 * SECOND_MS, send: send("webhook"), [Symbol.asyncDispose]: close },
      email: { provider: () => mailbox, [Symbol.asyncDispose]: close },
      mailbox: { host: "127.0.0.1", port: 25 },
      readSide: noChoices(),
      now: () => clock.read(),
      random: () => story.chances[chance++ % story.chances.length] ?? 0,
    });
  let services = process();

  const all = async () => {
    const events = await decode(keyring, await store.readAll({ after: "start", limit: 1_000 }));
    return events.filter(({ meta }) => meta.client === CLIENT);
  };
  let waiting: (Job & { readonly at: Instant })[] = [];
  let seen = 0;
  const react = async () => {
    const events = await all();
    // How many are open is a question to the read model; no other job asks it.
    const jobs = events.slice(seen).flatMap((event) => jobsOf(event));
    for (const job of jobs.filter(({ work }) => work.kind !== "overflow")) {
      queued += 1;
      if (story.lostJobs.includes(queued)) continue;
      for (let times = story.twice ? 2 : 1; times > 0; times -= 1) waiting.push({ ...job, at: job.at ?? story.start });
    }
    seen = events.length;
    return events;
  };
  const at = clock.read();
  const key = { id: "key_a", name: "default", hash: "00", last4: "0000" } as const;
  const secret = `whsec_${Buffer.alloc(24, 7).toString("base64")}`;
  const client = { client: CLIENT, name: "Shop", description: null, key, webhookSecret: secret };
  await commands.execute(clientDecider, clientStream(CLIENT), { type: "Register", at, ...client }, contextOf(CLIENT));
  const request = { type: "Request", at, data: story.data } as const;
  await commands.execute(notificationDecider, notificationStream(NOTIFICATION), request, contextOf(CLIENT));

  for (let turns = 0; turns < MAX_TURNS; turns += 1) {
    const events = await react();
    const [job, ...others] = waiting.toSorted((one, other) => one.at - other.at);
    if (job === undefined) {
      const due = sweepOf(events);
      if (due.length === 0) return { events, sends, sweeps };
      // A WebSocket's expiry may have no job, by design.
      if (due.some(({ work }) => work.kind !== "expire")) sweeps += 1;
      waiting.push(...due);
      continue;
    }
    waiting = others;
    clock.reach(job.at);
    const about = { at: null, queue: queueOf(job.work), round: 1, retryCount: 0, failures: 0 };
    const taken: TakenJob = { ...job, ...about };
    const verdict = await Promise.race([handleJob(services, taken, new AbortController().signal), died.promise]);
    if (verdict === "died") {
      died = Promise.withResolvers();
      services = process();
      waiting.push({ ...job, at: clock.read() + BACK_AFTER_MS });
    } else if (verdict.kind === "retry") waiting.push({ ...job, at: verdict.at });
  }
  throw new Error("it never ends");
}

/** What the receiver says to the send of this number, from 0. */
export function answerTo({ answers }: Pick<Story, "answers">, send: number): Answer {
  const answer = answers[send] ?? answers.at(-1);
  if (answer === undefined) throw new Error("the receiver says nothing");
  return answer;
}
