// Fences of the read models, the reactors and deliveries.
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these strings are pieces of source text
import { condition, drop, type Mutation, replaceWith, substitute } from "./mutation.ts";

export const workMutations: readonly Mutation[] = [
  {
    fence: "attempt-known-due",
    name: "only the log says that an attempt is not due",
    mutate: replaceWith("before !== undefined"),
    caughtBy: { file: "workers/known-deliveries.test.ts", test: "what a worker last knew of a delivery" },
  },
  {
    fence: "attempt-again",
    name: "an attempt that others were faster at is looked at again",
    mutate: replaceWith("DONE"),
    caughtBy: { file: "workers/known-deliveries.test.ts", test: "a delivery that others attempted" },
  },
  {
    fence: "projection-checkpoint",
    name: "checkpoint of the read models: compare and set",
    mutate: replaceWith("(${add(from)}::text is null or true)"),
    caughtBy: { file: "projections/checkpoint.test.ts", test: "a checkpoint that another has moved" },
  },
  {
    fence: "projection-generation",
    name: "generation of the read models",
    mutate: replaceWith("${add(fence.generation)}::bigint is not null"),
    caughtBy: { file: "projections/checkpoint.test.ts", test: "tables that were swapped" },
  },
  {
    fence: "projection-lease",
    name: "lease of the projector",
    mutate: replaceWith("(true or ${holds(term, add)})"),
    caughtBy: { file: "projections/checkpoint.test.ts", test: "a lease that is over" },
  },
  {
    fence: "projection-rows",
    name: "transaction: rows only with the checkpoint",
    mutate: replaceWith('"true"'),
    caughtBy: { file: "projections/projector.test.ts", test: "the one that is late writes nothing" },
  },
  {
    fence: "projection-lease",
    name: "lease of the projector, in every order",
    mutate: replaceWith("(true or ${holds(term, add)})"),
    caughtBy: { file: "faults/races-takeover.test.ts", test: "only who leads writes" },
  },
  {
    fence: "projection-log-id",
    name: "read models of another log",
    mutate: condition(false),
    caughtBy: { file: "projections/checkpoint.test.ts", test: "a group that was made from another log is refused" },
  },
  {
    fence: "look-first",
    name: "who waits for the read models looks before it pauses",
    mutate: substitute("wake()", "wakeIn(POLL_MS)"),
    caughtBy: { file: "projections/projector.test.ts", test: "looks before it pauses" },
  },
  {
    fence: "swap-lock",
    name: "lock of the group while tables are swapped",
    mutate: drop,
    caughtBy: { file: "projections/rebuild.test.ts", test: "while tables are swapped nobody else moves the group" },
  },
  {
    fence: "transaction",
    name: "transaction: jobs only with the reactors' checkpoint",
    mutate: drop,
    caughtBy: { file: "workers/queue.test.ts", test: "nothing of a transaction that throws is kept" },
  },
  {
    fence: "reactors-checkpoint",
    name: "checkpoint of the reactors: compare and set",
    mutate: replaceWith("$2::text is not null"),
    caughtBy: { file: "workers/recovery.test.ts", test: "reactors that lost their checkpoint for a while" },
  },
  {
    fence: "reactors-lease",
    name: "lease of the reactors",
    mutate: replaceWith("(true or ${holds(term, add)})"),
    caughtBy: { file: "workers/reactor-group.test.ts", test: "jobs of a batch whose lease is over" },
  },
  {
    fence: "attempt-number-started",
    name: "number of an attempt that is started",
    mutate: drop,
    caughtBy: { file: "specs/delivery-attempts.test.ts", test: "of another number than the next does nothing" },
  },
  {
    fence: "attempt-lease",
    name: "lease of an open attempt",
    mutate: drop,
    caughtBy: { file: "specs/delivery-attempts.test.ts", test: "that is open does nothing until its lease ends" },
  },
  {
    fence: "attempt-number-recorded",
    name: "number of an attempt whose failure is recorded",
    mutate: drop,
    caughtBy: { file: "specs/delivery-attempts.test.ts", test: "that comes twice, or late, changes nothing" },
  },
  {
    fence: "recorded-after-end",
    name: "nothing is recorded after a delivery's end",
    mutate: drop,
    caughtBy: { file: "specs/delivery-attempts.test.ts", test: "after the delivery's end changes nothing" },
  },
  {
    fence: "fallback-pending",
    name: "no fallback after an acknowledgement",
    mutate: drop,
    caughtBy: { file: "specs/delivery-ending.test.ts", test: "the fallback" },
  },
  {
    fence: "redrive-status",
    name: "redrive only of what failed",
    mutate: drop,
    caughtBy: { file: "specs/delivery-ending.test.ts", test: "is for those that were exhausted or expired" },
  },
  {
    fence: "attempt-after-stop",
    name: "no attempt after a stop",
    mutate: replaceWith("false"),
    caughtBy: { file: "workers/stopping.test.ts", test: "after a stop no attempt begins" },
  },
  {
    fence: "webhook-signature",
    name: "signature of a webhook",
    mutate: replaceWith("id"),
    caughtBy: { file: "channels/webhook.test.ts", test: "is a signed POST that standardwebhooks verifies" },
  },
  {
    fence: "webhook-secret-grace",
    name: "end of a webhook secret's grace",
    mutate: condition(true),
    caughtBy: { file: "workers/webhook-secrets.test.ts", test: "the secret before signs only while its grace lasts" },
  },
  {
    fence: "webhook-status-read",
    name: "a webhook's answer counts by its status line",
    mutate: condition(true),
    caughtBy: {
      file: "channels/webhook-faults.test.ts",
      test: "counts by its status with a blank behind Content-Length",
    },
  },
  {
    fence: "webhook-interim",
    name: "an interim answer is not the answer",
    mutate: condition(true),
    caughtBy: { file: "channels/webhook-faults.test.ts", test: "counts by its status with interim answers before" },
  },
  {
    fence: "ssrf-request",
    name: "SSRF: a webhook's address when it is asked for",
    mutate: condition(true),
    caughtBy: { file: "api/http/notifications-refused.test.ts", test: "a private target" },
  },
  {
    fence: "ssrf-provider",
    name: "SSRF: a provider's host when it is set",
    mutate: drop,
    caughtBy: { file: "faults/ssrf.test.ts", test: "refuses each target when it is set" },
  },
  {
    fence: "ssrf-each-address",
    name: "SSRF: each address of a name",
    mutate: substitute(".every(", ".some("),
    caughtBy: { file: "channels/guard.test.ts", test: "is refused for one address that is not public" },
  },
  {
    fence: "ssrf-socket-address",
    name: "SSRF: the address that a socket has",
    mutate: condition(false),
    caughtBy: { file: "channels/outgoing-socket.test.ts", test: "is cut before a byte is sent" },
  },
  {
    fence: "ssrf-isatap",
    name: "SSRF: tunnels inside ISATAP addresses",
    mutate: condition(false),
    caughtBy: { file: "channels/guard.test.ts", test: "2d00::5efe:10.0.0.1 is not public" },
  },
  {
    fence: "ssrf-host-services",
    name: "SSRF: services of the machine's host",
    mutate: drop,
    caughtBy: { file: "channels/guard.test.ts", test: "168.63.129.16 is not public" },
  },
  {
    fence: "certificates",
    name: "certificates",
    mutate: replaceWith("false"),
    caughtBy: {
      file: "channels/webhook.test.ts",
      test: "goes over TLS; loopback's certificate is taken unchecked in development mode only",
    },
  },
  {
    fence: "job-taken",
    name: "a job is taken once its worker has it",
    mutate: replaceWith("onPool(pool)"),
    caughtBy: { file: "workers/taking.test.ts", test: "the answer with the jobs is lost" },
  },
];
