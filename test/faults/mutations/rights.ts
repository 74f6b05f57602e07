// Fences around what callers name and what a user's token may do.
import { condition, drop, type Mutation, replaceWith } from "./mutation.ts";

const http = (test: string) => ({ file: "api/http/user-rights.test.ts", test });
const schemas = (test: string) => ({ file: "api/http/schemas.test.ts", test });
const members = (test: string) => ({ file: "specs/room-members.test.ts", test });

export const rightsMutations: readonly Mutation[] = [
  {
    fence: "dot-segments",
    name: "no user is called . or ..",
    mutate: replaceWith("/^[A-Za-z0-9._@+:-]+$/"),
    caughtBy: http("no user is called . or .., which URLs take for something else"),
  },
  {
    fence: "address-length",
    name: "an address is measured before it is converted",
    mutate: drop,
    caughtBy: schemas("canonical only when it is short enough"),
  },
  {
    fence: "url-host-length",
    name: "a URL's host is measured before it is converted",
    mutate: drop,
    caughtBy: schemas("is measured before it is converted, and so is a URL's host"),
  },
  {
    fence: "hint-distance",
    name: "hints name what was nearly written",
    mutate: condition(true),
    caughtBy: schemas("of an unknown field name the nearest known one"),
  },
  {
    fence: "external-id-by-users",
    name: "external ids are a client key's to give",
    mutate: drop,
    caughtBy: http("an external id is a client key's to give, taken or not"),
  },
  {
    fence: "sender-name-by-users",
    name: "names of senders are a client key's to give",
    mutate: drop,
    caughtBy: http("so is the name of a sender"),
  },
  {
    fence: "users-by-users",
    name: "a user's token makes no users",
    mutate: replaceWith("[]"),
    caughtBy: http("who does not exist is not made by a user, whose own room it is"),
  },
  {
    fence: "names-of-others",
    name: "no user names another member",
    mutate: replaceWith("given"),
    caughtBy: members("by another user leaves the member's name as it is"),
  },
  {
    fence: "direct-equal",
    name: "the two of a direct room are equal",
    mutate: condition(false),
    caughtBy: members("both are members, whatever they were made as"),
  },
  {
    fence: "rejoin-as-reader",
    name: "who left as reader comes back as reader",
    mutate: condition(false),
    caughtBy: members("gives back no more than what one left with"),
  },
  {
    fence: "removed-rejoins",
    name: "who was removed does not join again",
    mutate: drop,
    caughtBy: members("is over for who was removed, until somebody else adds them"),
  },
  {
    fence: "position-sealed",
    name: "positions of another client, or made up",
    mutate: drop,
    caughtBy: { file: "api/http/reading.test.ts", test: "that is damaged, another client's, of another log" },
  },
  {
    fence: "exact-numbers",
    name: "numbers that a double does not hold are kept",
    mutate: replaceWith("value"),
    caughtBy: { file: "specs/json.test.ts", test: "are kept as they were written, in a value of any shape" },
  },
];
