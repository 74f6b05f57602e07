// Posting messages to rooms: what is sent where.
import type { Target } from "../processes/load.ts";

const CONTENT =
  "Are we still meeting at the station at half past six, or shall I come by the office first? Let me know!";

export const userName = (number: number): string => `user-${number}`;

/** A message of a user to a room. */
export const posting = (room: string, user: string): Target => ({
  path: `/rooms/${room}/messages`,
  body: JSON.stringify({ sender_id: user, content: CONTENT }),
});
