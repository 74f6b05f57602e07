// Fences of webhook endpoints: what each gets, when, and how it is kept from holding up others.
import { condition, drop, type Mutation, replaceWith } from "./mutation.ts";

const workers = "workers/endpoints.test.ts";
const specs = "specs/endpoints.test.ts";

export const endpointMutations: readonly Mutation[] = [
  {
    fence: "endpoint-rounds",
    name: "each endpoint has its own rounds",
    mutate: replaceWith("null"),
    caughtBy: { file: "workers/queue.test.ts", test: "another endpoint's job" },
  },
  {
    fence: "endpoint-slots",
    name: "one endpoint leaves slots to the others of its client",
    mutate: replaceWith("true"),
    caughtBy: { file: "workers/fairness.test.ts", test: "gives each endpoint of a client slots of its own" },
  },
  {
    fence: "endpoint-client",
    name: "an endpoint gets its own client's events alone",
    mutate: replaceWith("this.#byId.values()"),
    caughtBy: { file: workers, test: "gets the events that it names, of its own client" },
  },
  {
    fence: "endpoint-types",
    name: "an endpoint gets the types that it names",
    mutate: condition(false),
    caughtBy: { file: workers, test: "gets the events that it names, of its own client" },
  },
  {
    fence: "endpoint-rooms",
    name: "an endpoint gets what happens in the rooms that it names",
    mutate: condition(false),
    caughtBy: { file: workers, test: "gets the events that it names, of its own client" },
  },
  {
    fence: "endpoint-filter",
    name: "an endpoint gets what its filter matches",
    mutate: replaceWith("true"),
    caughtBy: { file: workers, test: "gets the events that it names, of its own client" },
  },
  {
    fence: "endpoint-start",
    name: "an endpoint gets nothing from before it begins",
    mutate: condition(false),
    caughtBy: { file: workers, test: "from an hour ago gets exactly that hour" },
  },
  {
    fence: "fan-out-begin",
    name: "the fan-out begins where the endpoints were read",
    mutate: replaceWith("undefined"),
    caughtBy: { file: workers, test: "on a fresh schema" },
  },
  {
    fence: "endpoint-paused",
    name: "what is paused is not sent to",
    mutate: condition(false),
    caughtBy: { file: workers, test: "once it is resumed, what was open goes out" },
  },
  {
    fence: "endpoint-order",
    name: "an ordered endpoint waits for the end of the one before",
    mutate: condition(false),
    caughtBy: { file: workers, test: "one event of a room at a time" },
  },
  {
    fence: "endpoint-https",
    name: "an endpoint outside development mode is https",
    mutate: condition(true),
    caughtBy: { file: "api/http/limits.test.ts", test: "endpoint outside development mode is https" },
  },
  {
    fence: "endpoint-headers",
    name: "no endpoint sets our headers",
    mutate: replaceWith("false"),
    caughtBy: { file: specs, test: "takes no header of ours" },
  },
  {
    fence: "too-many-endpoints",
    name: "a client has 50 endpoints at most",
    mutate: drop,
    caughtBy: { file: specs, test: "are 50 at most" },
  },
];
