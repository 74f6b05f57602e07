// Fences of time: what is promised of the schedule, and what holds when somebody sets the clock.
import { drop, type Mutation, replaceWith } from "./mutation.ts";

export const timeMutations: readonly Mutation[] = [
  {
    fence: "event-time-order",
    name: "no event is earlier than the one before it",
    mutate: replaceWith("command.at"),
    caughtBy: { file: "faults/time.test.ts", test: "a clock that is set once, at each of its readings" },
  },
  {
    fence: "attempt-before-time",
    name: "no attempt before its time, decided",
    mutate: drop,
    caughtBy: { file: "faults/time.test.ts", test: "a clock that is set once, at each of its readings" },
  },
  {
    fence: "attempt-clock-back",
    name: "an attempt whose clock was set back comes again",
    mutate: replaceWith('state.status === "retrying" ? DONE : (lookAt(state, work, at).verdict ?? again(at))'),
    caughtBy: { file: "faults/time.test.ts", test: "a clock that is set once, at each of its readings" },
  },
  {
    fence: "fallback-clock",
    name: "a fallback reads the clock once",
    mutate: replaceWith("parts.now()"),
    caughtBy: { file: "faults/time.test.ts", test: "a clock that is set once, at each of its readings" },
  },
  {
    fence: "retry-jitter",
    name: "jitter within its bounds",
    mutate: replaceWith("3 * jitter * random"),
    caughtBy: { file: "faults/time.test.ts", test: "sees 11 attempts over some 52 hours" },
  },
  {
    fence: "retry-after-lengthens",
    name: "Retry-After only lengthens a wait",
    mutate: replaceWith("retryAfterMs === null ? wait : 0"),
    caughtBy: { file: "specs/retry-policy.test.ts", test: "never sooner than the schedule" },
  },
];
