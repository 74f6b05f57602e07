// Fences of time: what is promised of the schedule, and what holds when somebody sets the clock.
import { type Mutation, mutation } from "./mutation.ts";

const SET = "a clock that is set once, at each of its readings";
const ALWAYS = "sees 11 attempts over some 52 hours";

export const timeMutations: readonly Mutation[] = [
  mutation(
    "no event is earlier than the one before it",
    "event-store/decide-batch.ts",
    "at: Math.max(command.at, batch.at)",
    "at: command.at",
    "faults/time.test.ts",
    SET,
  ),
  mutation(
    "no attempt before its time, decided",
    "domain/delivery.ts",
    "if (command.at < state.nextAt) return [];",
    "",
    "faults/time.test.ts",
    SET,
  ),
  mutation(
    "an attempt whose clock was set back comes again",
    "workers/attempt-delivery.ts",
    "return lookAt(state, work, at).verdict ?? again(at);",
    'return state.status === "retrying" ? DONE : (lookAt(state, work, at).verdict ?? again(at));',
    "faults/time.test.ts",
    SET,
  ),
  mutation(
    "a fallback reads the clock once",
    "workers/fallback.ts",
    '{ type: "FallbackDue", at, mail }',
    '{ type: "FallbackDue", at: parts.now(), mail }',
    "faults/time.test.ts",
    SET,
  ),
  mutation(
    "jitter within its bounds",
    "domain/retry-policy.ts",
    "2 * policy.jitter * random",
    "3 * policy.jitter * random",
    "faults/time.test.ts",
    ALWAYS,
  ),
];
