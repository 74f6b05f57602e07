// Events for whoever audits: found by their places, read from the log, and shown with who acted.

import type { ClientId, Subject } from "../contract/ids.ts";
import type { AuditEventResource } from "../contract/resources.ts";
import { DomainError } from "../domain/errors.ts";
import { decode } from "../event-store/envelope.ts";
import type { RecordedEvent } from "../event-store/event-store.ts";
import { mapBounded } from "../platform/bounded.ts";
import type { AuditRow } from "../projections/models/audit.ts";
import { userIdsOf } from "../projections/models/users.ts";
import type { ReadAs } from "../projections/read-side.ts";
import { auditEventBody } from "./bodies/audit.ts";
import type { Services } from "./services.ts";
import { streamOwner } from "./stream-owner.ts";

const READS_AT_ONCE = 16;

type Parts = Pick<Services, "store" | "keyring">;
type Place = Pick<AuditRow, "stream" | "revision" | "position">;

/** Events as the audit shows them. They must be the client's own. */
export async function shownEvents(
  { keyring }: Pick<Parts, "keyring">,
  read: ReadAs,
  recorded: readonly RecordedEvent[],
): Promise<readonly AuditEventResource[]> {
  const events = await decode(keyring, recorded);
  const actors = events.flatMap(({ meta }) => (meta.actor.type === "user" ? [meta.actor.id as Subject] : []));
  const userIds = await userIdsOf(read, [...new Set(actors)]);
  return events.map((event) => auditEventBody(event, userIds));
}

/** The events at these places, in their order; runs of one stream are read at once. */
export async function eventsAt(
  { store }: Pick<Parts, "store">,
  places: readonly Place[],
): Promise<readonly RecordedEvent[]> {
  const runs: { stream: string; from: number; limit: number }[] = [];
  for (const [stream, there] of Map.groupBy(places, (place) => place.stream)) {
    for (const revision of there.map((place) => place.revision).toSorted((a, b) => a - b)) {
      const last = runs.at(-1);
      if (last?.stream === stream && last.from + last.limit === revision) last.limit += 1;
      else runs.push({ stream, from: revision, limit: 1 });
    }
  }
  const pages = await mapBounded(runs, READS_AT_ONCE, ({ stream, ...run }) => store.readStream(stream, run));
  return pages.flat().toSorted((a, b) => (a.position < b.position ? -1 : 1));
}

/** Throws not_found for a stream that is not the client's, whether there is one or not. */
export async function requireOwnStream(
  { store }: Pick<Parts, "store">,
  client: ClientId,
  stream: string,
): Promise<void> {
  if ((await streamOwner(store, stream)) !== client) throw new DomainError("not_found");
}
