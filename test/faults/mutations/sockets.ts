// Fences around what users do over sockets.
import { condition, drop, type Mutation } from "./mutation.ts";

export const socketMutations: readonly Mutation[] = [
  {
    fence: "observers-only-observe",
    name: "who observes does nothing that a person does",
    mutate: drop,
    caughtBy: {
      file: "api/realtime/commands.test.ts",
      test: "a reader, a removed member and an observer are refused",
    },
  },
  {
    fence: "waiting-bytes",
    name: "bytes of commands that wait on a socket",
    mutate: condition(false),
    caughtBy: { file: "api/realtime/queues.test.ts", test: "large commands that wait" },
  },
];
