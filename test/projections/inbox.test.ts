// The inbox as it is read: pages, counts and times, against a plain model of what a user did.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { DeliveryId, Subject } from "../../src/contract/ids.ts";
import type { InboxStatus } from "../../src/contract/inbox.ts";
import type { DomainEvent } from "../../src/domain/catalogue.ts";
import type { ItemMark } from "../../src/domain/delivery.ts";
import { deliveryStream } from "../../src/domain/delivery-state.ts";
import { type InboxMark, inboxStream } from "../../src/domain/inbox.ts";
import { notificationStream } from "../../src/domain/notification.ts";
import { countInboxes, itemCovered, listInbox } from "../../src/projections/models/inbox-list.ts";
import type { ReadAs, ReadSide } from "../../src/projections/read-side.ts";
import { pick, seeded } from "../faults/support/random.ts";
import { ANNA, BEN, CLIENT, deliveryRequested, NOTIFICATION, OTHER, requestedNotification } from "./log.ts";
import { type Setting, setting } from "./setting.ts";

let given: Setting;
let readSide: ReadSide;
let read: ReadAs;
beforeAll(async () => {
  given = await setting();
  readSide = await given.open();
  read = readSide.readAs(CLIENT);
  await given.write(notificationStream(NOTIFICATION), [requestedNotification("websocket", [ANNA])]);
});
afterAll(() => given[Symbol.asyncDispose]());

type Item = { id: DeliveryId; at: number; seen: number | null; read: number | null; archived: number | null };

/** What a user did, told plainly. */
class Model {
  readonly items: Item[] = [];
  add(id: DeliveryId, at: number): void {
    this.items.unshift({ id, at, seen: null, read: null, archived: null });
  }
  mark(id: DeliveryId, as: ItemMark, at: number): void {
    const item = this.items.find((one) => one.id === id);
    if (item === undefined) return;
    if (as === "unread") Object.assign(item, { read: null, archived: null });
    else if (as === "unarchived") Object.assign(item, { archived: null });
    else this.#raise(item, as, at);
  }
  all(as: InboxMark, before: number | null, at: number): void {
    for (const item of this.items) if (before === null || item.at < before) this.#raise(item, as, at);
  }
  #raise(item: Item, as: InboxMark, at: number): void {
    item.seen ??= at;
    if (as !== "seen") item.read ??= at;
    if (as === "archived") item.archived ??= at;
  }
  drop(id: DeliveryId): void {
    this.items.splice(
      this.items.findIndex((one) => one.id === id),
      1,
    );
  }
  static statusOf = ({ read: readAt, archived }: Item): InboxStatus =>
    archived !== null ? "archived" : readAt !== null ? "read" : "unread";
}

const base = (subject: Subject) =>
  ({ notification: NOTIFICATION, recipient: subject, from: "delivered", to: "delivered" }) as const;
const marked = (subject: Subject, as: ItemMark): DomainEvent => ({
  type: "DeliveryMarked",
  data: { ...base(subject), as },
});
const cancelled = (subject: Subject): DomainEvent => ({
  type: "DeliveryCancelled",
  data: { ...base(subject), to: "cancelled" },
});
const ALL: readonly InboxStatus[] = ["unread", "read", "archived"];
const MARKS: readonly ItemMark[] = ["read", "unread", "archived", "unarchived"];

/** What the read model says, in the model's words. */
async function shown(subject: Subject, statuses: readonly InboxStatus[], limit = 100): Promise<readonly Item[]> {
  const { rows } = await listInbox(read, subject, { statuses, limit });
  return rows.map((row) => ({
    ...{ id: row.id, at: row.created_at, seen: row.seen_at, read: row.read_at, archived: row.archived_at },
  }));
}

async function expectSame(subject: Subject, { items }: Model): Promise<void> {
  for (const statuses of [
    ALL,
    ["unread"],
    ["read"],
    ["archived"],
    ["unread", "read"],
    ["unread", "archived"],
  ] as const) {
    const wanted = items.filter((item) => (statuses as readonly InboxStatus[]).includes(Model.statusOf(item)));
    expect(await shown(subject, statuses), statuses.join()).toEqual(wanted);
  }
  expect(await countInboxes(read, [subject])).toEqual([
    {
      subject,
      unread_count: items.filter((item) => Model.statusOf(item) === "unread").length,
      unseen_count: items.filter((item) => item.seen === null).length,
    },
  ]);
}

const caughtUp = async () => void (await readSide.waitFor(await given.store.tail(), 10_000));

describe("whatever a user does", () => {
  test.each([1, 2, 3, 4])("reads as it was done (%i)", async (seed) => {
    const subject: Subject = `sub_user${seed}`;
    const draw = seeded(seed);
    const model = new Model();
    for (let step = 1, at = 1_000; step <= 60; step += 1, at += 10) {
      const chance = draw();
      const item = model.items.length === 0 ? undefined : pick(draw, model.items);
      if (chance < 0.4 || item === undefined) {
        const id: DeliveryId = `dlv_${seed}x${step}`;
        await given.write(deliveryStream(id), [deliveryRequested(subject, "websocket")], { at });
        model.add(id, at);
      } else if (chance < 0.75) {
        const as = pick(draw, MARKS);
        // As the decider has it: a mark that changes nothing is no event.
        const status = Model.statusOf(item);
        const idle = { read: status !== "unread", unread: status === "unread", archived: status === "archived" };
        if (as === "unarchived" ? status !== "archived" : idle[as]) continue;
        await given.write(deliveryStream(item.id), [marked(subject, as)], { at });
        model.mark(item.id, as, at);
      } else if (chance < 0.95) {
        const as = pick(draw, ["seen", "read", "read", "archived"] as const);
        const before = draw() < 0.5 ? null : item.at + 1;
        await given.write(inboxStream(subject), [{ type: "InboxMarked", data: { as, beforeAt: before } }], { at });
        model.all(as, before, at);
      } else {
        await given.write(deliveryStream(item.id), [cancelled(subject)], { at });
        model.drop(item.id);
      }
      if (step % 12 !== 0) continue;
      await caughtUp();
      await expectSame(subject, model);
    }
  });
});

test("a page goes on where the one before ended, and can end at a time or a category", async () => {
  for (let n = 1; n <= 7; n += 1) {
    await given.write(deliveryStream(`dlv_page${n}`), [deliveryRequested(BEN, "websocket")], { at: 1_000 * n });
  }
  await caughtUp();
  const ids: string[] = [];
  let pages = 0;
  for (let cursor: readonly (string | number)[] | null | undefined; cursor !== null; pages += 1) {
    const page: Awaited<ReturnType<typeof listInbox>> = await listInbox(read, BEN, {
      ...{ statuses: ALL, limit: 3 },
      cursor,
    });
    ids.push(...page.rows.map((row) => row.id));
    cursor = page.next;
  }
  expect([pages, ids]).toEqual([3, [7, 6, 5, 4, 3, 2, 1].map((n) => `dlv_page${n}`)]);
  const before = await listInbox(read, BEN, { statuses: ALL, limit: 10, before: 3_000 });
  expect(before.rows.map((row) => row.id)).toEqual(["dlv_page2", "dlv_page1"]);
  expect((await listInbox(read, BEN, { statuses: ALL, limit: 10, categories: ["none"] })).rows).toEqual([]);
});

test("an item is what marks on the whole inbox made of it; another client's is in none", async () => {
  await given.write(deliveryStream("dlv_anna"), [deliveryRequested(ANNA, "websocket")], { at: 1_000 });
  await given.write(inboxStream(ANNA), [{ type: "InboxMarked", data: { as: "archived", beforeAt: null } }], {
    at: 2_000,
  });
  await given.write(deliveryStream("dlv_mail"), [deliveryRequested(ANNA, "email")], { at: 1_000 });
  await caughtUp();
  expect(await itemCovered(read, "dlv_anna")).toBe("archived");
  expect(await itemCovered(read, "dlv_mail")).toBeUndefined();
  const other = readSide.readAs(OTHER);
  expect(await itemCovered(other, "dlv_anna")).toBeUndefined();
  expect((await listInbox(other, ANNA, { statuses: ALL, limit: 10 })).rows).toEqual([]);
  expect(await countInboxes(other, [ANNA])).toEqual([{ subject: ANNA, unread_count: 0, unseen_count: 0 }]);
});
