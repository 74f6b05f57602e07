// Fences of the log, the locks and what is sealed.
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these strings are pieces of source text
import { condition, drop, type Mutation, replaceWith, substitute } from "./mutation.ts";

export const storageMutations: readonly Mutation[] = [
  {
    fence: "append-expected-revision",
    name: "expected revision, log in PostgreSQL",
    mutate: condition(false),
    caughtBy: {
      file: "contracts/postgres-log.test.ts",
      test: "refuses to expect events in a stream that does not exist",
    },
  },
  {
    fence: "eventstoredb-expected-revision",
    name: "expected revision, EventStoreDB",
    mutate: replaceWith('"any"'),
    caughtBy: {
      file: "contracts/eventstore-db.test.ts",
      test: "refuses to expect events in a stream that does not exist",
    },
    needs: "EventStoreDB",
  },
  {
    fence: "eventstoredb-live-end",
    name: "a place that EventStoreDB's shared end does not reach back to",
    mutate: drop,
    caughtBy: { file: "event-store/eventstore-db-live-end.test.ts", test: "who is slower than what is kept" },
    needs: "EventStoreDB",
  },
  {
    fence: "written-data",
    name: "the writer's own arrays, for the same bytes alone",
    mutate: drop,
    also: [{ fence: "written-metadata", mutate: drop }],
    caughtBy: { file: "event-store/eventstore-db-live-end.test.ts", test: "only when it has the same bytes" },
  },
  {
    fence: "append-sent-again",
    name: "an append sent again is found by its ids",
    mutate: condition(false),
    caughtBy: {
      file: "contracts/postgres-log.test.ts",
      test: "sent again, it succeeds with the same answer and writes nothing",
    },
  },
  {
    fence: "append-lock",
    name: "advisory lock of the log's flush",
    mutate: drop,
    caughtBy: { file: "event-store/postgres-log.test.ts", test: "what waits together is one commit" },
  },
  {
    fence: "durable-answer",
    name: "an answer means durable",
    mutate: drop,
    caughtBy: { file: "event-store/postgres-log-durable.test.ts", test: "an append that was answered is there" },
  },
  {
    fence: "build-lock",
    name: "advisory lock of builds",
    mutate: condition(false),
    caughtBy: { file: "projections/rebuild.test.ts", test: "a second rebuild at once" },
  },
  {
    fence: "set-up-lock",
    name: "lock of a schema that is made",
    mutate: drop,
    caughtBy: { file: "platform/set-up.test.ts", test: "eight processes set up an empty database at once" },
  },
  {
    fence: "folder-lock",
    name: "lock of the data folder",
    mutate: substitute("BEGIN EXCLUSIVE", "SELECT 1"),
    caughtBy: { file: "embedded/postgres.test.ts", test: "a second server is refused with the pid of the first" },
  },
  {
    fence: "lease-free",
    name: "lease: taken only when it is free",
    mutate: replaceWith("${free} or true"),
    caughtBy: { file: "platform/leader.test.ts", test: "one of two leads" },
  },
  {
    fence: "lease-generation",
    name: "lease: nothing is written under one that is over",
    mutate: replaceWith("${add(generation)}::bigint is not null"),
    caughtBy: {
      file: "platform/leader.test.ts",
      test: "a holder whose time ran out while it was paused may write no more",
    },
  },
  {
    fence: "stale-state",
    name: "a state that others have moved on is not answered from",
    mutate: drop,
    caughtBy: {
      file: "event-store/handle-command.test.ts",
      test: "a stale state never answers that nothing is to be done",
    },
  },
  {
    fence: "idempotency-fingerprint",
    name: "idempotency fingerprint",
    mutate: condition(true),
    caughtBy: { file: "event-store/idempotency-window.test.ts", test: "is refused with another body" },
  },
  {
    fence: "sealed-place",
    name: "sealing's binding to the event, its position in the stream and its fields",
    mutate: replaceWith("Buffer.alloc(0)"),
    caughtBy: { file: "event-store/sealing.test.ts", test: "by moving a blob to another stream is noticed" },
  },
  {
    fence: "sealed-in-the-open",
    name: "a sealed field that is stored in the open",
    mutate: condition(false),
    caughtBy: { file: "event-store/sealing.test.ts", test: "by storing a sealed field in the open is noticed" },
  },
  {
    fence: "missing-key",
    name: "a missing data key is no erasure",
    mutate: replaceWith("undefined"),
    caughtBy: { file: "event-store/sealing.test.ts", test: "by naming a key that never was is no erasure" },
  },
  {
    fence: "destruction-proof",
    name: "only the server says what was destroyed",
    mutate: condition(true),
    caughtBy: { file: "event-store/keyring.test.ts", test: "is not recorded by who can write the database alone" },
  },
  {
    fence: "event-mac",
    name: "the MAC of an event",
    mutate: replaceWith("true"),
    caughtBy: { file: "event-store/event-macs.test.ts", test: "another revision" },
  },
  {
    fence: "unsigned-events",
    name: "events without a MAC, up to the log's recorded position alone",
    mutate: substitute(" && event.position <= requiredAfter", ""),
    caughtBy: { file: "event-store/event-macs.test.ts", test: "without a MAC an event is accepted up to the position" },
  },
  {
    fence: "forged-in-state",
    name: "a forged event changes no state",
    mutate: drop,
    caughtBy: { file: "faults/forgery.test.ts", test: "KeyRotated" },
  },
  {
    fence: "guarded-append",
    name: "nothing is appended to stores that differ",
    mutate: drop,
    caughtBy: { file: "event-store/log-guard.test.ts", test: "another log" },
  },
  {
    fence: "guarded-subscribers",
    name: "subscribers get nothing from stores that differ",
    mutate: drop,
    caughtBy: { file: "event-store/log-guard.test.ts", test: "subscribers are handed nothing while the stores differ" },
  },
  {
    fence: "guard-suspicions",
    name: "a log is recognised after it was away, not before",
    mutate: drop,
    caughtBy: { file: "event-store/log-guard.test.ts", test: "a log that was away is recognised before" },
  },
  {
    fence: "guard-log-id",
    name: "a running node's log is the one that it opened",
    mutate: drop,
    caughtBy: { file: "event-store/log-guard.test.ts", test: "another log" },
  },
  {
    fence: "guard-log-end",
    name: "a running node's log is not shorter than it was",
    mutate: drop,
    caughtBy: { file: "event-store/log-guard.test.ts", test: "an older copy" },
  },
  {
    fence: "foreign-database",
    name: "a database without the log's keys",
    mutate: condition(false),
    caughtBy: { file: "event-store/keyring.test.ts", test: "not with a database that lacks its keys" },
  },
  {
    fence: "seal-tag-length",
    name: "length of a seal's tag",
    mutate: drop,
    caughtBy: { file: "event-store/sealing.test.ts", test: "with a tag cut to" },
  },
  {
    fence: "erasure-forgets",
    name: "an erasure of what was sealed last",
    mutate: drop,
    caughtBy: { file: "event-store/keyring.test.ts", test: "clears the plaintext cache" },
  },
  {
    fence: "erasure-while-sealing",
    name: "an erasure while an event is sealed",
    mutate: replaceWith("{ add: (...args) => keyring.plaintextCache.current().add(...args) }"),
    caughtBy: {
      file: "event-store/plaintext-cache.test.ts",
      test: "what was being sealed meanwhile reads as erased too",
    },
  },
  {
    fence: "key-wrapping-row",
    name: "a wrapped key's binding to its row",
    mutate: replaceWith("[]"),
    caughtBy: { file: "event-store/keyring.test.ts", test: "does not open a key that was moved to another row" },
  },
  {
    fence: "derived-before",
    name: "what is derived from a row that goes",
    mutate: replaceWith("false"),
    caughtBy: { file: "projections/inbox-blocks.test.ts", test: "what comes and goes in one batch or in several" },
  },
  {
    fence: "derived-sources",
    name: "what a derived read model follows from is built with it",
    mutate: replaceWith("[one.name]"),
    caughtBy: { file: "projections/delivery-sums.test.ts", test: "built anew, with what they follow from" },
  },
];
