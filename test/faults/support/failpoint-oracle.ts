// What must hold after a node died and came back: the answers that a client has, against the log and the receivers.
import type { RecordedEvent } from "../../../src/event-store/event-store.ts";
import { type Api, type Body, tokenOf, until } from "../../e2e/support/api.ts";
import { type History, seqsOf } from "./failpoint-history.ts";
import type { Receivers } from "./failpoint-receivers.ts";
import type { Scene } from "./failpoint-scene.ts";

/** Answers with a message; one for later has none yet. */
const postingsIn = (history: History) =>
  history.answered(/^\/rooms\/[^/]+\/messages$/).filter(({ answer }) => answer.status === 201);

/** The messages that those for later became. */
const postedLater = (history: History): readonly string[] =>
  history.answered(/\/send-now$/).map(({ answer }) => answer.body.message_id);

/** A notification or delivery that has come to an end. */
const ENDED = ["sent", "delivered", "fell_back", "exhausted", "bounced", "cancelled", "suppressed", "expired"];
const QUIET_MS = 60_000;
/** An attempt whose worker died is open until its lease ends; what follows takes a moment. */
const LEASE_MS = 150_000;

const dataOf = (event: RecordedEvent): Body => JSON.parse(Buffer.from(event.data).toString());
const count = (events: readonly RecordedEvent[], type: string) => events.filter((one) => one.type === type).length;

/** Streams without gaps, positions that grow, no id twice. */
function checkLog(events: readonly RecordedEvent[]): string[] {
  const faults: string[] = [];
  const next = new Map<string, number>();
  const ids = new Set<string>();
  let last = "";
  for (const { stream, revision, position, id } of events) {
    if (revision !== (next.get(stream) ?? 0))
      faults.push(`${stream} has revision ${revision} after ${next.get(stream)}`);
    next.set(stream, revision + 1);
    if (position <= last) faults.push(`${position} comes after ${last}`);
    last = position;
    if (ids.has(id)) faults.push(`the event ${id} is there twice`);
    ids.add(id);
  }
  return faults;
}

/** Every answered write is in the log exactly once, and nothing is there that was not asked for. */
function checkWrites(history: History, events: readonly RecordedEvent[]): string[] {
  const faults: string[] = [];
  const posted = new Map(events.filter((one) => one.type === "MessagePosted").map((one) => [dataOf(one).id, one]));
  const messages = postingsIn(history);
  for (const { answer } of messages) {
    const { id, seq, room_id: room } = answer.body;
    const found = posted.get(id);
    if (found?.stream !== `room-${room}` || found.revision + 1 !== seq) faults.push(`message ${id} is not at ${seq}`);
  }
  const ids = new Set(messages.map(({ answer }) => answer.body.id));
  if (ids.size !== messages.length) faults.push(`${messages.length} messages have ${ids.size} ids`);
  const rooms = new Set(history.answered(/^\/rooms$/).map(({ answer }) => answer.body.id));
  const asked = new Set(history.answered(/^\/notifications$/).map(({ answer }) => answer.body.id));
  const later = new Set(postedLater(history));
  for (const id of later) if (!posted.has(id)) faults.push(`a message for later became ${id}, which is not in the log`);
  const totals = { MessagePosted: ids.size + later.size, RoomCreated: rooms.size, NotificationRequested: asked.size };
  for (const [type, wanted] of Object.entries(totals)) {
    const there = count(events, type);
    if (there !== wanted) faults.push(`${there} ${type} in the log, ${wanted} answered`);
  }
  return faults;
}

/** Two people and an external id have the one room that they were answered with, also when they ask anew. */
async function checkClaims(history: History, api: Api, run: string): Promise<string[]> {
  const faults: string[] = [];
  for (const { answer, body } of history.answered(/^\/rooms$/, run)) {
    const { external_id: external, ...about } = body;
    const found = external === undefined ? undefined : (await api.get(`/rooms/ext:${external}`)).body.id;
    const again = body.kind === "direct" ? (await history.write(api, run, "POST", "/rooms", about)).id : undefined;
    for (const id of [found, again]) {
      if (id !== undefined && id !== answer.body.id) faults.push(`${answer.body.id} has a double: ${id}`);
    }
  }
  return faults;
}

/** Whoever listened goes on where it was cut, and has every seq once, in order, up to the end. */
async function checkListeners(history: History, api: Api): Promise<string[]> {
  const faults: string[] = [];
  for (const listener of history.listeners.splice(0)) {
    await using socket = await history.listen(api, listener);
    await socket.next((frame) => frame.type === "caught_up");
    const { body } = await api.get(`/rooms/${listener.room}`);
    await socket.next((frame) => frame.seq === body.seq).catch(() => undefined);
    const wanted = Array.from({ length: body.seq }, (_, n) => n + 1);
    if (String(seqsOf(listener)) !== String(wanted)) faults.push(`${listener.room} was shown as ${seqsOf(listener)}`);
  }
  return faults;
}

/** The client's endpoint is told of each message, under one id. */
async function checkEndpoint(history: History, { told }: Receivers): Promise<string[]> {
  const messages = [...postingsIn(history).map(({ answer }): string => answer.body.id), ...postedLater(history)];
  const untold = await until(
    async () => messages.filter((id) => !told.has(id)),
    (missing) => missing.length === 0,
    LEASE_MS,
  );
  const ids = messages.map((id) => [id, new Set(told.get(id))] as const);
  const twice = ids.filter(([, { size }]) => size > 1).map(([id, of]) => `message ${id} was told under ${[...of]}`);
  return [...untold.map((id) => `the endpoint was never told of message ${id}`), ...twice];
}

/** What a run's notifications came to; `leased`: those with an open attempt may go on. */
async function checkNotifications(
  { history, receivers, api }: { history: History; receivers: Receivers; api: Api },
  run: string | undefined,
  leased: boolean,
): Promise<string[]> {
  const faults: string[] = [];
  for (const { answer, body: asked } of history.answered(/^\/notifications$/, run)) {
    const { id } = answer.body;
    const { body: now } = await until(
      async () => {
        const found = await api.get(`/notifications/${id}`);
        await acknowledgeOpen(api, asked, found.body);
        return found;
      },
      ({ body }) => hasEnded(body, leased),
      leased ? QUIET_MS : LEASE_MS,
    );
    if (!hasEnded(now, leased)) faults.push(`notification ${id} has not ended: ${JSON.stringify(now)}`);
    const came = asked.type === "webhook" ? (receivers.webhooks.get(asked.content) ?? []) : mailsOf(receivers, asked);
    if (new Set(came).size > 1) faults.push(`notification ${id} came under ${[...new Set(came)]}`);
    const said = now.deliveries?.some(
      (one: Body) => ["sent", "delivered"].includes(one.status) && one.channel !== "websocket",
    );
    if (said === true && came.length === 0) faults.push(`notification ${id} was said to be sent, and never came`);
  }
  return faults;
}

const mailsOf = (receivers: Receivers, asked: Body): readonly string[] => {
  const to = asked.to_email ?? asked.email_fallback?.to_email;
  return to === undefined ? [] : receivers.mails(to);
};

/** Its user comes at last, and sees what waits without a fallback. */
async function acknowledgeOpen(api: Api, asked: Body, now: Body): Promise<void> {
  if (asked.type !== "websocket" || asked.email_fallback !== undefined) return;
  if (asked.expires_at !== undefined && Date.parse(asked.expires_at) > Date.now()) return;
  for (const { id, status, recipient } of now.deliveries ?? []) {
    if (status === "pending") await api.as(await tokenOf(api, recipient)).post(`/deliveries/${id}/ack`, {});
  }
}

/** All its deliveries are made and have ended, the mails of those that fell back among them. */
function hasEnded({ deliveries, deliveries_total: total }: Body, leased: boolean): boolean {
  // While another node has the read models, one that was just asked for may not be among them yet.
  if (deliveries === undefined || deliveries.length !== total) return false;
  return deliveries.every(({ id, status }: Body) => {
    if (status === "fell_back") return deliveries.some((one: Body) => one.fallback_of === id);
    return ENDED.includes(status) || (leased && status === "sending");
  });
}

/** All of it. `run` undefined: of every run, and nothing may be left open. */
export async function check(scene: Scene, history: History, api: Api, run: string | undefined): Promise<string[]> {
  const faults = await checkNotifications({ history, receivers: scene.receivers, api }, run, run !== undefined);
  faults.push(...(await checkListeners(history, api)), ...(await checkEndpoint(history, scene.receivers)));
  if (run !== undefined) faults.push(...(await checkClaims(history, api, run)));
  const events = await scene.events();
  faults.push(...checkLog(events), ...checkWrites(history, events));
  const rebuilt = await scene.command(["projections", "rebuild", "--all", "--verify"]);
  if (rebuilt.code !== 0) faults.push(`the read models differ from the log: ${rebuilt.output}`);
  return faults;
}
