// The processes of one node: the first one forks the others, starts again those that end, and carries their questions to each other.
import cluster, { type Worker } from "node:cluster";
import { z } from "zod";
import { backoffMs, messageOf, pause, type WarnLogger } from "./supervise.ts";

/** The longest pause before a process that ended is started again; the first is 0.1 s. */
const MAX_RESTART_MS = 10_000;
/** A process that ran for so long did not end because of its start. */
const STEADY_MS = 60_000;
/** How long a process may take to answer another one. */
const ANSWER_MS = 1_500;

const Task = z.object({
  /** From 1; kept when it is started again. */
  number: z.int(),
  databaseUrl: z.string(),
  /** Whether the node starts: no other process serves yet. */
  first: z.boolean(),
});
/** What a forked process is given. */
type Task = z.infer<typeof Task>;

const Question = z.enum(["metrics", "readiness"]);
type Question = z.infer<typeof Question>;

const Answer = z.object({ number: z.int(), text: z.string().nullable() });
/** What a process says; null when it does not answer in time. */
type Answer = z.infer<typeof Answer>;

const question = z.object({ kind: z.literal("question"), id: z.int(), question: Question });
const ToForked = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("task"), task: Task }),
  question,
  z.object({ kind: z.literal("answers"), id: z.int(), answers: z.array(Answer) }),
]);
const FromForked = z.discriminatedUnion("kind", [
  /** It listens to messages, and waits for its task. */
  z.object({ kind: z.literal("joined") }),
  z.object({ kind: z.literal("serving"), announcement: z.string().nullable() }),
  question,
  z.object({ kind: z.literal("answer"), id: z.int(), text: z.string().nullable() }),
]);

// In the first process

type ForkOptions = Pick<Task, "databaseUrl"> & {
  readonly count: number;
  readonly logger: WarnLogger;
  /** How long they may take to stop. */
  readonly stopMs: number;
};

/** The forked processes. Disposing sends SIGTERM to them and, when the time is over, SIGKILL. */
type Forked = AsyncDisposable & {
  /** Resolves once all of them serve, with what one of them announces. */
  readonly serving: Promise<string>;
  /** Resolves when one ended by itself before all served: with its exit code. */
  readonly failed: Promise<number>;
};

type Running = { readonly worker: Worker; serves: boolean };

/** Forks this program so many times. From when all serve, one that ends is started again, and the others go on. */
export function forkProcesses({ count, databaseUrl, logger, stopMs }: ForkOptions): Forked {
  const running = new Map<number, Running>();
  const serving = Promise.withResolvers<string>();
  const failed = Promise.withResolvers<number>();
  const closing = new AbortController();
  const pending = new Map<number, (text: string | null) => void>();
  let announcement = "";
  let first = true;
  let questions = 0;

  const send = ({ worker }: Running, message: z.infer<typeof ToForked>) => {
    if (worker.isConnected()) worker.send(message, () => undefined); // one that ends meanwhile is seen to end
  };

  const query = async (number: number, queried: Question): Promise<Answer> => {
    questions += 1;
    const id = questions;
    const { promise, resolve } = Promise.withResolvers<string | null>();
    pending.set(id, resolve);
    const timer = setTimeout(() => resolve(null), ANSWER_MS);
    const one = running.get(number);
    if (one === undefined) resolve(null);
    else send(one, { kind: "question", id, question: queried });
    const text = await promise;
    clearTimeout(timer);
    pending.delete(id);
    return { number, text };
  };

  const receive = async (number: number, sender: Running, message: unknown) => {
    const { data } = FromForked.safeParse(message);
    if (data?.kind === "joined") {
      send(sender, { kind: "task", task: { number, databaseUrl, first } });
    } else if (data?.kind === "serving") {
      sender.serves = true;
      announcement ||= data.announcement ?? "";
      if (running.size < count || [...running.values()].some(({ serves }) => !serves)) return;
      first = false;
      serving.resolve(announcement);
    } else if (data?.kind === "answer") {
      pending.get(data.id)?.(data.text);
    } else if (data?.kind === "question") {
      const others = numbers.filter((other) => other !== number);
      const answers = await Promise.all(others.map((other) => query(other, data.question)));
      send(sender, { kind: "answers", id: data.id, answers });
    }
  };

  /** Forks one and waits for its end; gives the exit code, null after a signal. */
  const runOnce = (number: number): Promise<number | null> =>
    new Promise((resolve, reject) => {
      const worker = cluster.fork();
      const one: Running = { worker, serves: false };
      running.set(number, one);
      worker.on("message", (message: unknown) => void receive(number, one, message));
      worker.once("error", reject); // it could not be forked
      worker.once("exit", (code: number, signal: string | null) => resolve(signal === null ? code : null));
    });

  const keepRunning = async (number: number) => {
    for (let failures = 0; !closing.signal.aborted; ) {
      const startedAt = performance.now();
      const ended = await runOnce(number).catch((error: unknown) => messageOf(error));
      running.delete(number);
      if (closing.signal.aborted) return;
      if (first && typeof ended === "number" && ended !== 0) return failed.resolve(ended);
      failures = performance.now() - startedAt > STEADY_MS ? 1 : failures + 1;
      const waitMs = backoffMs(failures, MAX_RESTART_MS);
      const fields = { process: number, ended: ended ?? "by a signal" };
      logger.warn(fields, `process of the node ended; starting it again in ${Math.round(waitMs)} ms`);
      await pause(waitMs, closing.signal);
    }
  };

  const numbers = Array.from({ length: count }, (_, index) => index + 1);
  const all = Promise.all(numbers.map(keepRunning));
  const signalAll = (signal: NodeJS.Signals) => {
    for (const { worker } of running.values()) worker.process.kill(signal);
  };
  return {
    serving: serving.promise,
    failed: failed.promise,
    async [Symbol.asyncDispose]() {
      closing.abort();
      signalAll("SIGTERM");
      const timer = setTimeout(() => signalAll("SIGKILL"), stopMs);
      await all;
      clearTimeout(timer);
    },
  };
}

// In a forked process

/** What a forked process has of the others. Disposing lets the process end. */
export type Peers = Disposable & {
  readonly task: Task;
  /** Tells the first process that this one serves, and what it has to announce. */
  serving(announcement: string | null): void;
  /** Answers the others from now on. */
  answer(answers: Readonly<Record<Question, () => Promise<string>>>): void;
  /** Queries all other processes of the node, in the order of their numbers. */
  query(question: Question): Promise<readonly Answer[]>;
};

/**
 * Joins the processes of the node; undefined in one that was not forked. The process ends at once when the first one does, even
 * by SIGKILL: Node ends a process of a cluster whose channel is cut.
 */
export async function joinProcesses(): Promise<Peers | undefined> {
  const { worker } = cluster;
  if (worker === undefined) return undefined;
  const task = Promise.withResolvers<Task>();
  const waiting = new Map<number, (answers: readonly Answer[]) => void>();
  let answering: Parameters<Peers["answer"]>[0] | undefined;
  let questions = 0;
  const send = (message: z.infer<typeof FromForked>) => void worker.send(message, () => undefined);
  const answerTo = async ({ id, question }: { id: number; question: Question }) => {
    const text = (await answering?.[question]().catch(() => null)) ?? null;
    send({ kind: "answer", id, text });
  };
  worker.on("message", (message: unknown) => {
    const { data } = ToForked.safeParse(message);
    if (data?.kind === "task") task.resolve(data.task);
    else if (data?.kind === "question") void answerTo(data);
    else if (data?.kind === "answers") {
      waiting.get(data.id)?.(data.answers);
      waiting.delete(data.id);
    }
  });
  send({ kind: "joined" });
  return {
    task: await task.promise,
    serving: (announcement) => send({ kind: "serving", announcement }),
    answer: (answers) => {
      answering = answers;
    },
    query: (question) => {
      questions += 1;
      const { promise, resolve } = Promise.withResolvers<readonly Answer[]>();
      waiting.set(questions, resolve);
      send({ kind: "question", id: questions, question });
      return promise;
    },
    [Symbol.dispose]: () => process.channel?.unref(),
  };
}
