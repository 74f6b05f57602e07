// The log itself, past the server: which request or connection each new event came from.
import pg from "pg";
import { runningEmbeddedPostgres } from "../../../src/embedded/postgres.ts";
import { SOUND } from "./hostile-scene.ts";

type Logged = { readonly position: string; readonly type: string; readonly correlation: string };

/** What was sent, by the id under which its events would stand in the log; and what stands there that should not. */
export class LogWatch implements AsyncDisposable {
  readonly #client: pg.Client;
  /** How many events each may have led to at most. */
  readonly #allowed = new Map<string, number>();
  readonly #refused = new Map<string, string>();
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
    return news.flatMap(({ type, correlation, position }) => {
      if (correlation === SOUND) return [];
      const left = this.#allowed.get(correlation);
      this.#allowed.set(correlation, (left ?? 0) - 1);
      if (left !== undefined && left > 0) return [];
      return [
        `${type} at ${position} came of ${this.#refused.get(correlation) ?? `${correlation}, which nobody sent`}`,
      ];
    });
  }

  async #news(): Promise<readonly Logged[]> {
    const { rows } = await this.#client.query<{ position: string; type: string; metadata: Buffer }>(
      "select e.position::text, e.type, e.metadata from log.events e where e.position > $1 order by e.position",
      [this.#position],
    );
    return rows.map(({ position, type, metadata }) => {
      return { position, type, correlation: String(JSON.parse(metadata.toString()).correlation) };
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.end();
  }
}
