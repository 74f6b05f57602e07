// What lists cost: on large tables each query is a walk along an index, so that a page costs the same in all of them.

import { CompiledQuery } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { DeliveryId, NotificationId, RoomId, Subject } from "../../src/contract/ids.ts";
import { positionOf } from "../../src/event-store/event-store.ts";
import { storedProjections } from "../../src/projections/models/all.ts";
import { attemptsOf } from "../../src/projections/models/attempts.ts";
import { auditPage, olderCommandsOf } from "../../src/projections/models/audit.ts";
import { deliveriesOf } from "../../src/projections/models/deliveries.ts";
import { deliveryFigures } from "../../src/projections/models/delivery-figures.ts";
import {
  countOpen,
  countRedrivable,
  listDeliveries,
  nextRedrivable,
  openWebsocketDeliveries,
  usersWithOpenDeliveries,
} from "../../src/projections/models/delivery-list.ts";
import * as dueWork from "../../src/projections/models/due-work.ts";
import { unacknowledgedMarks } from "../../src/projections/models/inbox.ts";
import { countInboxes, itemCovered, listInbox } from "../../src/projections/models/inbox-list.ts";
import { listMessages } from "../../src/projections/models/messages.ts";
import { listNotifications } from "../../src/projections/models/notifications.ts";
import { listReactions } from "../../src/projections/models/reactions.ts";
import { listReads, markersOf, roomsOfUser, unreadOf } from "../../src/projections/models/reads.ts";
import { redriveById, runningRedrives } from "../../src/projections/models/redrives.ts";
import { listMembers, listRooms } from "../../src/projections/models/rooms.ts";
import { listSuppressions } from "../../src/projections/models/suppressions.ts";
import { listUsers, userBySubject } from "../../src/projections/models/users.ts";
import { tableName } from "../../src/projections/projection.ts";
import { readAs, readAsOperator } from "../../src/projections/read-as.ts";
import type { OperatorRead, ReadAs } from "../../src/projections/read-side.ts";
import { fillRows } from "../support/fill-rows.ts";
import { CLIENT } from "./log.ts";
import { memberOf, membersPage, roomByExternalId, roomById, streamPositions } from "./lookups.ts";
import { type Setting, setting } from "./setting.ts";

const ROWS = 40_000;
const ROOM: RoomId = "room_7";
const WHO: Subject = "sub_7";
const NTF: NotificationId = "ntf_7";
const DLV: DeliveryId = "dlv_7";

/** What stands in a column of the n-th row; rooms and people have some dozens of rows each where they are no key. */
const VALUES: Readonly<Record<string, string>> = {
  client: `case when n % 3 = 0 then 'cli_other' else '${CLIENT}' end`,
  position: "'log.' || lpad(to_hex(n), 16, '0')",
  activity_position: "'log.' || lpad(to_hex(n * 7 % 40000), 16, '0')",
  join_index: "0",
  id: "'id_' || n",
  room_id: "'room_' || n % 1000",
  subject: "'sub_' || n % 997",
  sender: "'sub_' || n % 997",
  notification_id: "'ntf_' || n % 1000",
  delivery_id: "'dlv_' || n",
  endpoint_id: "'whk_' || n",
  stream: "'stream-' || n % 1000",
  command: "'command-' || n",
  seq: "n / 1000 + 1",
  message_seq: "n / 1000 + 1",
  number: "1",
  kind: "case when n % 50 = 0 then 'public' else 'private' end",
  deleted: "false",
  external_id: "'ext-' || n",
  name_key: "'name ' || n * 31 % 40000",
  type: "case when n % 100 = 0 then 'rare' else 'text' end",
  channel: "'websocket'",
  status: "case when n % 10 = 0 then 'pending' else 'delivered' end",
  state: "case when n % 500 = 0 then 'scheduled' else 'released' end",
  routed: "n % 500 <> 1",
  stop_requested: "n % 100 = 2",
  open: "case when n % 500 = 2 then 1 else 0 end",
  mails_due: "n % 500 = 3",
  to_push: "n % 10 = 0",
  expires_at: "n * 1000",
  next_action_at: "case when n % 10 = 0 then n * 1000 end",
  send_at: "n * 1000",
  created_at: "n * 1000",
  deleted_at: "case when n % 20 = 0 then n end",
  generation: "case when n % 1000 = 0 then 1 else 0 end",
  ordinal: "n / 1000 + 1",
  joined_seq: "0",
  actor_id: "'key_' || n % 20",
};
/** Where a column is what tells rows apart. */
const KEYS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  users: { subject: "'sub_' || n" },
  preferences: { subject: "'sub_' || n" },
  rooms: { room_id: "'room_' || n" },
  room_search: { room_id: "'room_' || n", content: "'name ' || n", grams: "array[n % 500, n % 7]" },
  deletions: { width: "64", block: "n" },
  notifications: { id: "'ntf_' || n", room_id: "'room_' || n % 1000" },
  audit: { message: "'msg_' || n % 1000" },
  deliveries: { id: "'dlv_' || n", address: "'a'", endpoint_id: "case when n % 10 = 0 then 'whk_' || n % 100 end" },
  suppressions: { subject: "'sub_' || n" },
  inbox: {
    id: "'dlv_' || n",
    item: "case when n % 10 = 0 then 'archived' when n % 10 < 4 then 'read' else 'new' end",
    unarchived_after: "case when n % 100 = 0 then 'log.' || lpad(to_hex(n), 16, '0') end",
  },
  inbox_marks: {
    revision: "n / 997",
    level: "n % 3 + 1",
    before_at: "case when n % 7 = 0 then n * 100 end",
    acknowledged: "n % 500 <> 0",
  },
  inbox_blocks: { width: "case when n % 7 = 0 then 67108864 else 16384 end", block: "n" },
  delivery_sums: {
    ...{
      width: "case when n % 10 = 0 then 86400000 else 60000 end",
      part: "case when n % 3 = 0 then 'each' else 'bare' end",
    },
    ...{
      start: "n * 60000::bigint",
      tag: "case when n % 3 = 0 then 'tag ' || n % 500 else '' end",
      sums: "'[]'::json",
    },
    room_id: "case when n % 3 = 0 then 'room_' || n % 500 else '' end",
  },
  redrives: { id: "'rdr_' || n", status: "case when n % 500 = 0 then 'running' else 'done' end" },
  messages: { thread_seq: "case when n % 4 = 0 then 2 end" },
  reaction_counts: { count: "1" },
  threads: { reply_count: "1" },
  thread_participants: { thread_seq: "n / 1000 + 1", count: "1" },
  members: { subject: "'sub_' || n / 1000 + n % 957" },
  reads: { subject: "'sub_' || n / 1000 + n % 957" },
  recipients: { notification_id: "'ntf_' || n", subject: "'sub_' || n % 997" },
};

/** The same handle, which also looks at the plan of each query, as PostgreSQL makes it for this very handle. */
const explaining = <T extends ReadAs | OperatorRead>(handle: T): T => ({
  ...handle,
  async rows(query: Parameters<T["rows"]>[0]) {
    const { sql: text, parameters } = query.compile();
    const lines = await handle.rows<{ "QUERY PLAN": string }>({
      compile: () => CompiledQuery.raw(`explain ${text}`, [...parameters]),
    });
    plans.push(lines.map((line) => line["QUERY PLAN"]).join("\n"));
    return handle.rows(query);
  },
});

let given: Setting;
let read: ReadAs;
let operator: OperatorRead;
/** The plans of what was asked. */
let plans: string[] = [];
beforeAll(async () => {
  given = await setting();
  await given.open();
  for (const projection of storedProjections) {
    const table = `read.${tableName(projection)}`;
    await given.database.pool.query(`alter table ${table} set (autovacuum_enabled = off)`);
    await fillRows(given.database.pool, projection, ROWS, { ...VALUES, ...KEYS[projection.name] });
  }
  read = explaining(readAs(given.database.pool, CLIENT));
  operator = explaining(readAsOperator(given.database.pool));
}, 120_000);
afterAll(() => given[Symbol.asyncDispose]());

const position = positionOf("log", 20_000);
const FAILED = {
  ...{ statuses: ["exhausted" as const, "expired" as const], channels: null, providers: null, endpoints: null },
  ...{ errorCodes: ["gone"], fromAt: null, toAt: null },
};
/** A state that forgot commands up to here; the rest of it does not matter. */
const FORGETFUL = { idempotencyWindow: { forgotten: position } } as never;
const QUERIES: Readonly<Record<string, () => Promise<unknown>>> = {
  "rooms, newest first": () => listRooms(read, { sort: "-created_at", limit: 50 }),
  "rooms by name, a later page": () => listRooms(read, { sort: "name", limit: 50, cursor: ["name 5", ROOM] }),
  "rooms of a member": () => listRooms(read, { sort: "-created_at", members: [WHO], limit: 50 }),
  "rooms visible to a user": () => listRooms(read, { sort: "-created_at", visibleTo: WHO, limit: 50 }),
  "rooms visible to a user, by name": () => listRooms(read, { sort: "name", visibleTo: WHO, limit: 50 }),
  "rooms that a search finds": () => listRooms(read, { sort: "name", search: "ame 77", limit: 50 }),
  "rooms that a user's search finds": () =>
    listRooms(read, { sort: "-created_at", visibleTo: WHO, search: "ame 77", limit: 50 }),
  "a room": () => roomById(read, ROOM),
  "a room by external id": () => roomByExternalId(read, "ext-7"),
  "a user": () => userBySubject(read, WHO),
  suppressions: () => listSuppressions(read, { limit: 50, cursor: [position] }),
  users: () => listUsers(read, { limit: 50, cursor: [position] }),
  "a member": () => memberOf(read, ROOM, WHO),
  members: () => listMembers(read, ROOM, { limit: 50, cursor: [position, 0] }),
  "members to be expanded": () => membersPage(read, ROOM, WHO, 50),
  messages: () => listMessages(read, ROOM, { order: "desc", includeDeleted: false, limit: 50 }),
  "messages after a seq": () =>
    listMessages(read, ROOM, { order: "asc", afterSeq: 5, includeDeleted: true, limit: 50 }),
  "replies of a thread": () =>
    listMessages(read, ROOM, { order: "asc", threadSeq: 2, includeDeleted: false, limit: 50 }),
  "messages that mention a user": () =>
    listMessages(read, ROOM, { order: "desc", mentioned: [WHO], includeDeleted: false, limit: 50 }),
  "reactions to a message": () => listReactions(read, { room: ROOM, messageSeq: 5 }, { limit: 50 }),
  "messages of a rare type": () =>
    listMessages(read, ROOM, { order: "desc", types: ["rare"], includeDeleted: false, limit: 50 }),
  "messages of a sender": () =>
    listMessages(read, ROOM, { order: "desc", senders: [WHO], includeDeleted: false, limit: 50 }),
  "what is unread": () => unreadOf(read, ROOM, WHO),
  "a member's markers": () => markersOf(read, ROOM, WHO),
  "read markers": () => listReads(read, ROOM, { limit: 50 }),
  "a user's rooms": () => roomsOfUser(read, WHO, { limit: 50 }),
  notifications: () => listNotifications(read, { limit: 50 }),
  "notifications, a later page": () => listNotifications(read, { limit: 50, cursor: [position] }),
  "notifications by status": () => listNotifications(read, { statuses: ["pending"], limit: 50 }),
  "notifications of a person": () => listNotifications(read, { recipient: WHO, limit: 50 }),
  "notifications of a room": () => listNotifications(read, { roomIds: [ROOM], limit: 50 }),
  "notifications by id": () => listNotifications(read, { ids: [NTF], limit: 50 }),
  "notifications of some days": () => listNotifications(read, { from: 1_000, to: 90_000, limit: 50 }),
  "deliveries of a notification": () => deliveriesOf(read, NTF, { limit: 50 }),
  deliveries: () => listDeliveries(read, { limit: 50, cursor: [position] }),
  "deliveries by status": () => listDeliveries(read, { statuses: ["pending"], limit: 50 }),
  "deliveries to a person": () => listDeliveries(read, { recipients: [WHO], limit: 50 }),
  "deliveries of an endpoint": () => listDeliveries(read, { endpoints: ["whk_10"], limit: 50 }),
  "deliveries of some days": () => listDeliveries(read, { from: 1_000, to: 90_000, limit: 50 }),
  "figures of deliveries": () => deliveryFigures(read, { group: "day", from: 1_000, to: 90_000_000 }),
  "figures of a tag": () => deliveryFigures(read, { group: "hour", tags: ["tag 9"], from: 1_000, to: 90_000_000 }),
  "figures of rooms": () => deliveryFigures(read, { group: "day", roomIds: ["room_7", "room_8"] }),
  "figures by tag": () => deliveryFigures(read, { group: "tag", categories: ["x"] }),
  "how many a redrive matches": () => countRedrivable(read, FAILED, { upTo: position, limit: 100 }),
  "what a redrive goes on with": () => nextRedrivable(read, FAILED, { upTo: position, after: position, limit: 100 }),
  "a redrive": () => redriveById(read, "rdr_7"),
  "redrives that are not over": () => runningRedrives(operator, 50, position),
  inbox: () => listInbox(read, WHO, { statuses: ["unread", "read"], limit: 50, cursor: [position] }),
  "inbox, all of it before a time": () =>
    listInbox(read, WHO, { statuses: ["unread", "read", "archived"], before: 9_000_000, limit: 50 }),
  "inbox counts": () => countInboxes(read, [WHO, "sub_8"]),
  "an item of the inbox": () => itemCovered(read, DLV),
  "marks to be acknowledged": () => unacknowledgedMarks(operator, 50, position),
  "open deliveries of a user": () => openWebsocketDeliveries(read, WHO, { now: 5_000, limit: 100 }),
  "who has open deliveries": () => usersWithOpenDeliveries(read, [WHO, "sub_8"], 5_000),
  "how many are open": () => countOpen(read, WHO),
  attempts: () => attemptsOf(read, [DLV, "dlv_8"]),
  audit: () => auditPage(read, { limit: 50 }),
  "audit of a message": () => auditPage(read, { message: "msg_7", limit: 50 }),
  "audit of a type": () => auditPage(read, { types: ["rare"], after: position, limit: 50 }),
  "events of streams": () => streamPositions(read, ["stream-7", "stream-8"], { limit: 50 }),
  "an older command": () =>
    olderCommandsOf({ waitFor: async () => true, operator: () => operator })("command-7", FORGETFUL, "stream-7"),
  "deliveries due": () => dueWork.dueDeliveries(operator, 50_000, 50),
  "notifications due": () => dueWork.dueNotifications(operator, 900_000, 50),
  "notifications to be routed": () => dueWork.unroutedNotifications(operator, 50),
  "notifications being stopped": () => dueWork.stoppingNotifications(operator, 50),
  "mails to be made": () => dueWork.missingMails(operator, 50),
};

/** The scans of whole tables in the plans of all queries that `ask` leads to. */
async function scans(ask: () => Promise<unknown>): Promise<readonly string[]> {
  plans = [];
  await ask();
  expect(plans.length).toBeGreaterThan(0);
  return plans.flatMap((plan) => plan.split("\n").filter((line) => /Seq Scan/.test(line)));
}

test.each(Object.entries(QUERIES))("%s: no scan of a table that was never analysed", async (_, ask) => {
  expect(await scans(ask)).toEqual([]);
});

describe("once PostgreSQL knows the tables", () => {
  beforeAll(async () => void (await given.database.pool.query("analyze")));

  test.each(Object.entries(QUERIES))("%s: no scan of a table", async (_, ask) => {
    expect(await scans(ask)).toEqual([]);
  });
});

test("a query without an index is found", async () => {
  const byDescription = () =>
    listRooms(operator as unknown as ReadAs, { sort: "created_at", from: 1, to: 2, limit: 5 });
  expect(await scans(byDescription)).not.toEqual([]);
});
