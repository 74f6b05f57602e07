// What goes on while a node waits for its death: all that clients do, side by side, until the node is gone.
import { setTimeout as sleep } from "node:timers/promises";
import { type Api, type Body, tokenOf, until } from "../../e2e/support/api.ts";
import { connect } from "../../e2e/support/socket.ts";
import { type History, type Listener, TooLate, Unknown } from "./failpoint-history.ts";
import type { Receivers } from "./failpoint-receivers.ts";

export type World = {
  /** With the client's key. */
  readonly api: Api;
  readonly history: History;
  readonly receivers: Receivers;
  /** Names this run: in every content, address and user that belongs to it. */
  readonly run: string;
  readonly over: AbortSignal;
};

/** How long a frame is waited for. */
const NEXT_MS = 30_000;
/** So long after a strange answer it is known whether the node was dying. */
const DYING_MS = 500;

const soon = (ms: number): string => new Date(Date.now() + ms).toISOString();
let made = 0;
/** A name that nothing else has. */
const unique = ({ run }: World, what: string): string => {
  made += 1;
  return `${run}-${what}-${made}`;
};

const write = ({ history, api, run }: World, method: string, path: string, body: Body): Promise<Body> =>
  history.write(api, run, method, path, body);
const post = (world: World, path: string, body: Body): Promise<Body> => write(world, "POST", path, body);
const ask = (world: World, body: Body): Promise<Body> => post(world, "/notifications", body);

/** A room that is talked in, with somebody who listens and reads. */
async function talk(world: World): Promise<void> {
  const [alice, bob] = [unique(world, "alice"), unique(world, "bob")];
  const members = [{ user_id: alice, role: "owner" }, { user_id: bob }];
  const room = await post(world, "/rooms", { name: "Talk", external_id: unique(world, "room"), members });
  const listener: Listener = { user: bob, room: room.id, frames: [] };
  world.history.listeners.push(listener);
  await using socket = await world.history.listen(world.api, listener);
  await write(world, "PUT", `/rooms/${room.id}/members/${unique(world, "carol")}`, { role: "member" });
  const say = (n: number) => post(world, `/rooms/${room.id}/messages`, { sender_id: alice, content: `message ${n}` });
  const [first] = await Promise.all(Array.from({ length: 10 }, (_, n) => say(n)));
  await write(world, "PATCH", `/rooms/${room.id}/messages/${first?.id}`, { content: "edited" });
  const messages = `/rooms/${room.id}/messages`;
  const growing = await post(world, messages, { sender_id: alice, content: "", state: "growing" });
  await post(world, `${messages}/${growing.id}/append`, { text: "grown", offset: 0 });
  await post(world, `${messages}/${growing.id}/complete`, {});
  const later = await post(world, messages, { sender_id: alice, content: "later", send_at: soon(60_000) });
  await post(world, `/rooms/${room.id}/scheduled-messages/${later.id}/send-now`, {});
  await write(world, "PUT", `/rooms/${room.id}/reads/${alice}`, { seq: 2 });
  socket.send({ type: "read", room_id: room.id, seq: 3, ref: "read" });
  await socket.next((frame) => frame.ref === "read", NEXT_MS);
}

/** Two people who find the one room that they have, also under its external id. */
async function pair(world: World): Promise<void> {
  const members = [{ user_id: unique(world, "dave") }, { user_id: unique(world, "erin") }];
  const about = { kind: "direct", name: "Two", members };
  const first = await post(world, "/rooms", { ...about, external_id: unique(world, "pair") });
  const again = await post(world, "/rooms", about);
  if (again.id !== first.id) throw new Error(`two rooms of one pair: ${first.id}, ${again.id}`);
}

/** Mails and webhooks: at once, under a deduplication key, counted by a throttle, later, moved, failing once, failing for good. */
async function outside(world: World): Promise<void> {
  const mail = () => ({ type: "email", to_email: `${unique(world, "mail")}@example.com`, subject: "S", content: "C" });
  const hook = (path: string) => ({ type: "webhook", url: world.receivers.hook(path), content: unique(world, "hook") });
  const [moved] = await Promise.all([
    ask(world, { ...mail(), send_at: soon(700) }),
    ask(world, mail()),
    ask(world, { ...mail(), dedupe: { key: unique(world, "dedupe"), window_seconds: 60 } }),
    ask(world, { ...mail(), throttle: { key: "a-day", limit: 5, per_seconds: 86_400 } }),
    ask(world, { ...mail(), send_at: soon(800) }),
    ask(world, hook("/ok")),
    ask(world, hook("/first-fails")),
    ask(world, hook("/fails")),
  ]);
  await write(world, "PATCH", `/notifications/${moved.id}`, { send_at: soon(1_600) });
}

/** Notifications on a socket: acknowledged live and as an open one, falling back, stopped. */
async function inside(world: World): Promise<void> {
  const user = unique(world, "frank");
  const live = () => ({ type: "websocket", content: unique(world, "live"), user_ids: [user] });
  const fallback = { enabled: true, to_email: `${unique(world, "fallback")}@example.com`, after_seconds: 1 };
  await ask(world, { ...live(), user_ids: [unique(world, "grace")], email_fallback: fallback });
  const stopped = await ask(world, { ...live(), user_ids: [unique(world, "heidi"), unique(world, "ivan")] });
  await post(world, `/notifications/${stopped.id}/cancel`, {});
  const open = await ask(world, live());
  await using socket = await connect(world.api.url, await tokenOf(world.api, user));
  const acknowledge = async (id: string) => {
    const frame = await socket.next((one) => one.notification_id === id, NEXT_MS);
    socket.send({ type: "ack", delivery_id: frame.delivery_id, ref: id });
    await socket.next((one) => one.ref === id, NEXT_MS);
  };
  await acknowledge(open.id);
  await acknowledge((await ask(world, live())).id);
}

/** Notifications that nobody sees in time, started again: one by itself, one with all that failed. */
async function tooLate(world: World): Promise<void> {
  const [one] = await Promise.all([unseen(world), unseen(world)]);
  await post(world, `/notifications/${one}/retry`, {});
  await post(world, "/deliveries/redrive", { status: "expired", channel: "websocket", limit: 10 });
}

/** The id of a notification that nobody saw in time. */
async function unseen(world: World): Promise<string> {
  const late = { type: "websocket", content: unique(world, "late"), user_ids: [unique(world, "judy")] };
  const { id } = await ask(world, { ...late, expires_at: soon(600) });
  const { body } = await until(
    () => world.api.get(`/notifications/${id}`),
    (answer) => answer.body.status === "expired",
    60_000,
  );
  if (body.status !== "expired") throw new Error(`${id} did not expire: ${JSON.stringify(body)}`);
  return id;
}

/** More slow webhooks than are attempted at once. */
export async function backlog(world: World): Promise<void> {
  const hook = () => ({ type: "webhook", url: world.receivers.hook("/slow"), content: unique(world, "slow") });
  await Promise.all(Array.from({ length: 60 }, () => ask(world, hook())));
}

/** A room that becomes so long that its state is kept. */
export async function longRoom(world: World): Promise<void> {
  const alice = unique(world, "alice");
  const room = await post(world, "/rooms", { name: "Long", members: [{ user_id: alice, role: "owner" }] });
  while (!world.over.aborted) {
    const say = () => post(world, `/rooms/${room.id}/messages`, { sender_id: alice, content: "again" });
    await Promise.all(Array.from({ length: 50 }, say));
  }
}

const ALL = [talk, pair, outside, inside, tooLate];

/** All of it again and again, until the node has died or the time is up. Gives what went wrong while it lived. */
export async function live(world: World, timeoutMs: number, acts = ALL): Promise<readonly string[]> {
  const faults: string[] = [];
  const deadline = AbortSignal.any([world.over, AbortSignal.timeout(timeoutMs)]);
  const ended = new Promise<void>((resolve) => deadline.addEventListener("abort", () => resolve(), { once: true }));
  const carryOn = async (act: (world: World) => Promise<void>) => {
    while (!deadline.aborted) {
      await act(world).catch(async (error: unknown) => {
        // Whatever a request or a socket says while the node dies is no fault.
        await Promise.race([ended, sleep(DYING_MS)]);
        const isFault = !(error instanceof Unknown || error instanceof TooLate);
        if (!deadline.aborted && isFault) faults.push(`${act.name}: ${String(error)}`);
      });
    }
  };
  await Promise.race([ended, Promise.all(acts.map(carryOn))]);
  return faults;
}
