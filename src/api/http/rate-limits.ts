// Limits of clients and users: each request is counted, and what is left is told in the headers of its answer.
import { type Limits, type OnRate, ratesHeaders, spend, spendRequest } from "../../app/rate-limit.ts";
import type { ApiContext, ApiMiddleware, Route } from "./route.ts";

/** Tells of a limit in the answer's headers; of two of one policy the one with less left. */
export const showRate =
  ({ state, res }: ApiContext): OnRate =>
  (policy, rate) => {
    state.rates ??= new Map();
    const before = state.rates.get(policy);
    if (before !== undefined && before.remaining < rate.remaining) return;
    state.rates.set(policy, rate);
    for (const [name, value] of Object.entries(ratesHeaders(state.rates))) res.setHeader(name, value);
  };

/** Counts each request of a client or user. Throws AppError (429). */
export const limitRequests =
  (limits: Limits): ApiMiddleware =>
  async (ctx, next) => {
    await spendRequest(limits, ctx.state.caller, showRate(ctx));
    return next();
  };

/** Counts the rooms and members that a user makes by a route, once the request is known to be valid. Throws AppError (429). */
export function limitUsers({ costs }: Route, { roomsOfUser, membersOfUser }: Limits): readonly ApiMiddleware[] {
  if (costs === undefined || (roomsOfUser === undefined && membersOfUser === undefined)) return [];
  return [
    async (ctx, next) => {
      const { caller, input } = ctx.state;
      if (caller.kind !== "user") return next();
      const { rooms = 0, members = 0 } = costs(caller.userId, input as never);
      const onRate = showRate(ctx);
      await spend(roomsOfUser, { policy: "rooms", key: caller.subject, count: rooms }, onRate);
      await spend(membersOfUser, { policy: "members", key: caller.subject, count: members }, onRate);
      return next();
    },
  ];
}
