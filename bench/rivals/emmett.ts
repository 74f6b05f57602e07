// Emmett's event store on PostgreSQL, as its documentation calls it.
import { loadRival } from "../support/rival.ts";

type Store = {
  appendToStream(
    stream: string,
    events: readonly { type: string; data: object; metadata: object }[],
    options: { expectedStreamVersion: bigint | "STREAM_DOES_NOT_EXIST" },
  ): Promise<{ nextExpectedStreamVersion: bigint }>;
  schema: { migrate(): Promise<unknown> };
  close(): Promise<void>;
};
type Package = {
  getPostgreSQLEventStore(url: string, options: { connectionOptions: { pool: unknown } }): Store;
};

type Emmett = AsyncDisposable & {
  /** Appends one event to a stream that has `count` already. */
  append(stream: string, count: number, event: { type: string; data: object; metadata: object }): Promise<void>;
};

/** Opens it on a pool of pg's, which bounds its connections. */
export async function openEmmett(url: string, pool: unknown): Promise<Emmett> {
  const { getPostgreSQLEventStore } = (await loadRival("@event-driven-io/emmett-postgresql")) as Package;
  const store = getPostgreSQLEventStore(url, { connectionOptions: { pool } });
  await store.schema.migrate();
  return {
    async append(stream, count, event) {
      const expectedStreamVersion = count === 0 ? "STREAM_DOES_NOT_EXIST" : BigInt(count);
      await store.appendToStream(stream, [event], { expectedStreamVersion });
    },
    [Symbol.asyncDispose]: () => store.close(),
  };
}
