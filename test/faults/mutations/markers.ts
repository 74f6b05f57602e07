// Fences around read and delivered markers.
import { condition, type Mutation, replaceWith, substitute } from "./mutation.ts";

export const markerMutations: readonly Mutation[] = [
  {
    fence: "floor-of-base",
    name: "what own messages read rests on the marker as it is now",
    mutate: condition(true),
    caughtBy: {
      file: "specs/reads.test.ts",
      test: "lets it move forward again, whatever an older base had read",
    },
  },
  {
    fence: "unread-before-joining",
    name: "nothing from before joining is marked unread",
    mutate: replaceWith("0"),
    caughtBy: { file: "api/http/reads.test.ts", test: "twice is once, and is not before joining" },
  },
  {
    fence: "delivered-pace",
    name: "what is delivered is sent once a second",
    mutate: substitute("this.#publishedAt.has(key) ? [] : [event]", "[event]"),
    caughtBy: {
      file: "api/realtime/pending-markers.test.ts",
      test: "what was delivered is sent once a second and user",
    },
  },
];
