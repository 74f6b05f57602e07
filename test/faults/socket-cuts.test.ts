// Sockets that break at random moments while others post: who comes back has every event once, and every notification.
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { type Api, newClient, tokenOf } from "../e2e/support/api.ts";
import { timeUntil } from "../e2e/support/cluster.ts";
import { seed } from "../support/seed.ts";
import { startTestServer } from "../support/server.ts";
import { sized, sizedTimeout } from "../support/size.ts";
import { Follower } from "./support/follower.ts";
import { ClientHistory } from "./support/history.ts";
import { SILENT } from "./support/listener.ts";
import { proxyTo, type TcpProxy } from "./support/proxy.ts";
import { type Random, seeded } from "./support/random.ts";

const CUTS = Number(process.env.FAULTS_CUTS ?? sized(48, 1_000));
const USERS = ["ann", "bob", "cat", "dan", "eve", "fay"];
const ROOMS = 3;
const POSTERS = 3;
/** The longest that a listener is left alone between two faults, and that one of them lasts. */
const PAUSE_MS = 250;
const FAULT_MS = sized(300, 3_000);
const POST_EVERY_MS = 20;
const NOTIFY_EVERY_MS = 50;
const SETTLE_MS = 30_000;

/** What lasts goes on until it is healed. */
type Fault = { readonly begin: (link: TcpProxy) => void; readonly lasts: boolean };
const once = (begin: Fault["begin"]): Fault => ({ begin, lasts: false });
const lasting = (begin: Fault["begin"]): Fault => ({ begin, lasts: true });
const FAULTS: readonly (readonly [string, Fault])[] = Object.entries({
  cut: once((link) => link.cut()),
  reset: once((link) => link.reset()),
  refuse: lasting((link) => link.refuse()),
  stall: lasting((link) => link.stall()),
  "stall of what comes": lasting((link) => link.stall("down")),
  "stall of what is sent": lasting((link) => link.stall("up")),
  "half open towards the client": lasting((link) => link.halfOpen("client")),
  "half open towards the server": lasting((link) => link.halfOpen("server")),
});

test(
  `${CUTS} broken sockets, seed ${seed}: every seq once and in order, no notification lost or offered in vain`,
  async () => {
    await using open = new AsyncDisposableStack();
    const server = open.use(await startTestServer());
    const api = await newClient(server.url);
    const members = [...USERS, "poster"].map((user_id) => ({ user_id }));
    const rooms: string[] = [];
    for (let n = 0; n < ROOMS; n += 1) rooms.push((await api.post("/rooms", { name: `Room ${n}`, members })).body.id);
    const followers = await Promise.all(
      USERS.map(async (user) => {
        const link = open.use(await proxyTo(server.url));
        return {
          link,
          follower: open.use(new Follower(link.url.replace(/\/$/, ""), user, await tokenOf(api, user), rooms)),
        };
      }),
    );
    const writing = startWriting(api, rooms);
    open.defer(writing.stop);
    const met: Record<string, number> = {};
    await Promise.all(
      followers.map(async ({ link, follower }, index) => {
        const random = seeded(seed + index);
        for (let n = index; n < CUTS; n += USERS.length) {
          const name = await breakOne(link, follower, random);
          met[name] = (met[name] ?? 0) + 1;
        }
      }),
    );
    await writing.stop();
    const { history } = writing;
    for (const { follower } of followers) {
      await timeUntil(async () => follower.hasAll(history), SETTLE_MS, `what is ${follower.user}'s`);
    }
    // What is still open comes again on the next connection, oldest first, and on the one after its acknowledgement no more.
    for (const { link, follower } of followers) {
      const silent = follower.owed(history, true);
      expect(await offeredAgain(api, link, follower, silent.length), `seed ${seed}`).toEqual(silent);
      follower.keepsSilent = false;
      link.cut();
      await timeUntil(async () => silent.every((id) => follower.acknowledged.has(id)), SETTLE_MS, "acknowledgements");
      expect(await offeredAgain(api, link, follower, 0), `seed ${seed}`).toEqual([]);
    }
    const faults = followers.flatMap(({ follower }) => follower.faults(history));
    expect([...faults, ...history.strange].slice(0, 20), `seed ${seed}`).toEqual([]);
    const connections = followers.reduce((sum, { follower }) => sum + follower.connections, 0);
    const notifications = history.writes.filter(({ kind }) => kind === "notify").length;
    const figures = { connections, posts: history.writes.length - notifications, notifications };
    console.log(`seed ${seed}: ${JSON.stringify({ ...met, ...figures })}`);
    expect(connections).toBeGreaterThan(CUTS / 2);
  },
  sizedTimeout(60_000, 3_600_000),
);

/** Breaks a listener's socket in one way or another, when there is one. */
async function breakOne(link: TcpProxy, follower: Follower, random: Random): Promise<string> {
  await sleep(random.below(PAUSE_MS));
  await timeUntil(async () => link.open() > 0, SETTLE_MS, "a connection");
  const [name, { begin, lasts }] = FAULTS[random.below(FAULTS.length)] ?? ["none", once(() => undefined)];
  const before = follower.connections;
  begin(link);
  if (lasts) await sleep(random.below(FAULT_MS));
  link.heal();
  // A stall may be over before it was noticed; what was ended comes back by itself.
  if (!name.startsWith("stall")) await timeUntil(async () => follower.connections > before, SETTLE_MS, "coming back");
  return name;
}

/** What is offered to one who connects anew, but for a last one, behind which nothing is still to come. */
async function offeredAgain(api: Api, link: TcpProxy, follower: Follower, count: number): Promise<readonly string[]> {
  const before = follower.connections;
  link.cut();
  const offers = () => follower.offers.filter(({ connection }) => connection === follower.connections);
  const all = async () => follower.connections > before && offers().length >= count;
  await timeUntil(all, SETTLE_MS, "open notifications");
  const { body } = await api.post("/notifications", { type: "websocket", user_ids: [follower.user], content: "last" });
  const [last] = body.deliveries;
  await timeUntil(async () => follower.acknowledged.has(last.id), SETTLE_MS, "the last one");
  return offers().flatMap(({ id }) => (id === last.id ? [] : [id]));
}

/** Posts and notifies without a pause worth the name. */
function startWriting(api: Api, rooms: readonly string[]) {
  const history = new ClientHistory();
  const random = seeded(seed);
  const over = new AbortController();
  const never = new AbortController().signal;
  const carryOn = async (everyMs: number, act: (key: string) => Promise<unknown>) => {
    for (let n = 0; !over.signal.aborted; n += 1) {
      await act(`${everyMs}-${random.below(1_000_000)}-${n}`);
      await sleep(everyMs);
    }
  };
  const post = (key: string) => {
    const path = `/rooms/${rooms[random.below(rooms.length)]}/messages`;
    const body = { sender_id: "poster", content: key };
    return history.send(api, { kind: "post", method: "POST", path, key, body }, never);
  };
  const notify = (key: string) => {
    const user_ids = USERS.filter(() => random.below(3) === 0);
    const content = random.below(8) === 0 ? `${SILENT}${key}` : key;
    const body = { type: "websocket", user_ids: user_ids.length === 0 ? USERS : user_ids, content };
    return history.send(api, { kind: "notify", method: "POST", path: "/notifications", key, body }, never);
  };
  const posting = Array.from({ length: POSTERS }, () => carryOn(POST_EVERY_MS, post));
  const all = Promise.all([...posting, carryOn(NOTIFY_EVERY_MS, notify)]);
  return {
    history,
    stop: async () => {
      over.abort();
      await all;
    },
  };
}
