// Searching messages: what the caller may see, with what was found marked.
import { setImmediate as immediate } from "node:timers/promises";
import type { FoundMessageResource, MessageSearchQuery } from "../contract/messages.ts";
import { InvalidInput } from "../domain/decider.ts";
import { highlight, InvalidQuery, parseQuery, type Term } from "../domain/search.ts";
import { omitUndefined } from "../platform/omit-undefined.ts";
import { searchMessages as queryMessages } from "../projections/models/message-search.ts";
import type { Page } from "../projections/page.ts";
import { subjectsOf } from "./messages.ts";
import { messageOfRow } from "./resources.ts";
import type { Call } from "./services.ts";

/** Characters that are marked before others have their turn: some milliseconds. */
const MARKED_AT_ONCE = 10_000;

/** With a user's token in the rooms that the user is in, else in all rooms. Throws InvalidInput, InvalidCursor. */
export async function searchMessages(
  call: Call,
  { q, room_id: rooms, sender_id, type: types, mentions, from, to, limit, cursor }: MessageSearchQuery,
): Promise<Page<FoundMessageResource>> {
  const terms = termsOf(q);
  const { caller, read } = call;
  const [senders, mentioned] = await Promise.all([subjectsOf(call, sender_id), subjectsOf(call, mentions)]);
  // fence: search-viewer
  const viewer = caller.kind === "user" ? caller.subject : undefined;
  const narrowed = omitUndefined({ viewer, rooms, senders, types, mentioned, from, to, cursor });
  const found = await queryMessages(read, { ...narrowed, terms, limit });
  const rows: FoundMessageResource[] = [];
  let marked = 0;
  for (const { row, score } of found.rows) {
    const message = messageOfRow(row);
    const { content } = message;
    if (content === null) continue; // deleted or erased meanwhile
    marked += content.length;
    if (marked > MARKED_AT_ONCE) {
      await immediate();
      marked = content.length;
    }
    rows.push({ message, score, highlight: highlight(content, terms) });
  }
  return { rows, next: found.next };
}

/** Throws InvalidInput. */
function termsOf(query: string): readonly Term[] {
  try {
    return parseQuery(query);
  } catch (error) {
    if (!(error instanceof InvalidQuery)) throw error;
    throw new InvalidInput([{ path: "?q", code: error.code, message: error.message }]);
  }
}
