// Fences around what members do with messages.
import { condition, drop, type Mutation, substitute } from "./mutation.ts";

const threads = (test: string) => ({ file: "specs/room-threads.test.ts", test });
const reactions = (test: string) => ({ file: "specs/room-reactions.test.ts", test });

export const responseMutations: readonly Mutation[] = [
  {
    fence: "edit-own-words",
    name: "nobody edits another person's words",
    mutate: condition(false),
    caughtBy: {
      file: "specs/room-messages.test.ts",
      test: "one's own message is its sender's and the client's, and nobody else's, whatever the role",
    },
  },
  {
    fence: "react-own-name",
    name: "a user reacts as itself alone",
    mutate: condition(false),
    caughtBy: reactions("is made by a client key for a member, and by nobody for another"),
  },
  {
    fence: "react-member",
    name: "who is no member does not react",
    mutate: condition(false),
    caughtBy: reactions("is made by a client key for a member, and by nobody for another"),
  },
  {
    fence: "reactions-limit",
    name: "the limit of different emoji on a message",
    mutate: condition(false),
    caughtBy: reactions("is one of at most fifty emoji on a message"),
  },
  {
    fence: "deleted-in-history",
    name: "what a deleted message said is for the audit alone",
    mutate: substitute("deletedAt !== null", "false"),
    caughtBy: { file: "api/http/message-history.test.ts", test: "of a deleted message are for the audit alone" },
  },
  {
    fence: "thread-in-thread",
    name: "a thread is under no reply",
    mutate: condition(false),
    caughtBy: threads("is under a message that is in none itself"),
  },
  {
    fence: "deleted-mentions",
    name: "deleted messages are not found by whom they mentioned",
    mutate: condition(false),
    caughtBy: { file: "api/http/threads.test.ts", test: "mentions are shown, found, changed by an edit" },
  },
  {
    fence: "mention-members",
    name: "members alone are mentioned",
    mutate: drop,
    caughtBy: threads("is of members"),
  },
  {
    fence: "mention-everyone",
    name: "everyone is mentioned by admins and client keys alone",
    mutate: condition(true),
    caughtBy: threads("of everyone is for admins and client keys"),
  },
];
