// What holds notifications back: preferences, quiet hours, throttles, collapse keys, deduplication.
import { drop, type Mutation, replaceWith } from "./mutation.ts";

const specs = "specs/holding-back.test.ts";
export const holdingBackMutations: readonly Mutation[] = [
  {
    fence: "hold-end",
    name: "a hold ends at its time",
    mutate: replaceWith("false"),
    caughtBy: { file: specs, test: "that is held goes on at its time, not before" },
  },
  {
    fence: "withhold-open",
    name: "an attempt that is open counts, whatever is decided meanwhile",
    mutate: replaceWith("false"),
    caughtBy: { file: specs, test: "whose attempt is open is not withheld" },
  },
  {
    fence: "own-headers",
    name: "headers that are ours stay ours",
    mutate: replaceWith("false"),
    caughtBy: { file: specs, test: "of a mail is one that neither we nor a provider set" },
  },
  {
    fence: "header-lines",
    name: "a header is one line",
    mutate: replaceWith("false"),
    caughtBy: { file: specs, test: "is one line" },
  },
  {
    fence: "clock-gap",
    name: "a wall-clock time that does not exist is the next that does",
    mutate: replaceWith("earlier.epochMilliseconds"),
    caughtBy: { file: "domain/quiet-hours.test.ts", test: "an end that does not exist is the next time that does" },
  },
  {
    fence: "quiet-hours-end",
    name: "quiet hours end",
    mutate: replaceWith("false"),
    caughtBy: { file: specs, test: "quiet hours that never end are refused" },
  },
  {
    fence: "critical-goes-through",
    name: "what is critical goes through preferences and quiet hours",
    mutate: drop,
    caughtBy: { file: specs, test: "what is critical goes through, and so does a webhook" },
  },
  {
    fence: "preference",
    name: "what a user does not want is not sent",
    mutate: drop,
    caughtBy: { file: specs, test: "say which category comes by which channel" },
  },
  {
    fence: "throttle-again",
    name: "a throttle that is asked again gives the same answer",
    mutate: drop,
    caughtBy: { file: specs, test: "keeps what its window needs, and no more" },
  },
  {
    fence: "throttle-limit",
    name: "the limit of a throttle",
    mutate: replaceWith("true"),
    caughtBy: { file: specs, test: "lets through as many as its limit, and refuses the next" },
  },
  {
    fence: "collapse-newer",
    name: "only a newer notification replaces another",
    mutate: replaceWith("true"),
    caughtBy: { file: specs, test: "the newer is not replaced by the older" },
  },
  {
    fence: "dedupe-window",
    name: "a deduplication key is one notification's within its window",
    mutate: replaceWith("null"),
    caughtBy: { file: specs, test: "is not another's within the window, and free after it" },
  },
  {
    fence: "dedupe-abandoned",
    name: "a notification that was given up is never made",
    mutate: drop,
    caughtBy: { file: specs, test: "a notification that was given up is never made" },
  },
  {
    fence: "redrive-choices",
    name: "what is redriven goes out as its recipient wants",
    mutate: replaceWith("null"),
    caughtBy: { file: "api/http/holding-back.test.ts", test: "as its user wants by then" },
  },
];
