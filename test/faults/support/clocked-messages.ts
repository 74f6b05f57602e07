// A message for later under a clock of the test's own: what its sender does meanwhile, when processes die, and what is
// promised of it, held against the log.
import { expect } from "vitest";
import type { RoomId, ScheduledMessageId, Subject } from "../../../src/contract/ids.ts";
import type { Instant } from "../../../src/contract/time.ts";
import { type Actor, DomainError } from "../../../src/domain/decider.ts";
import { seal } from "../../../src/domain/event.ts";
import { type RoomCommand, roomDecider, roomStream } from "../../../src/domain/room.ts";
import {
  type ScheduledData,
  type ScheduledMessageCommand,
  scheduledMessageDecider,
  scheduledStream,
} from "../../../src/domain/scheduled-message.ts";
import type { StoredEvent } from "../../../src/event-store/envelope.ts";
import { Commands } from "../../../src/event-store/handle-command.ts";
import { foldRows } from "../../../src/projections/fold.ts";
import { scheduledMessages } from "../../../src/projections/models/scheduled-messages.ts";
import { CLIENT } from "../../projections/log.ts";
import { openInMemoryLog } from "../../support/in-memory-log.ts";
import { jobServices } from "../../support/job-services.ts";
import { contextOf } from "../../support/live.ts";
import { memoryKeyring } from "../../support/memory-keyring.ts";
import {
  type Act,
  type ClockStep,
  type Die,
  type JobRun,
  type JobStory,
  runJobs,
  SteppedClock,
} from "./clocked-jobs.ts";
import { dueJob } from "./due-jobs.ts";

/** What its sender, or who keeps the room, does some time after the start. */
export type LaterAct = { readonly afterMs: number } & (
  | { readonly kind: "move"; readonly sendInMs: number }
  | { readonly kind: "send now" | "cancel" | "remove" }
);
export type LaterStory = JobStory & {
  readonly sendInMs: number;
  readonly acts: readonly LaterAct[];
  readonly steps: readonly ClockStep[];
  /** Commands of workers, counted: the process dies before it carries this one out, or just after. */
  readonly deaths: readonly { readonly command: number; readonly after: boolean }[];
};

const ROOM = "room_0123456789abcdefghjkmnpqrs" satisfies RoomId;
const LATER = "sch_0123456789abcdefghjkmnpqrs" satisfies ScheduledMessageId;
const KEY: Actor = { type: "key", id: "key_1" };

/** Tells a message for later from its scheduling until nothing is left to do. */
export async function tellLater(story: LaterStory): Promise<JobRun> {
  const keyring = memoryKeyring();
  await using store = await openInMemoryLog();
  const log = { store, keyring, snapshots: undefined, olderCommands: undefined };
  const commands = new Commands({ ...log, warn: () => undefined });
  const clock = new SteppedClock(story.start, story.steps);
  const sender = await keyring.subjectOfUser(CLIENT, "max");
  const actor: Actor = { type: "user", id: sender };

  const inRoom = (command: RoomCommand) => commands.execute(roomDecider, roomStream(ROOM), command, contextOf(CLIENT));
  const ofLater = (command: ScheduledMessageCommand) =>
    commands.execute(scheduledMessageDecider, scheduledStream(LATER), command, contextOf(CLIENT));
  await inRoom(newRoom(sender, clock.read()));
  await ofLater({ type: "Schedule", at: clock.read(), data: dataOf(sender, story.start + story.sendInMs) });

  const carryOut = async (act: LaterAct): Promise<unknown> => {
    const at = clock.read();
    switch (act.kind) {
      case "move":
        return ofLater({ type: "Change", at, actor, changes: { sendAt: at + act.sendInMs }, faults: [] });
      case "send now":
        return ofLater({ type: "SendNow", at, actor });
      case "cancel":
        return ofLater({ type: "Unschedule", at, actor, admin: false });
      case "remove":
        return inRoom({ type: "RemoveMember", at, actor: KEY, subject: sender, user: "max" });
    }
  };
  const acts = story.acts.map((act): Act => {
    return {
      at: story.start + act.afterMs,
      // What comes too late is refused.
      act: () =>
        carryOut(act).then(
          () => undefined,
          (error: unknown) => {
            if (!(error instanceof DomainError)) throw error;
          },
        ),
    };
  });

  let carriedOut = 0;
  const process = (die: Die) => {
    const dying: Commands["execute"] = async (...command) => {
      carriedOut += 1;
      const death = story.deaths.find((one) => one.command === carriedOut);
      if (death?.after === false) return die();
      const outcome = await commands.execute(...command);
      return death === undefined ? outcome : die();
    };
    const mortal = new Proxy(commands, {
      get: (all, name) =>
        name === "execute" ? dying : (...given: never[]) => Reflect.get(all, name).apply(all, given),
    });
    return jobServices({ store, keyring, commands: mortal, now: () => clock.read() });
  };
  return await runJobs({ story, clock, store, keyring, acts, process, sweepOf });
}

const newRoom = (sender: Subject, at: Instant): RoomCommand => ({
  ...{ type: "Create", at, externalId: null },
  settings: {
    ...{ name: "Talk", description: null, kind: "private", joinRole: "member", maxMembers: null },
    ...{ posting: "everyone", history: "all", meta: {} },
  },
  members: [{ subject: sender, user: { open: "max" }, role: "member", name: null, meta: { open: {} } }],
});

const dataOf = (sender: Subject, sendAt: Instant): ScheduledData => ({
  ...{ room: ROOM, sender, user: seal("max"), senderName: null, key: null, type: "text", replyTo: null },
  ...{ threadOf: null, content: seal("Later"), meta: seal({}), mentions: [], everyone: false, sendAt },
});

/** Its row says when somebody has to see to it. */
const sweepOf = (events: readonly StoredEvent[]) =>
  foldRows(
    scheduledMessages,
    events.filter(({ stream }) => stream === scheduledStream(LATER)),
  ).flatMap(({ next_action_at: at }) =>
    typeof at === "number" ? [dueJob({ kind: "post", scheduled: LATER }, at)] : [],
  );

/** What holds whatever the clock does, in times that the log names. */
export function keepsPromisesOfLater({ events }: JobRun): void {
  for (const ofOne of Map.groupBy(events, ({ stream }) => stream).values()) {
    let at = 0;
    for (const { meta } of ofOne) {
      expect(meta.at, "no event is before the one before it").toBeGreaterThanOrEqual(at);
      at = meta.at;
    }
  }
  const own = events.filter(({ stream }) => stream === scheduledStream(LATER));
  let sendAt: Instant = Number.POSITIVE_INFINITY;
  for (const event of own) {
    if (event.type === "MessageScheduled" || event.type === "MessageRescheduled") sendAt = event.data.sendAt;
    if (event.type === "MessageDue" && event.meta.actor.type === "system")
      expect(event.meta.at, "it is due at its time").toBeGreaterThanOrEqual(sendAt);
  }
  const posted = events.findIndex(({ type }) => type === "MessagePosted");
  const left = events.findIndex(({ type }) => type === "MemberLeft");
  const ends = own.filter(({ type }) =>
    ["ScheduledMessagePosted", "MessageRefused", "MessageUnscheduled"].includes(type),
  );
  const count = (type: string) => events.filter((event) => event.type === type).length;
  const [end] = ends;
  expect(ends, "it ends once").toHaveLength(1);
  expect(count("MessagePosted")).toBe(end?.type === "ScheduledMessagePosted" ? 1 : 0);
  expect(count("MessageDue")).toBe(end?.type === "MessageUnscheduled" ? 0 : 1);
  if (end?.type === "MessageRefused") {
    expect(end.data.reason).toBe("not_a_member");
    expect(left).toBeGreaterThanOrEqual(0);
  }
  if (left >= 0 && posted >= 0) expect(posted, "whoever was removed posts nothing").toBeLessThan(left);
}
