// Fences of the log, the locks and what is sealed.
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these strings are pieces of source text
import { type Mutation, mutation } from "./mutation.ts";

const STALE_REVISION = "refuses to expect events in a stream that does not exist";

export const storageMutations: readonly Mutation[] = [
  mutation(
    "expected revision, log in memory",
    "event-store/in-memory.ts",
    "if (expected !== actual) {",
    "if (expected < -1) {",
    "contracts/in-memory.test.ts",
    STALE_REVISION,
  ),
  mutation(
    "expected revision, log in PostgreSQL",
    "event-store/postgres-log/schema.ts",
    "WHERE coalesce(h.revision, -1) <> n.expected - n.skip",
    "WHERE false",
    "contracts/postgres-log.test.ts",
    STALE_REVISION,
  ),
  {
    ...mutation(
      "expected revision, EventStoreDB",
      "event-store/eventstore-db/writer.ts",
      "const expectedRevision = expected === NO_STREAM ? NO_SUCH_STREAM : BigInt(expected);",
      'const expectedRevision = expected === NO_STREAM ? ("any" as typeof NO_SUCH_STREAM) : ("any" as never);',
      "contracts/eventstore-db.test.ts",
      STALE_REVISION,
    ),
    needs: "EventStoreDB",
  },
  mutation(
    "heads of streams, appends in order",
    "event-store/postgres-log/schema.ts",
    "WHERE coalesce(h.revision, -1) <> n.head",
    "WHERE false",
    "event-store/in-order.test.ts",
    "a stream that is elsewhere is told",
  ),
  mutation(
    "an append sent again is found by its ids",
    "event-store/postgres-log/schema.ts",
    "IF same_count = a.count THEN",
    "IF false THEN",
    "contracts/postgres-log.test.ts",
    "sent again, it succeeds with the same answer and writes nothing",
  ),
  mutation(
    "the first of many appends in order goes alone",
    "event-store/pipelined.ts",
    `const answered = await send(first);
      for (const { position } of [answered, ...(await all(others.map(send)))]) {`,
    "for (const { position } of await all([first, ...others].map(send))) {",
    "event-store/in-order.test.ts",
    "the first goes alone",
  ),
  mutation(
    "advisory lock of the log's flush",
    "event-store/postgres-log/schema.ts",
    `  PERFORM pg_advisory_xact_lock(\${LOCK_CLASS}, \${APPEND_LOCK});
  SELECT coalesce(max(e.position), 0) INTO base FROM log.events e;
  recorded`,
    `  SELECT coalesce(max(e.position), 0) INTO base FROM log.events e;
  recorded`,
    "contracts/postgres-log.test.ts",
    "several writers",
  ),
  mutation(
    "an answer means durable",
    "event-store/postgres-log/flush.ts",
    "SET synchronous_commit = on;",
    "",
    "event-store/postgres-log.test.ts",
    "an answer means durable",
  ),
  mutation(
    "advisory lock of a stream's turn",
    "event-store/stream-turns.ts",
    '"SELECT pg_advisory_lock(hashtextextended($1, $2))"',
    '"SELECT hashtextextended($1, $2)"',
    "event-store/stream-turns.test.ts",
    "turns by PostgreSQL",
  ),
  mutation(
    "advisory lock of builds",
    "projections/rebuild.ts",
    "if (lock.rows[0]?.got !== true)",
    "if (lock.rows[0] === undefined)",
    "projections/rebuild.test.ts",
    "a second rebuild at once",
  ),
  mutation(
    "lock of the data folder",
    "embedded/folder-lock.ts",
    "BEGIN EXCLUSIVE",
    "SELECT 1",
    "embedded/postgres.test.ts",
    "a second server is refused with the pid of the first",
  ),
  mutation(
    "lease: taken only when it is free",
    "event-store/lease.ts",
    "where ${free} returning generation`",
    "where ${free} or true returning generation`",
    "event-store/lease.test.ts",
    "one of two leads",
  ),
  mutation(
    "lease: nothing is written under one that is over",
    "event-store/lease.ts",
    "where name = ${add(name)} and generation = ${add(generation)})`;",
    "where name = ${add(name)} and ${add(generation)}::bigint is not null)`;",
    "event-store/lease.test.ts",
    "a holder whose time ran out while it was paused may write no more",
  ),
  mutation(
    "a state that others have moved on is not answered from",
    "event-store/stream-writer.ts",
    "if (now.revision !== folded.revision) return this.#again(now, batch);",
    "",
    "event-store/handle-command.test.ts",
    "nor does a stale cache say that nothing is to be done",
  ),
  mutation(
    "idempotency fingerprint",
    "event-store/decide-batch.ts",
    "if (remembered.fingerprint === context.fingerprint) return",
    "return",
    "event-store/remembered-commands.test.ts",
    "with another body it is refused",
  ),
  {
    name: "sealing's binding to the event id",
    file: "src/event-store/sealing.ts",
    changes: [
      { find: "keyObjectOf(key.key), iv).setAAD(Buffer.from(eventId));", replace: "keyObjectOf(key.key), iv);" },
      { find: "    .setAAD(Buffer.from(eventId))\n", replace: "" },
    ],
    caughtBy: { file: "test/event-store/sealing.test.ts", test: "by moving a blob to another event is noticed" },
  },
  mutation(
    "length of a seal's tag",
    "event-store/sealing.ts",
    "    authTagLength: 16,\n",
    "",
    "event-store/sealing.test.ts",
    "with a tag cut to",
  ),
  mutation(
    "an erasure of what was sealed last",
    "event-store/keyring.ts",
    "      opened.forget();\n",
    "",
    "event-store/keyring.test.ts",
    "forgets what was sealed last",
  ),
  {
    name: "an erasure while an event is sealed",
    file: "src/event-store/envelope.ts",
    changes: [
      { find: "  const opened = keyring.opened.kept();\n  const taken", replace: "  const taken" },
      { find: "    opened.add(data", replace: "    keyring.opened.kept().add(data" },
    ],
    caughtBy: { file: "test/event-store/opened-events.test.ts", test: "what was being sealed meanwhile is erased too" },
  },
  mutation(
    "a wrapped key's binding to its row",
    "event-store/keyring-wrapping.ts",
    "Buffer.from(JSON.stringify([owner, id]));",
    "Buffer.from(JSON.stringify([typeof owner, typeof id]));",
    "event-store/keyring.test.ts",
    "does not open a key that was moved to another row",
  ),
];
