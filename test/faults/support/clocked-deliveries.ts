// Deliveries under a clock of the test's own: what receivers say to their attempts, and when processes die.

import type { AttemptResult } from "../../../src/channels/attempt-result.ts";
import type { EmailProvider } from "../../../src/channels/email/provider.ts";
import { SECOND_MS } from "../../../src/contract/time.ts";
import { clientDecider, clientStream } from "../../../src/domain/client.ts";
import { type NotificationData, notificationDecider, notificationStream } from "../../../src/domain/notification.ts";
import { DEFAULT_RETRY_POLICY } from "../../../src/domain/retry-policy.ts";
import { Commands } from "../../../src/event-store/handle-command.ts";
import { CLIENT, NOTIFICATION } from "../../projections/log.ts";
import { openInMemoryLog } from "../../support/in-memory-log.ts";
import { jobServices } from "../../support/job-services.ts";
import { contextOf } from "../../support/live.ts";
import { memoryKeyring } from "../../support/memory-keyring.ts";
import { type ClockStep, type Die, type JobRun, type JobStory, runJobs, SteppedClock } from "./clocked-jobs.ts";
import { sweepOf } from "./due-jobs.ts";
import { noChoices } from "./no-choices.ts";

/** What the receiver does with an attempt, and how long that takes; after `dies` the process is gone, its outcome with it. */
export type Answer = {
  readonly kind: "busy" | "dies" | "gone" | "taken";
  readonly retryAfterMs: number | null;
  readonly takesMs: number;
};
export type Story = JobStory & {
  readonly data: NotificationData;
  /** In order; the last one from then on. */
  readonly answers: readonly Answer[];
  readonly steps: readonly ClockStep[];
  /** Drawn in turn. */
  readonly chances: readonly number[];
};
export type ClockedRun = JobRun & { readonly sends: number };

/** Tells a notification from its request until nothing is left to do. */
export async function tell(story: Story): Promise<ClockedRun> {
  const keyring = memoryKeyring();
  await using store = await openInMemoryLog();
  const log = { store, keyring, snapshots: undefined, olderCommands: undefined };
  const commands = new Commands({ ...log, warn: () => undefined });
  const clock = new SteppedClock(story.start, story.steps);
  let [sends, chance] = [0, 0];

  const send = (provider: string, die: Die) => async (): Promise<AttemptResult> => {
    const { kind, takesMs, retryAfterMs } = answerTo(story, sends);
    sends += 1;
    clock.pass(takesMs);
    if (kind === "dies") return die();
    const nothing = { response: null, refusal: null, providerMessageId: null, recipients: [] };
    const about = { provider, retryAfterMs, ...nothing };
    if (kind === "taken") return { ...about, outcome: "succeeded", error: null };
    const error = { code: kind === "gone" ? "gone" : "unexpected_status", message: kind } as const;
    return { ...about, outcome: kind === "gone" ? "permanent" : "transient", error };
  };
  const close = async () => undefined;
  const verify = () => Promise.reject(new Error("nothing is verified here"));
  const mailbox = (die: Die): EmailProvider => ({
    ...{ name: "mailbox", type: "smtp", account: "mailbox", attemptsAtOnce: 20, maxMs: 45 * SECOND_MS },
    ...{ send: send("mailbox", die), verify },
  });
  const process = (die: Die) =>
    jobServices({
      ...{ store, keyring, commands, retryPolicy: DEFAULT_RETRY_POLICY },
      webhook: { attemptTimeoutMs: 15 * SECOND_MS, send: send("webhook", die), [Symbol.asyncDispose]: close },
      email: { provider: () => mailbox(die), [Symbol.asyncDispose]: close },
      mailbox: { host: "127.0.0.1", port: 25 },
      readSide: noChoices(),
      now: () => clock.read(),
      random: () => story.chances[chance++ % story.chances.length] ?? 0,
    });
  const at = clock.read();
  const key = { id: "key_a", name: "default", hash: "00", last4: "0000" } as const;
  const secret = `whsec_${Buffer.alloc(24, 7).toString("base64")}`;
  const client = { client: CLIENT, name: "Shop", description: null, key, webhookSecret: secret };
  await commands.execute(clientDecider, clientStream(CLIENT), { type: "Register", at, ...client }, contextOf(CLIENT));
  const request = { type: "Request", at, data: story.data } as const;
  await commands.execute(notificationDecider, notificationStream(NOTIFICATION), request, contextOf(CLIENT));

  return {
    ...(await runJobs({
      ...{ story, clock, store, keyring, process, sweepOf },
      // How many are open is a question to the read model; no other job asks it.
      isAsked: ({ work }) => work.kind !== "overflow",
      // A WebSocket's expiry may have no job, by design.
      isMissed: ({ work }) => work.kind !== "expire",
    })),
    sends,
  };
}

/** What the receiver says to the send of this number, from 0. */
export function answerTo({ answers }: Pick<Story, "answers">, send: number): Answer {
  const answer = answers[send] ?? answers.at(-1);
  if (answer === undefined) throw new Error("the receiver says nothing");
  return answer;
}
