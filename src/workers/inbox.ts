// What a mark on a user's whole inbox read is acknowledged: no fallback mail follows, and nothing of it is pushed again.
import type { Cursor } from "../contract/fields.ts";
import { inboxDecider, inboxStream } from "../domain/inbox.ts";
import { deriveUuid } from "../event-store/derived-ids.ts";
import { readDecoded } from "../event-store/handle-command.ts";
import { mapBounded } from "../platform/bounded.ts";
import { openWebsocketDeliveries } from "../projections/models/delivery-list.ts";
import { contextOf, executeOnDelivery, type JobServices } from "./job-services.ts";
import { DONE, retryLater, type TakenJob, type Verdict, type Work } from "./jobs.ts";

const PAGE = 100;
const COMMANDS_AT_ONCE = 16;
/** How long the read model is waited for, which knows what is open. */
const READ_WAIT_MS = 5_000;

/** Acknowledges what was open when the mark was made. Done again, it finds what is left. */
export async function acknowledgeInbox(
  services: JobServices,
  job: TakenJob,
  { recipient: subject, mark: revision }: Extract<Work, { kind: "acknowledge" }>,
): Promise<Verdict> {
  const { commands, readSide, now } = services;
  const stream = inboxStream(subject);
  const [mark] = await readDecoded(services, stream, { from: revision, limit: 1 });
  if (mark?.type !== "InboxMarked") return DONE;
  if (!(await readSide.waitFor(mark.position, READ_WAIT_MS))) return retryLater(now());
  const cause = { correlation: mark.meta.correlation, causation: mark.id };
  const { beforeAt } = mark.data;
  for (let cursor: Cursor | null | undefined; cursor !== null; ) {
    const range = { now: now(), limit: PAGE, ...(cursor === undefined ? {} : { cursor }) };
    const page: Awaited<ReturnType<typeof openWebsocketDeliveries>> = await openWebsocketDeliveries(
      ...([readSide.readAs(job.client), subject, range] as const),
    );
    const read = page.rows.filter(
      ({ position, requested_at }) => position < mark.position && (beforeAt === null || requested_at < beforeAt),
    );
    await mapBounded(read, COMMANDS_AT_ONCE, ({ id }) =>
      executeOnDelivery(
        services,
        id,
        { type: "Acknowledge", at: now(), subject },
        contextOf(job.client, cause, deriveUuid("read", mark.id, id)),
      ),
    );
    cursor = page.next;
  }
  const command = { type: "MarkAcknowledged", at: now(), mark: revision } as const;
  const context = contextOf(job.client, cause, deriveUuid("acknowledged", mark.id));
  await commands.execute(inboxDecider, stream, command, context);
  return DONE;
}
