// Preferences: what a user wants to receive, read and written by its client or by the user itself.
import type { Preferences, PreferencesResource } from "../contract/preferences.ts";
import { DomainError, type IfMatch } from "../domain/decider.ts";
import { type Choices, preferencesDecider, preferencesStream, type UserPreferences } from "../domain/preferences.ts";
import { WEEKDAYS } from "../domain/quiet-hours.ts";
import { userDecider, userStream } from "../domain/user.ts";
import type { Position } from "../event-store/event-store.ts";
import type { Call } from "./services.ts";
import { subjectOf } from "./users.ts";

type ShownPreferences = { readonly preferences: PreferencesResource; readonly etag: number };

/** From the log; of a user who never chose, without any choice. Throws not_found. */
export async function getPreferences(call: Call, userId: string): Promise<ShownPreferences> {
  const { commands } = call.services;
  const subject = await subjectOf(call, userId);
  const [{ state }, user] = await Promise.all([
    commands.load(preferencesDecider, preferencesStream(subject)),
    commands.load(userDecider, userStream(subject)),
  ]);
  if (user.state.status === "none") throw new DomainError("not_found");
  return shown(state);
}

/** Replaces a user's choices; the user exists from then on. Throws not_found, precondition_failed. */
export async function putPreferences(
  call: Call,
  userId: string,
  wanted: Preferences,
  { ifMatch, onlyNew }: { readonly ifMatch: IfMatch; readonly onlyNew: boolean },
): Promise<ShownPreferences & { readonly position: Position }> {
  const { services, at, context } = call;
  const subject = await subjectOf(call, userId);
  const command = { type: "Put", at, subject, choices: choicesIn(wanted), ifMatch, onlyNew } as const;
  const stream = preferencesStream(subject);
  const { state, position } = await services.commands.execute(preferencesDecider, stream, command, context);
  return { ...shown(state), position: await services.people.ensure(call, [{ subject, userId }], position) };
}

/** Categories by name, so that the same choices are the same whatever their order. */
function choicesIn({ categories, quiet_hours: quiet }: Preferences): Choices {
  const named = Object.entries(categories).map(([name, { email, websocket }]) => ({ name, email, websocket }));
  return {
    categories: named.toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    quietHours:
      quiet === null
        ? null
        : {
            ...{ from: quiet.from, to: quiet.to, timezone: quiet.timezone },
            days: WEEKDAYS.filter((day) => quiet.days === null || quiet.days.includes(day)),
          },
  };
}

const shown = ({ choices: { categories, quietHours }, seq }: UserPreferences): ShownPreferences => ({
  preferences: {
    categories: Object.fromEntries(categories.map(({ name, email, websocket }) => [name, { email, websocket }])),
    quiet_hours: quietHours,
  },
  etag: seq,
});
