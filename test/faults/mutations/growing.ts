// Fences around messages that grow, and messages for later.
import { condition, drop, type Mutation, replaceWith, substitute } from "./mutation.ts";

const specs = (test: string) => ({ file: "specs/room-growing.test.ts", test });
const later = (test: string) => ({ file: "specs/scheduled-message.test.ts", test });
const laterRequests = (test: string) => ({ file: "api/http/scheduled-messages.test.ts", test });
const requests = (test: string) => ({ file: "api/http/growing-messages.test.ts", test });
const once = (test: string) => ({ file: "api/http/growing-once.test.ts", test });

export const growingMutations: readonly Mutation[] = [
  {
    fence: "growing-writer",
    name: "a growing message is its sender's to write",
    mutate: condition(false),
    caughtBy: specs("is completed by its sender or a client key, and by nobody else"),
  },
  {
    fence: "growing-member",
    name: "a sender who is no member any more writes no further",
    mutate: condition(false),
    caughtBy: specs("of a sender who may not post any more is given up, not completed"),
  },
  {
    fence: "growing-ended",
    name: "a growing message ends once",
    mutate: replaceWith("new Error()"),
    caughtBy: specs("ends once: the same end again changes nothing, another is refused"),
  },
  {
    fence: "growing-match",
    name: "a growing message ends only as it was seen",
    mutate: drop,
    caughtBy: specs("ends only as it was seen"),
  },
  {
    fence: "append-key-reused",
    name: "the key of an append is not taken for other text",
    mutate: condition(false),
    caughtBy: once("an append under an idempotency key is done once"),
  },
  {
    fence: "append-key",
    name: "the key of an append is used once, on two nodes at once",
    mutate: replaceWith("true"),
    caughtBy: once("a key that another node uses meanwhile is not used again"),
  },
  {
    fence: "growing-edits",
    name: "a growing message is not edited",
    mutate: condition(false),
    caughtBy: specs("takes no edit until its end"),
  },
  {
    fence: "growing-in-room",
    name: "the limit of messages that grow in a room",
    mutate: condition(false),
    caughtBy: specs("is one of so many in a room"),
  },
  {
    fence: "growing-count",
    name: "the limit of messages that grow of a user and a client",
    mutate: condition(false),
    caughtBy: requests("of a user or client that has as many as it may, no other begins"),
  },
  {
    fence: "growing-rehearsed",
    name: "who may not end a growing message does not stop its writer",
    mutate: substitute(
      "rehearseOnRoom(call, { room, state }, ending(ANY_TEXT))",
      "services.growing.close({ room, message: growing.id })",
    ),
    caughtBy: requests("is its sender's or a client key's to write, and nobody's to edit"),
  },
  {
    fence: "append-repeated",
    name: "an append that is sent again is not added again",
    mutate: replaceWith("text"),
    caughtBy: requests("an append sent again adds nothing"),
  },
  {
    fence: "append-length",
    name: "of two appends to one place one is refused",
    mutate: replaceWith("true or length = $2"),
    caughtBy: requests("two that append at once to one place come one after the other, or are told"),
  },
  {
    fence: "growing-closed",
    name: "nothing is appended to a text that was read for its end",
    mutate: substitute("closing = true", "closing = closing"),
    caughtBy: requests("nothing is appended between its text's being read and its end"),
  },
  {
    fence: "growing-silence",
    name: "a writer may be silent for a minute",
    mutate: substitute("- SILENCE_MS", "+ SILENCE_MS"),
    caughtBy: requests("a sender that is removed writes no further"),
  },
  {
    fence: "growing-rate",
    name: "a growing message gives 20 frames a second",
    mutate: replaceWith("0"),
    caughtBy: { file: "api/realtime/growing.test.ts", test: "gives no more than 20 frames a second" },
  },
  {
    fence: "scheduled-own",
    name: "a message for later is its sender's to change",
    mutate: condition(false),
    caughtBy: later("is its sender's and a client key's to change"),
  },
  {
    fence: "scheduled-admins",
    name: "others' messages for later are cancelled by admins alone",
    mutate: condition(false),
    caughtBy: later("is its sender's and an admin's to cancel"),
  },
  {
    fence: "scheduled-once",
    name: "what was decided about a message for later stays",
    mutate: condition(false),
    caughtBy: later("is neither changed nor cancelled once its time has come"),
  },
  {
    fence: "scheduled-year",
    name: "a message waits for a year at most",
    mutate: replaceWith("false"),
    caughtBy: later("waits for a year at most"),
  },
  {
    fence: "scheduled-seen",
    name: "others' messages for later are not seen",
    mutate: condition(false),
    caughtBy: laterRequests("is its sender's to change, and an admin's to cancel"),
  },
  {
    fence: "scheduled-mentions",
    name: "a change of a message for later mentions members alone",
    mutate: replaceWith("false"),
    caughtBy: laterRequests("a change mentions members alone"),
  },
  {
    fence: "scheduled-posted-once",
    name: "a message for later is posted once",
    mutate: drop,
    caughtBy: laterRequests("posted once, however often and wherever it is tried"),
  },
];
