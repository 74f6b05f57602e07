// Users come to be by taking part: after a membership or a post its user exists.
import { LRUCache } from "lru-cache";
import type { Subject } from "../contract/ids.ts";
import type { Instant } from "../contract/time.ts";
import { userDecider, userStream } from "../domain/user.ts";
import type { CommandContext } from "../event-store/envelope.ts";
import type { Position } from "../event-store/event-store.ts";
import type { Commands } from "../event-store/handle-command.ts";
import { mapBounded } from "../platform/bounded.ts";
import { failpoint } from "../platform/failpoint.ts";
import type { Services } from "./services.ts";

/** Users that this node knows to exist. */
const MAX_KNOWN = 200_000;
/** Users that are met at once. */
const AT_ONCE = 50;

type Person = { readonly subject: Subject; readonly userId: string };

/** Where the log was when each was known to exist. */
const known = new WeakMap<Commands, LRUCache<Subject, Position>>();

/**
 * Makes the users that do not exist yet. Call it after the append that they take part by and before the answer. Gives
 * the position that the answer has to name so that a read after it finds them: `after`, or a later one.
 */
export async function meetUsers(
  { commands }: Pick<Services, "commands">,
  people: readonly Person[],
  { context, at, after }: { context: CommandContext; at: Instant; after: Position },
): Promise<Position> {
  failpoint("taken-part/users-met");
  const met = known.get(commands) ?? new LRUCache<Subject, Position>({ max: MAX_KNOWN });
  known.set(commands, met);
  const meet = async ({ subject, userId }: Person): Promise<Position> => {
    const there = met.get(subject);
    if (there !== undefined) return there;
    const command = { type: "Meet", at, subject, user: userId } as const;
    const { position } = await commands.execute(userDecider, userStream(subject), command, unremembered(context));
    met.set(subject, position);
    return position;
  };
  const reached = await mapBounded(people, AT_ONCE, meet);
  return reached.reduce((latest, one) => (one > latest ? one : latest), after);
}

/** Meeting someone again is harmless, so it needs no place among the commands that a stream remembers. */
const unremembered = ({ fingerprint: _fingerprint, ...context }: CommandContext): CommandContext => context;
