// Fences around what a room shows of the time before a member's joining.
import { condition, drop, type Mutation, replaceWith } from "./mutation.ts";

const shown = (test: string) => ({ file: "api/http/room-history.test.ts", test: `who joined ${test}` });
const decided = (test: string) => ({ file: "specs/room-history.test.ts", test });
const followed = {
  file: "api/realtime/follow-rooms.test.ts",
  test: "that show nothing from before joining say as little of older messages",
};

const unread = {
  file: "projections/unread.test.ts",
  test: "what began before one's joining and grew until after it is not unread where the room hides it",
};

export const historyMutations: readonly Mutation[] = [
  {
    fence: "unread-unseen",
    name: "what a room hides from a member is not unread",
    mutate: replaceWith("0"),
    caughtBy: unread,
  },
  {
    fence: "mentions-unseen",
    name: "what a room hides from a member mentions nobody",
    mutate: replaceWith("true"),
    caughtBy: unread,
  },
  {
    fence: "history-from-join",
    name: "client keys see all of a room",
    mutate: condition(false),
    caughtBy: decided("from joining on begins with the last joining"),
  },
  {
    fence: "hidden-in-events",
    name: "events say nothing of messages from before joining",
    mutate: condition(true),
    caughtBy: decided("about an older message keeps its seq and says nothing else"),
  },
  {
    fence: "change-unseen",
    name: "messages from before joining are not changed, replied or reacted to",
    mutate: condition(false),
    caughtBy: decided("is not found by whoever changes it or reacts to it"),
  },
  {
    fence: "append-unseen",
    name: "nothing is appended to messages from before joining",
    mutate: drop,
    caughtBy: shown("finds no older message"),
  },
  {
    fence: "message-unseen",
    name: "messages from before joining are not found",
    mutate: drop,
    caughtBy: shown("finds no older message"),
  },
  {
    fence: "list-unseen",
    name: "lists begin with joining",
    mutate: condition(false),
    caughtBy: shown("lists messages from its joining on"),
  },
  {
    fence: "last-unseen",
    name: "a user's rooms show no last message from before joining",
    mutate: drop,
    caughtBy: shown("is shown no last message"),
  },
  {
    fence: "hidden-in-frames",
    name: "frames say nothing of messages from before joining",
    mutate: condition(true),
    caughtBy: shown("catches up from its joining on"),
  },
  {
    fence: "catch-up-unseen",
    name: "catch-up begins with joining",
    mutate: drop,
    caughtBy: shown("catches up from its joining on"),
  },
  {
    fence: "growing-unseen",
    name: "nothing is told of what grows since before joining",
    mutate: drop,
    caughtBy: shown("is told nothing of what grows since before its joining"),
  },
  {
    fence: "follow-unseen",
    name: "who follows is told nothing live of messages from before joining",
    mutate: condition(true),
    caughtBy: followed,
  },
  {
    fence: "follow-missed-unseen",
    name: "who follows anew is told nothing that it missed of messages from before joining",
    mutate: replaceWith("shown"),
    caughtBy: followed,
  },
  {
    fence: "follow-last-unseen",
    name: "a room that one comes into shows no last message from before",
    mutate: drop,
    caughtBy: followed,
  },
  {
    fence: "search-unseen",
    name: "a user's search finds nothing from before joining",
    mutate: replaceWith("true"),
    caughtBy: { file: "projections/message-search.test.ts", test: "gives a user nothing from before its joining" },
  },
];
