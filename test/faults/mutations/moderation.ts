// Fences around who is kept from a room, and from posting in it.
import { condition, drop, type Mutation } from "./mutation.ts";

const moderation = (test: string) => ({ file: "specs/room-moderation.test.ts", test });

export const moderationMutations: readonly Mutation[] = [
  {
    fence: "moderates",
    name: "who bans and mutes",
    mutate: drop,
    caughtBy: moderation("of members is the admins', of admins and owners the owners'"),
  },
  {
    fence: "banned-joins",
    name: "who is banned neither joins nor is added",
    mutate: condition(false),
    caughtBy: moderation("holds for who adds others, a client key too"),
  },
  {
    fence: "post-muted",
    name: "a muted member does not post",
    mutate: condition(false),
    caughtBy: moderation("cannot post, nor can a client key for it"),
  },
  {
    fence: "rejoin-muted",
    name: "who left muted comes back muted",
    mutate: condition(false),
    caughtBy: moderation("is muted again when it comes back"),
  },
  {
    fence: "post-admins",
    name: "a room that is its admins' to post in",
    mutate: condition(false),
    caughtBy: moderation("takes none of members, also not by a client key for them"),
  },
];
