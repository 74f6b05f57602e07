// Fences around what users do over sockets.
import { condition, drop, type Mutation, replaceWith, substitute } from "./mutation.ts";

const commands = (test: string) => ({ file: "api/realtime/commands.test.ts", test });
const typing = (test: string) => ({ file: "api/realtime/typing.test.ts", test });
const streams = (test: string) => ({ file: "api/realtime/event-streams.test.ts", test });
const presence = (test: string) => ({ file: "app/presence.test.ts", test });

const follow = (test: string) => ({ file: "api/realtime/follow.test.ts", test });

export const socketMutations: readonly Mutation[] = [
  {
    fence: "follow-and-subscribe",
    name: "an event of a room that is followed and subscribed to comes once",
    mutate: replaceWith("-1"),
    caughtBy: follow("an event of a room that is subscribed too comes once"),
  },
  {
    fence: "notification-followed",
    name: "a notification of who follows comes once, with its cursor",
    mutate: drop,
    caughtBy: follow("a notification comes once, with a cursor"),
  },
  {
    fence: "follow-missed-member",
    name: "who was away misses nothing of rooms that it is not in",
    mutate: drop,
    caughtBy: { file: "api/realtime/follow-resume.test.ts", test: "brings what was missed, in order, once" },
  },
  {
    fence: "follow-notifications",
    name: "notifications of who follows need their scope",
    mutate: substitute(" || !caller.scopes.has(NOTIFICATION_SCOPE)", ""),
    caughtBy: follow("without the scope of notifications"),
  },
  {
    fence: "follow-scope",
    name: "who follows may read rooms",
    mutate: drop,
    caughtBy: follow("not a key that names no user, nor who lacks a scope"),
  },
  {
    fence: "stream-scope",
    name: "who has a user's stream may read rooms",
    mutate: drop,
    caughtBy: follow("not a key that names no user, nor who lacks a scope"),
  },
  {
    fence: "stream-limits",
    name: "streams count as sockets",
    mutate: drop,
    caughtBy: streams("count as a socket of an address, a client and a user"),
  },
  {
    fence: "stream-user",
    name: "a user's stream that a key opens counts as the user's",
    mutate: replaceWith("reader"),
    caughtBy: {
      file: "api/realtime/stream-limits.test.ts",
      test: "a user's by a key: counts once of its address, client and user",
    },
  },
  {
    fence: "stream-revocation",
    name: "a stream of a revoked key or token",
    mutate: drop,
    caughtBy: streams("are for keys, and end with their key"),
  },
  {
    fence: "stream-expiry",
    name: "a stream of a token that has expired",
    mutate: condition(false),
    caughtBy: streams("end when the token expires or the node stops"),
  },
  {
    fence: "stream-last",
    name: "nothing follows the message that ends a stream",
    mutate: drop,
    caughtBy: { file: "api/realtime/sse-sender.test.ts", test: "sends nothing after its last message" },
  },
  {
    fence: "stream-stuck",
    name: "a reader who takes nothing of what it missed",
    mutate: condition(false),
    caughtBy: streams("are cut off where nobody takes them"),
  },
  {
    fence: "ticket-user",
    name: "whom a user's ticket is for",
    mutate: drop,
    caughtBy: streams("has the rights of the user that it names"),
  },
  {
    fence: "ticket-streams",
    name: "a ticket is for streams alone",
    mutate: substitute(" && wantsStream(ctx)", ""),
    caughtBy: streams("opens one stream or one socket, and no second"),
  },
  {
    fence: "one-time-expiry",
    name: "the time of a ticket",
    mutate: condition(false),
    caughtBy: { file: "platform/one-time-secrets.test.ts", test: "before its time is over" },
  },
  {
    fence: "observers-only-observe",
    name: "who observes does nothing that a person does",
    mutate: drop,
    caughtBy: commands("a reader, a removed member and an observer are refused"),
  },
  {
    fence: "waiting-bytes",
    name: "bytes of commands that wait on a socket",
    mutate: condition(false),
    caughtBy: { file: "api/realtime/queues.test.ts", test: "large commands that wait" },
  },
  {
    fence: "typing-posters",
    name: "who may not post does not show that it types",
    mutate: drop,
    caughtBy: commands("who may not post does not type"),
  },
  {
    fence: "typing-to-others",
    name: "nobody is sent its own typing",
    mutate: condition(true),
    caughtBy: commands("the others of the room are told"),
  },
  {
    fence: "typing-ends",
    name: "typing ends by itself",
    mutate: condition(false),
    caughtBy: typing("a node that is killed leaves nobody typing"),
  },
  {
    fence: "presence-members",
    name: "who is no member sees nobody of a room come and go",
    mutate: condition(true),
    caughtBy: commands("who is removed sees no more of it"),
  },
  {
    fence: "presence-ghosts",
    name: "whoever was connected to a silent node is not online",
    mutate: condition(false),
    caughtBy: presence("a node that is killed leaves nobody online"),
  },
  {
    fence: "presence-reconnect",
    name: "a reconnect is no absence",
    mutate: substitute(" || clock - known.left.clock < LINGER_MS", ""),
    caughtBy: presence("two hundred reconnects"),
  },
  {
    fence: "signals-bound",
    name: "signals that wait for a slow bus",
    mutate: condition(false),
    caughtBy: { file: "platform/bus.test.ts", test: "no more of them wait than may" },
  },
];
