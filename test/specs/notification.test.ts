// A notification: it decides until its time has come.
import { describe, test } from "vitest";
import type { NotificationPatch } from "../../src/contract/notifications.ts";
import {
  type NotificationCommand,
  type NotificationData,
  type NotificationEvent,
  notificationDecider,
  WITHOUT_OPTIONS,
} from "../../src/domain/notification.ts";
import { at, given, type History, NOW } from "../support/given.ts";

const LATER = NOW + 3_600_000;
const data = (changes: Partial<NotificationData> = {}): NotificationData => ({
  client: "cli_a",
  channel: "email",
  contentKey: "sub_ada",
  subject: { open: "Welcome" },
  content: { open: "<h1>Hello</h1>" },
  text: null,
  meta: { open: {} },
  priority: "normal",
  sendAt: null,
  expiresAt: LATER + 1_000,
  roomId: null,
  recipients: [{ subject: "sub_ada", address: { open: "ada@example.com" }, name: null, user: null }],
  audience: null,
  contentType: null,
  ...WITHOUT_OPTIONS,
  replyTo: null,
  cc: { open: [] },
  bcc: { open: [] },
  fallback: null,
  ...changes,
});
const requested = (changes: Partial<NotificationData> = {}): NotificationEvent => ({
  type: "NotificationRequested",
  data: data(changes),
});
const released: NotificationEvent = { type: "NotificationReleased", data: {} };
const cancelled: NotificationEvent = { type: "NotificationCancelled", data: {} };
const stopRequested: NotificationEvent = { type: "NotificationStopRequested", data: {} };
const routed: NotificationEvent = { type: "NotificationRouted", data: { deliveries: 1 } };
type Content = Pick<
  NotificationData,
  "contentKey" | "subject" | "content" | "text" | "meta" | "priority" | "sendAt" | "expiresAt"
>;
const edited = (changes: Partial<Content> = {}): NotificationEvent => {
  const { contentKey, subject, content, text, meta, priority, expiresAt } = data();
  return {
    type: "NotificationEdited",
    data: { contentKey, subject, content, text, meta, priority, sendAt: LATER, expiresAt, ...changes },
  };
};
const scheduled = requested({ sendAt: LATER });

const request = (changes: Partial<NotificationData> = {}): NotificationCommand => ({
  type: "Request",
  at: NOW,
  data: data(changes),
});
const edit = (patch: NotificationPatch, time = NOW, ifMatch: number | null = null): NotificationCommand => ({
  type: "Edit",
  at: time,
  patch,
  ifMatch,
});
const release = (time = LATER): NotificationCommand => ({ type: "Release", at: time });
const cancel = (openDeliveries = true, ifMatch: number | null = null): NotificationCommand => ({
  type: "Cancel",
  at: NOW,
  openDeliveries,
  ifMatch,
});
const markRouted: NotificationCommand = { type: "MarkRouted", at: NOW, deliveries: 1 };
const notification = (...history: History<NotificationEvent>) => given(notificationDecider, ...history);

describe("requesting", () => {
  test("without a time releases it in the same append", () =>
    notification().when(request()).then(requested(), released));

  test("for a time to come only schedules it", () =>
    notification()
      .when(request({ sendAt: LATER }))
      .then(scheduled));

  test("for a time that is past or now means now", () => {
    notification()
      .when(request({ sendAt: NOW - 1 }))
      .then(requested({ sendAt: NOW - 1 }), released);
    notification()
      .when(request({ sendAt: NOW }))
      .then(requested({ sendAt: NOW }), released);
  });

  test("twice requests once, whatever became of it", () => {
    notification(requested(), released).when(request()).thenNothing();
    notification(scheduled, cancelled)
      .when(request({ sendAt: LATER }))
      .thenNothing();
  });
});

test.each([edit({}), release(), cancel(), markRouted])("one that was never requested is not found: $type", (command) =>
  notification().when(command).thenRejected("not_found"),
);

describe("editing", () => {
  test("changes what is named and keeps the rest", () =>
    notification(scheduled)
      .when(edit({ subject: "Hi" }))
      .then(edited({ subject: { open: "Hi" } })));

  test("starts from the last edit", () =>
    notification(scheduled, edited({ subject: { open: "Hi" } }))
      .when(edit({ priority: "high" }))
      .then(edited({ subject: { open: "Hi" }, priority: "high" })));

  test("to what it is changes nothing, in whatever order its content comes", () => {
    const hook = requested({ channel: "webhook", sendAt: LATER, content: { open: { a: 1, b: [2] } } });
    notification(hook)
      .when(edit({ content: { b: [2], a: 1 } }))
      .thenNothing();
  });

  test("the time into the past, or away, releases it", () => {
    for (const sendAt of [NOW, NOW - 1, null]) {
      notification(scheduled)
        .when(edit({ send_at: sendAt }))
        .then(edited({ sendAt: null }), released);
    }
  });

  test("the time further away schedules it anew", () => {
    notification(scheduled)
      .when(edit({ send_at: LATER + 500 }))
      .then(edited({ sendAt: LATER + 500 }));
    notification(scheduled, edited({ sendAt: LATER + 500 }))
      .when(release())
      .thenNothing();
  });

  test("is for scheduled ones only", () => {
    notification(requested(), released)
      .when(edit({ priority: "low" }))
      .thenRejected("not_editable");
    notification(scheduled, cancelled)
      .when(edit({ priority: "low" }))
      .thenRejected("not_editable");
  });

  test("holds to the revision, before anything else", () => {
    notification(scheduled)
      .when(edit({ priority: "low" }, NOW, 0))
      .then(edited({ priority: "low" }));
    notification(scheduled, edited({ priority: "low" }))
      .when(edit({ priority: "high" }, NOW, 0))
      .thenRejected("precondition_failed");
    notification(scheduled, cancelled)
      .when(edit({ priority: "high" }, NOW, 0))
      .thenRejected("precondition_failed");
  });
});

describe("releasing", () => {
  test("happens when the time has come", () => notification(scheduled).when(release()).then(released));
  test("not a moment before", () =>
    notification(scheduled)
      .when(release(LATER - 1))
      .thenNothing());
  test("happens once", () => notification(scheduled, released).when(release()).thenNothing());
  test("never happens after cancelling", () => notification(scheduled, cancelled).when(release()).thenNothing());
});

describe("cancelling", () => {
  test("before the release means that nothing was ever sent", () =>
    notification(scheduled).when(cancel()).then(cancelled));

  test("after the release asks the router and every delivery to stop", () => {
    notification(requested(), released).when(cancel()).then(stopRequested);
    notification(requested(), released, routed).when(cancel()).then(stopRequested);
  });

  test("while deliveries are still being made always stops them", () =>
    notification(requested(), released).when(cancel(false)).then(stopRequested));

  test("with nothing left to stop is refused", () =>
    notification(requested(), released, routed).when(cancel(false)).thenRejected("not_cancellable"));

  test("twice changes nothing the second time", () => {
    notification(scheduled, cancelled).when(cancel()).thenNothing();
    notification(requested(), released, stopRequested).when(cancel()).thenNothing();
    notification(requested(), released, routed, stopRequested).when(cancel(false)).thenNothing();
  });

  test("holds to the revision, before anything else", () => {
    notification(requested(), released).when(cancel(true, 1)).then(stopRequested);
    notification(requested(), released, routed).when(cancel(false, 1)).thenRejected("precondition_failed");
  });
});

describe("having made every delivery", () => {
  test("is recorded once", () => {
    notification(requested(), released).when(markRouted).then(routed);
    notification(requested(), released, routed).when(markRouted).thenNothing();
  });
  test("is recorded also when it was asked to stop", () =>
    notification(requested(), released, stopRequested).when(markRouted).then(routed));
  test("means nothing before the release, or without one", () => {
    notification(scheduled).when(markRouted).thenNothing();
    notification(scheduled, cancelled).when(markRouted).thenNothing();
  });
});

test("its ETag is its stream's revision, its times are those of its first and last event", () =>
  notification(scheduled, at(NOW + 5, edited({ priority: "low" })), at(NOW + 9, released)).thenState({
    status: "released",
    revision: 2,
    createdAt: NOW,
    updatedAt: NOW + 9,
    data: { priority: "low", recipients: data().recipients },
  }));

describe("deleting", () => {
  const deleted: NotificationEvent = { type: "NotificationDeleted", data: {} };
  const del = (openDeliveries = false, ifMatch: number | null = null): NotificationCommand => ({
    ...{ type: "Delete", at: NOW, openDeliveries, ifMatch },
  });

  test("cancels what is scheduled, and stops what is open or not all made", () => {
    given(notificationDecider, scheduled).when(del()).then(cancelled, deleted);
    given(notificationDecider, requested(), released).when(del()).then(stopRequested, deleted);
    given(notificationDecider, requested(), released, routed).when(del(true)).then(stopRequested, deleted);
  });

  test("of what has ended only erases", () => {
    given(notificationDecider, requested(), released, routed).when(del()).then(deleted);
    given(notificationDecider, requested(), released, stopRequested).when(del(true)).then(deleted);
    given(notificationDecider, scheduled, cancelled).when(del()).then(deleted);
  });

  test("twice changes nothing the second time, whatever it rests on", () => {
    given(notificationDecider, scheduled, cancelled, deleted).when(del(true, 0)).thenNothing();
    given(notificationDecider, scheduled).when(del(true, 5)).thenRejected("precondition_failed");
    given(notificationDecider).when(del()).thenRejected("not_found");
  });

  test("leaves whom it was for by subject alone, and no word", () =>
    given(notificationDecider, requested(), released, routed, deleted).thenState({
      status: "released",
      deleted: true,
      data: {
        recipients: [{ subject: "sub_ada", address: { erased: true }, name: null }],
        ...{ subject: { erased: true }, content: { erased: true }, meta: { erased: true } },
      },
    }));
});
