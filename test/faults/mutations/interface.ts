// Fences of the interface: who may, how much, and what is shown to whom.
import { condition, drop, type Mutation, replaceWith } from "./mutation.ts";

export const interfaceMutations: readonly Mutation[] = [
  {
    fence: "user-token-routes",
    name: "user tokens only on their routes",
    mutate: condition(false),
    caughtBy: { file: "api/http/openapi.test.ts", test: "lets in a user's token only where it is declared" },
  },
  {
    fence: "key-scopes",
    name: "scopes of a key",
    mutate: condition(true),
    caughtBy: { file: "api/http/authentication.test.ts", test: "a key without the scope is refused" },
  },
  {
    fence: "acknowledge-recipient",
    name: "acknowledging is the recipient's",
    mutate: drop,
    caughtBy: { file: "specs/delivery-ending.test.ts", test: "by another person finds nothing" },
  },
  {
    fence: "post-member",
    name: "posting is a member's",
    mutate: drop,
    caughtBy: { file: "specs/room-messages.test.ts", test: "posting" },
  },
  {
    fence: "post-own-name",
    name: "posting is in one's own name",
    mutate: drop,
    caughtBy: { file: "specs/room-messages.test.ts", test: "in their own name" },
  },
  {
    fence: "post-sender-member",
    name: "the sender that a key names is a member",
    mutate: condition(false),
    caughtBy: {
      file: "specs/room-messages.test.ts",
      test: "with the client's key is in the name of a member who may post",
    },
  },
  {
    fence: "if-match",
    name: "If-Match",
    mutate: condition(false),
    caughtBy: { file: "specs/room-messages.test.ts", test: "holds to the seq of the message's last change" },
  },
  {
    fence: "claimed-name",
    name: "one room for a claimed name",
    mutate: condition(false),
    caughtBy: { file: "specs/claim.test.ts", test: "another room is refused and told who holds the name" },
  },
  {
    fence: "key-grace",
    name: "end of a rotated key's grace",
    mutate: drop,
    caughtBy: { file: "api/http/clients.test.ts", test: "without a grace ends the old one within a second" },
  },
  {
    fence: "token-revoked",
    name: "revoked tokens",
    mutate: drop,
    caughtBy: { file: "api/http/tokens.test.ts", test: "when all are revoked, within a second" },
  },
  {
    fence: "token-expiry",
    name: "expiry of a token that is remembered",
    mutate: condition(false),
    caughtBy: {
      file: "app/tokens.test.ts",
      test: "a token that was checked and is remembered ends at its time all the same",
    },
  },
  {
    fence: "socket-revocation",
    name: "revocation ends open sockets",
    mutate: drop,
    caughtBy: { file: "api/realtime/authentication.test.ts", test: "revoked tokens close with 4501" },
  },
  {
    fence: "socket-user",
    name: "a socket stays its user's",
    mutate: condition(false),
    also: [{ fence: "socket-client", mutate: condition(false) }],
    caughtBy: { file: "api/realtime/authentication.test.ts", test: "another's ends it" },
  },
  {
    fence: "room-left",
    name: "who leaves a room gets no more of it",
    mutate: drop,
    caughtBy: { file: "api/realtime/rooms.test.ts", test: "who is removed or leaves is told why" },
  },
  {
    fence: "cursor-signature",
    name: "signature of a cursor",
    mutate: drop,
    caughtBy: { file: "api/http/reading.test.ts", test: "refuse a cursor that is damaged" },
  },
  {
    fence: "body-size",
    name: "size of a body",
    mutate: replaceWith("MAX_CLIENT_BODIES_BYTES"),
    caughtBy: { file: "api/http/body.test.ts", test: "is at most 1 MiB, announced or not" },
  },
  {
    fence: "body-depth",
    name: "depth of a body",
    mutate: condition(false),
    caughtBy: { file: "api/http/body.test.ts", test: "may be 32 levels deep" },
  },
  {
    fence: "host",
    name: "Host",
    mutate: condition(true),
    caughtBy: { file: "api/http/browsers.test.ts", test: "of development mode are loopback's" },
  },
  {
    fence: "socket-origin",
    name: "Origin of a socket",
    mutate: condition(true),
    caughtBy: { file: "api/http/browsers.test.ts", test: "sockets are opened by no page outside CORS_ORIGINS" },
  },
  {
    fence: "registration-origin",
    name: "Origin of a registration",
    mutate: condition(false),
    caughtBy: { file: "api/http/browsers.test.ts", test: "registers no client and empties no mailbox" },
  },
  {
    fence: "rate-authentications",
    name: "rate of failed authentications",
    mutate: condition(true),
    caughtBy: { file: "api/http/limits.test.ts", test: "are limited to thirty a minute and address" },
  },
  {
    fence: "rate-registrations",
    name: "rate of registrations",
    mutate: drop,
    caughtBy: {
      file: "api/http/limits.test.ts",
      test: "where it is open is limited to ten a minute and address",
    },
  },
  {
    fence: "rate-frames",
    name: "rate of a socket's frames",
    mutate: condition(true),
    caughtBy: { file: "api/realtime/frames.test.ts", test: "more than 100 frames in a second" },
  },
  {
    fence: "socket-queue-bound",
    name: "bound of a socket's queue (4008)",
    mutate: condition(false),
    caughtBy: { file: "api/realtime/queues.test.ts", test: "who does not read live frames is closed with 4008" },
  },
  {
    fence: "catch-up-order",
    name: "order while a socket catches up",
    mutate: drop,
    caughtBy: {
      file: "api/realtime/queues.test.ts",
      test: "who catches up slowly is waited for, and has everything in the end",
    },
  },
  {
    fence: "notification-once",
    name: "each notification once on a socket",
    mutate: condition(true),
    caughtBy: {
      file: "api/realtime/notifications.test.ts",
      test: "what the read model shows before the feed tells of it comes once",
    },
  },
  {
    fence: "kept-frames-forget",
    name: "kept frames forget what is deleted",
    mutate: drop,
    caughtBy: {
      file: "app/public-events.test.ts",
      test: "frames that are kept in memory forget a text that is deleted meanwhile",
    },
  },
  {
    fence: "deleted-in-frames",
    name: "a deleted message's place is empty in frames",
    mutate: condition(false),
    caughtBy: { file: "app/public-events.test.ts", test: "deleted ones keep their place" },
  },
  {
    fence: "deleted-in-lists",
    name: "a deleted message's place is empty in lists",
    mutate: replaceWith("m.content"),
    caughtBy: {
      file: "projections/queries.test.ts",
      test: "a deleted message shows that it was, and nothing of what it said",
    },
  },
  {
    fence: "socket-authentications",
    name: "failed authentications of sockets",
    mutate: drop,
    caughtBy: { file: "faults/exhaustion-sockets.test.ts", test: "failed authentications" },
  },
  {
    fence: "bodies-at-once",
    name: "bodies of a client at once",
    mutate: condition(false),
    caughtBy: { file: "faults/exhaustion.test.ts", test: "bytes of a client's bodies" },
  },
  {
    fence: "client-keys",
    name: "keys of a client",
    mutate: drop,
    caughtBy: { file: "faults/exhaustion.test.ts", test: "keys of a client" },
  },
  {
    fence: "answers-in-order",
    name: "answers that nobody takes",
    mutate: condition(true),
    caughtBy: { file: "faults/slow-loris.test.ts", test: "of each kind" },
  },
  {
    fence: "broken-after-answer",
    name: "what is no HTTP is answered after what came before it",
    mutate: replaceWith("undefined"),
    caughtBy: { file: "api/http/broken-requests.test.ts", test: "an answer that is under way" },
  },
  {
    fence: "duplicate-headers",
    name: "of a header that comes twice both values count",
    mutate: replaceWith("false"),
    caughtBy: { file: "api/http/broken-requests.test.ts", test: "of two credentials neither counts" },
  },
  {
    fence: "target-host",
    name: "a target's own host counts",
    mutate: replaceWith("host"),
    caughtBy: { file: "api/http/broken-requests.test.ts", test: "with a host of its own" },
  },
];
