// Fences around what callers name and what a user's token may do.
import { condition, drop, type Mutation, replaceWith } from "./mutation.ts";

const http = (test: string) => ({ file: "api/http/user-rights.test.ts", test });
const schemas = (test: string) => ({ file: "api/http/schemas.test.ts", test });
const keys = (test: string) => ({ file: "specs/client-keys.test.ts", test });
const members = (test: string) => ({ file: "specs/room-members.test.ts", test });
const policy = (test: string) => http(`what the client does not let its users do ${test}`);

export const rightsMutations: readonly Mutation[] = [
  {
    fence: "restore-own-deletion",
    name: "a sender brings back only what it deleted itself",
    mutate: drop,
    caughtBy: {
      file: "specs/room-messages.test.ts",
      test: "restore for the sender what it deleted itself, for admins and client keys whatever is deleted",
    },
  },
  {
    fence: "deleted-content-key",
    name: "the key of a deleted notification's content is destroyed",
    mutate: drop,
    caughtBy: { file: "api/http/notifications-delete.test.ts", test: "that was sent erases words and addresses" },
  },
  {
    fence: "deleted-in-audit",
    name: "the audit shows nothing of a deleted notification's words",
    mutate: replaceWith("false"),
    caughtBy: { file: "api/http/notifications-delete.test.ts", test: "that was sent erases words and addresses" },
  },
  {
    fence: "batch-keys",
    name: "each item of a batch has its own idempotency key",
    mutate: drop,
    caughtBy: {
      file: "api/http/notifications-batch.test.ts",
      test: "gives the same answers, and tries what was refused",
    },
  },
  {
    fence: "inbox-recipient",
    name: "a user marks its own inbox alone",
    mutate: condition(false),
    caughtBy: { file: "specs/inbox.test.ts", test: "of another user's inbox, or of none, is not found" },
  },
  {
    fence: "marks-past",
    name: "no mark on an inbox holds for what is still to come",
    mutate: condition(true),
    caughtBy: { file: "specs/inbox.test.ts", test: "is not marked for what is still to come" },
  },
  {
    fence: "granted-scopes",
    name: "a key grants no scope that it lacks",
    mutate: condition(false),
    caughtBy: keys("grants no scope that the key that calls lacks"),
  },
  {
    fence: "rotated-scopes",
    name: "a key rotates none that allows more",
    mutate: drop,
    caughtBy: keys("is refused to a key that allows less"),
  },
  {
    fence: "last-key",
    name: "a key that makes others stays",
    mutate: condition(false),
    caughtBy: keys("leaves one that makes others and does not expire"),
  },
  {
    fence: "created-keys",
    name: "how many keys a client makes",
    mutate: condition(false),
    caughtBy: keys("is refused beyond 20 that hold"),
  },
  {
    fence: "key-revoked",
    name: "a deleted key ends",
    mutate: drop,
    caughtBy: { file: "api/http/keys.test.ts", test: "when it is deleted: on both nodes" },
  },
  {
    fence: "token-scopes",
    name: "a token has no more scopes than the key that minted it",
    mutate: replaceWith("{}"),
    caughtBy: { file: "api/http/keys.test.ts", test: "which names it, and so is a token that it minted" },
  },
  {
    fence: "socket-scopes",
    name: "a socket is not extended by what allows less",
    mutate: condition(false),
    caughtBy: { file: "api/http/keys.test.ts", test: "is refused by frames that need it" },
  },
  {
    fence: "socket-notifications",
    name: "notifications go to sockets with their scope",
    mutate: condition(false),
    caughtBy: { file: "api/http/keys.test.ts", test: "and is pushed no notifications" },
  },
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
  {
    fence: "policy-of-users",
    name: "a client's policy binds its users",
    mutate: condition(true),
    caughtBy: policy("creating rooms is forbidden to them"),
  },
  {
    fence: "policy-creates",
    name: "users create rooms only where their client lets them",
    mutate: condition(true),
    caughtBy: policy("creating rooms is forbidden to them"),
  },
  {
    fence: "policy-adds",
    name: "users add members only where their client lets them",
    mutate: condition(false),
    caughtBy: policy("adding members is forbidden to them"),
  },
  {
    fence: "policy-joins",
    name: "users join public rooms only where their client lets them",
    mutate: condition(false),
    caughtBy: policy("joining public rooms is forbidden to them"),
  },
];
