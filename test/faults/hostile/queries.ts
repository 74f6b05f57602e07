// Values that a query must be refused for, by the name of the parameter; of one operation by its template and the name.

export const BAD_VALUES: Readonly<Record<string, readonly string[]>> = {
  limit: ["0", "101", "-1", "x", "1.5", "1e1", "", "1,2", "%00", "%EF%BC%99"],
  from: ["yesterday", "2026-02-30", "2026-01-01T00:00:00", "1", "", "%00"],
  to: ["tomorrow", "2026-13-01", "2026-01-01T00:00:00", "%ff"],
  sort: ["size", "", "-name"],
  active: ["1", "yes", ""],
  member: ["a%20b", "", "a,%00"],
  search: ["", "x".repeat(201), "%00"],
  external_id: ["", "%00", "x".repeat(256)],
  after_seq: ["-1", "x", "", "99999999999999999999", "%00"],
  before_seq: ["-1", "1.5", "2147483648"],
  order: ["up", "", "ASC"],
  sender_id: ["a%20b", ",", "%00"],
  type: ["%00", "No%20Such", ","],
  thread_of: ["", "%00", "x".repeat(129)],
  q: ["", "%00", "x".repeat(257), "-x", "%2A", "x%20".repeat(17), "%ED%A0%80"],
  mentions: ["a%20b", "", "alice,%00", Array(101).fill("alice").join()],
  include_deleted: ["1", "", "TRUE"],
  status: ["bogus", "", "sent,bogus"],
  recipient: ["", "%00", "x".repeat(2_049)],
  room_id: ["", "%00"],
  ticket: ["", "%00", "x".repeat(101)],
  types: ["", "message", "message.*,no.such", "%00"],
  ids: ["", "%00", Array(101).fill("x").join()],
  actor: ["", "%00"],
  correlation_id: ["", "%00", "x".repeat(129)],
  message_id: ["", "%00", "x", "room_0"],
  notification_id: ["", "%00", "x", "room_0"],
  user_id: ["", "%00", "a%20b", ".", ".."],
  category: ["", "%00"],
  tag: ["", "%00"],
  channel: ["bogus", "", "email,bogus"],
  provider: ["", "%00"],
  endpoint_id: ["", "%00"],
  reason: ["bogus", "", "manual,bogus"],
  group_by: ["bogus", "", "hour,day"],
  // An address has more letters than a name.
  "/api/v1/suppressions?search": ["", "x".repeat(255), "%00"],
};

/** What a query must have, by the operation's template. */
const REQUIRED: Readonly<Record<string, { readonly name: string; readonly text: string }>> = {
  "/api/v1/messages/search": { name: "q", text: "q=x" },
};

/** The query of an operation with this in it, and with what it must have beside. */
export function queryOf(template: string, text: string, name?: string): string {
  const required = REQUIRED[template];
  const parts = required === undefined || required.name === name ? [text] : [required.text, text];
  const query = parts.filter((part) => part !== "").join("&");
  return query === "" ? "" : `?${query}`;
}
