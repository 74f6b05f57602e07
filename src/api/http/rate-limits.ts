// Limits on what a user's token does: requests, rooms made, members added. A client's keys have none of these.
import { type Limits, type RateLimiter, rateHeaders } from "../../app/rate-limit.ts";
import { tooMany } from "./authentication.ts";
import type { ApiContext, ApiMiddleware, Route } from "./route.ts";

/** Counts each request of a user. Throws Problem (429). */
export function limitRequests(limiter: RateLimiter): ApiMiddleware {
  return async (ctx, next) => {
    const { caller } = ctx.state;
    if (caller?.kind === "user") await count(ctx, "requests", limiter, caller.subject, 1);
    return next();
  };
}

/** Counts the rooms and members that a user makes by a route, once the request is known to be valid. Throws Problem (429). */
export function limitUsers({ costs }: Route, { roomsOfUser, membersOfUser }: Limits): readonly ApiMiddleware[] {
  if (costs === undefined || (roomsOfUser === undefined && membersOfUser === undefined)) return [];
  return [
    async (ctx, next) => {
      const { caller, input } = ctx.state;
      if (caller.kind !== "user") return next();
      const { rooms = 0, members = 0 } = costs(caller.userId, input as never);
      if (roomsOfUser !== undefined && rooms > 0) await count(ctx, "rooms", roomsOfUser, caller.subject, rooms);
      if (membersOfUser !== undefined && members > 0) {
        await count(ctx, "members", membersOfUser, caller.subject, members);
      }
      return next();
    },
  ];
}

async function count({ res }: ApiContext, policy: string, limiter: RateLimiter, user: string, by: number) {
  const state = await limiter.take(user, by);
  // fence: rate-users
  if (!state.allowed) throw tooMany(policy, state);
  for (const [name, value] of Object.entries(rateHeaders(policy, state))) res.setHeader(name, value);
}
