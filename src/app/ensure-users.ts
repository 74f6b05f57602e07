// Users exist once they took part: whoever joins a room or posts is registered by it.
import { LRUCache } from "lru-cache";
import type { Subject } from "../contract/ids.ts";
import { userDecider, userStream } from "../domain/user.ts";
import type { Position } from "../event-store/event-store.ts";
import type { Commands } from "../event-store/handle-command.ts";
import { mapBounded } from "../platform/bounded.ts";
import { failpoint } from "../platform/failpoint.ts";
import { type Call, unkeyed } from "./services.ts";

/** Users that this node knows to exist. */
const MAX_KNOWN = 200_000;
const AT_ONCE = 50;

/** Where the log was when each was known to exist. */
const known = new WeakMap<Commands, LRUCache<Subject, Position>>();

/**
 * Makes the users that do not exist yet. Call it after the append that they take part by and before the answer. Gives
 * the position that the answer has to name so that a read after it finds them: `after`, or a later one.
 */
export async function ensureUsers(
  { services: { commands }, at, context }: Call,
  people: readonly { readonly subject: Subject; readonly userId: string }[],
  after: Position,
): Promise<Position> {
  failpoint("taken-part/users-met");
  const existing = known.get(commands) ?? new LRUCache<Subject, Position>({ max: MAX_KNOWN });
  known.set(commands, existing);
  const positions = await mapBounded(people, AT_ONCE, async ({ subject, userId }): Promise<Position> => {
    const there = existing.get(subject);
    if (there !== undefined) return there;
    const command = { type: "Ensure", at, subject, user: userId } as const;
    const { position } = await commands.execute(userDecider, userStream(subject), command, unkeyed(context));
    existing.set(subject, position);
    return position;
  });
  return positions.reduce((latest, one) => (one > latest ? one : latest), after);
}
