// A run of hostile input against a server of its own: sends it, counts, and looks at answers, log and server.
import pg from "pg";
import { runningEmbeddedPostgres } from "../../../src/embedded/postgres.ts";
import { type Body, until } from "../../e2e/support/api.ts";
import { folderWithCluster, isReady, type Running, startServer } from "../../e2e/support/server.ts";
import { answerFaults, type Known, type Refused, refusalFaults } from "./answers.ts";
import { type Hostile, hostileRequest } from "./requests.ts";
import { type Operation, openScene, operationsOf, type Scene, Scenes, SOUND } from "./scene.ts";
import { type WireAnswer, Wires } from "./wire.ts";

type Logged = {
  readonly position: string;
  readonly stream: string;
  readonly type: string;
  readonly data: string;
  readonly correlation: string;
  readonly actor: { readonly type: string };
};

/** What was sent, by the id under which its events would stand in the log; and what stands there that should not. */
class LogWatch implements AsyncDisposable {
  readonly #client: pg.Client;
  /** How many events each may have led to at most. */
  readonly #allowed = new Map<string, number>();
  readonly #refused = new Map<string, string>();
  /** The uses of keys that were recorded: one for each key and hour. */
  readonly #uses = new Set<string>();
  #position = "0";
  events = 0;

  private constructor(client: pg.Client) {
    this.#client = client;
  }

  /** Of the server that runs on this folder. */
  static async open(dataDir: string): Promise<LogWatch> {
    const url = await runningEmbeddedPostgres(dataDir);
    if (url === undefined) throw new Error("the server has no PostgreSQL of its own");
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    const watch = new LogWatch(client);
    await watch.faults();
    return watch;
  }

  /** It was carried out. */
  allow(correlation: string, events = Number.POSITIVE_INFINITY): void {
    this.#allowed.set(correlation, events);
  }

  /** It was refused, or nobody knows: nothing may come of it. */
  refuse(correlation: string, what: string): void {
    this.#refused.set(correlation, what);
  }

  /** In words, the events since the last look that should not be there. */
  async faults(): Promise<readonly string[]> {
    const news = await this.#news();
    this.events += news.length;
    this.#position = news.at(-1)?.position ?? this.#position;
    return news.flatMap(({ type, correlation, position, stream, data, actor }) => {
      if (correlation === SOUND) return [];
      // Nobody wrote a growing message any further for a minute.
      if (type === "MessageCancelled" && actor.type === "system") return [];
      if (type === "KeyUsed" && !this.#uses.has(`${stream} ${data}`)) {
        this.#uses.add(`${stream} ${data}`);
        return [];
      }
      const left = this.#allowed.get(correlation);
      this.#allowed.set(correlation, (left ?? 0) - 1);
      if (left !== undefined && left > 0) return [];
      return [
        `${type} at ${position} came of ${this.#refused.get(correlation) ?? `${correlation}, which nobody sent`}`,
      ];
    });
  }

  async #news(): Promise<readonly Logged[]> {
    const { rows } = await this.#client.query<
      Omit<Logged, "data" | "correlation" | "actor"> & { data: Buffer; metadata: Buffer }
    >(
      "select e.position::text, e.stream, e.type, e.data, e.metadata from log.events e where e.position > $1 order by e.position",
      [this.#position],
    );
    return rows.map(({ data, metadata, ...event }) => {
      const { correlation, actor } = JSON.parse(metadata.toString());
      return { ...event, data: data.toString(), correlation: String(correlation), actor };
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.end();
  }
}

/** Connections that send at the same time. */
const AT_ONCE = 16;
/** Inputs between two looks at the log and the server. */
const BATCH = 2_000;
/** Beyond these nothing new would be learned. */
const MAX_FAULTS = 40;
/** The most memory that the server may take, whatever it is sent. */
const MAX_BYTES = 1024 * 1024 * 1024;

/** How often each came. */
class Tally {
  readonly #counts = new Map<string, number>();

  add(name: string | number): void {
    this.#counts.set(String(name), (this.#counts.get(String(name)) ?? 0) + 1);
  }

  get total(): number {
    return [...this.#counts.values()].reduce((sum, count) => sum + count, 0);
  }

  toString(): string {
    const sorted = [...this.#counts].toSorted(([a], [b]) => (a < b ? -1 : 1));
    return sorted.map(([name, count]) => `${name} ${count}`).join(", ");
  }
}

export type HostileRun = AsyncDisposable & {
  readonly url: string;
  readonly server: Running;
  readonly scene: Scene;
  readonly operations: readonly Operation[];
  readonly log: LogWatch;
  readonly kinds: Tally;
  readonly answers: Tally;
  /** What was found, in words. */
  readonly faults: string[];
  fault(what: string, ...why: readonly string[]): void;
  /** Whether nothing new would be learned. */
  readonly full: boolean;
  /** Looks at the log, the process and what it printed, and has a sound request served. */
  look(): Promise<void>;
};

/** Starts a server of its own. */
export async function openRun(): Promise<HostileRun> {
  await using open = new AsyncDisposableStack();
  const folder = open.use(await folderWithCluster());
  const server = open.use(await startServer({ dataDir: folder.path }));
  const { url } = server;
  const log = open.use(await LogWatch.open(folder.path));
  const scene = await openScene(url);
  const operations = await operationsOf(url, scene.ids);
  const faults: string[] = [];
  const fault = (what: string, ...why: readonly string[]) => {
    if (why.length > 0 && faults.length < MAX_FAULTS) faults.push(`${what}\n    ${why.join("\n    ")}`);
  };
  let heard = 0;
  const moved = open.move();
  return {
    ...{ url, server, scene, operations, log, faults, fault, kinds: new Tally(), answers: new Tally() },
    get full() {
      return faults.length >= MAX_FAULTS;
    },
    async look() {
      const output = server.output();
      const errors = output
        .slice(heard)
        .split("\n")
        .filter((line) => /"level":[56]0|Warning: /.test(line));
      heard = output.length;
      fault("the log", ...(await log.faults()).slice(0, 10));
      fault("the server's output", ...errors.slice(0, 5).map((line) => line.slice(0, 1_500)));
      fault("the server", ...(await serverFaults(server)), ...(await soundFaults(scene)));
    },
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

async function serverFaults({ url, process }: Running): Promise<readonly string[]> {
  if (process.exitCode !== null || process.signalCode !== null) return [`it ended: ${process.exitCode}`];
  if (!(await until(() => isReady(url), Boolean))) return ["it is not ready"];
  const metrics = await (await fetch(`${url}/metrics`)).text();
  const bytes = Number(/^process_resident_memory_bytes (\S+)$/m.exec(metrics)?.[1]);
  return bytes < MAX_BYTES ? [] : [`it takes ${bytes} bytes`];
}

/** A message can be posted, read and listed. */
async function soundFaults({ api, ids: { room_id } }: Scene): Promise<readonly string[]> {
  const content = `sound ${performance.now()}`;
  const { status, body } = await api.post(`/rooms/${room_id}/messages`, { sender_id: "alice", content });
  const read = await api.get(`/rooms/${room_id}/messages/${body.id}`);
  const list = await api.get(`/rooms/${room_id}/messages?limit=1`);
  const seen = [status, read.status, read.body.content, list.body.data?.map((one: Body) => one.content).join()];
  return seen.join() === [201, 200, content, content].join() ? [] : [`a sound request: ${seen}`];
}

/** A request in words, short enough to read. */
const wordsOf = ({ kind, request: { method, target, headers, body } }: Hostile): string => {
  const lines = headers.map(([name, value]) => `${name}: ${value}`.slice(0, 80)).join(" | ");
  return `${kind}: ${method} ${target} ${lines} ${Buffer.from(body ?? []).toString("latin1")}`.slice(0, 700);
};

/** Does the work for each number, several at once, until nothing new would be learned. */
export async function inParallel(run: HostileRun, count: number, work: (nth: number) => Promise<void>): Promise<void> {
  const numbers = Array.from({ length: count }, (_, nth) => nth).values();
  const worker = async () => {
    for (const nth of numbers) if (!run.full) await work(nth);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

/** Sends the inputs of a seed, from one number on, to every operation in turn. */
export async function sendRequests(run: HostileRun, seed: number, from: number, count: number): Promise<void> {
  const known: Known = new Map();
  const scenes = new Scenes(run.url);
  for (let begin = from; begin < from + count && !run.full; begin += BATCH) {
    using wires = new Wires(run.url);
    await inParallel(run, Math.min(BATCH, from + count - begin), async (index) => {
      const nth = begin + index;
      const operation = run.operations[nth % run.operations.length];
      if (operation === undefined) return;
      const hostile = hostileRequest(seed, nth, operation, await scenes.of(operation));
      const answer = await wires.send(hostile.request).catch(String);
      note(run, hostile, operation, answer, known, `input ${nth} of seed ${seed}, ${wordsOf(hostile)}`);
      if (typeof answer === "object" && answer.status < 300) scenes.spend(operation);
    });
    await run.look();
    scenes.clear();
  }
}

function note(
  run: HostileRun,
  { kind, operation, request }: Hostile,
  intended: Operation,
  answer: WireAnswer | string | undefined,
  known: Known,
  words: string,
): void {
  run.kinds.add(kind);
  const { method } = request;
  if (typeof answer === "string" || answer === undefined) {
    run.answers.add("none");
    run.fault(words, answer ?? "the connection ended without an answer");
    return;
  }
  run.answers.add(answer.status);
  const id = answer.headers["x-request-id"] ?? "none";
  if (answer.status < 300 && method !== "GET" && method !== "HEAD") run.log.allow(id);
  else run.log.refuse(id, words);
  const asksPage = request.headers.some(([name, value]) => /^accept$/i.test(name) && value.includes("text/html"));
  const asked = { method, operation, asksPage };
  run.fault(`${intended.method} ${intended.template}, ${words}`, ...answerFaults(answer, asked, known));
}

/** Sends requests that must be refused as each says. In words, what is wrong with the answers, by request. */
export async function refuse(run: HostileRun, all: readonly Refused[]): Promise<readonly string[]> {
  const known: Known = new Map();
  const wrong: string[] = [];
  using wires = new Wires(run.url);
  await inParallel(run, all.length, async (nth) => {
    const refused = all[nth];
    if (refused === undefined) return;
    const { method, path, headers, body } = refused;
    const lines = Object.entries({ host: run.scene.host, ...headers });
    const request = { method, target: path, headers: lines, body: body === undefined ? body : Buffer.from(body) };
    const answer = await wires.send(request).catch(String);
    const faults =
      typeof answer === "object"
        ? refusalFaults(refused, answer, run.url, known)
        : [answer ?? "ended without an answer"];
    const name = `${method} ${path} ${body ?? ""}`.slice(0, 300);
    if (faults.length > 0) wrong.push(`${name}\n  ${faults.join("\n  ")}`);
  });
  return [...wrong, ...(await run.log.faults())];
}
