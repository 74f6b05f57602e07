// Notifications over real sockets: open ones on connect, live ones as they come, none twice; and who acknowledged.
import { afterAll, beforeAll, expect, test } from "vitest";
import type { DeliveryId } from "../../../src/contract/ids.ts";
import { deliveryDecider } from "../../../src/domain/delivery.ts";
import { deliveryStream } from "../../../src/domain/delivery-state.ts";
import { LiveFeed } from "../../../src/projections/feed.ts";
import { quietLogger } from "../../support/live.ts";
import {
  issueToken,
  type LiveServer,
  newClient,
  serve,
  startLiveServer,
  type TestClient,
} from "../../support/live-server.ts";
import { moveDelivery, type NotifyOptions, notify } from "../../support/notify.ts";
import { SocketClient } from "../../support/socket-client.ts";

let server: LiveServer;
let client: TestClient;
beforeAll(async () => {
  server = await startLiveServer();
  client = await newClient(server);
});
afterAll(() => server[Symbol.asyncDispose]());

const connect = async (user: string) =>
  SocketClient.connect(server.url, (await issueToken(server, client.id, user)).token);
const send = (user: string, options: NotifyOptions = {}) => notify(server.services, client.id, user, options);
const move = (id: DeliveryId, command: Parameters<typeof moveDelivery>[3]) =>
  moveDelivery(server.services, client.id, id, command);
const offered = (socket: SocketClient) => socket.of("notification").map((frame) => frame.delivery_id);
const stateOf = async (id: DeliveryId) =>
  (await server.services.commands.load(deliveryDecider, deliveryStream(id))).state;
/** Sent last: whoever has it has got all that was to come before. */
const last = async (socket: SocketClient, user: string) => {
  const { delivery } = await send(user, { content: "last" });
  await socket.next("notification", { delivery_id: delivery });
  return delivery;
};

test("one who is connected gets it at once, acknowledges, and the other connections are told", async () => {
  using first = await connect("ann");
  using second = await connect("ann");
  using other = await connect("bob");
  const { delivery, notification } = await send("ann", { content: "At noon" });
  for (const socket of [first, second]) {
    expect(await socket.next("notification")).toEqual({
      ...{ type: "notification", delivery_id: delivery, notification_id: notification, room_id: null },
      ...{
        category: null,
        fell_back: false,
        subject: "Subject",
        content: "At noon",
        meta: { made: expect.any(Number) },
        priority: "high",
      },
      at: expect.stringMatching(/^\d{4}-.*Z$/),
    });
  }
  expect(await other.ask({ type: "ack", delivery_id: delivery })).toMatchObject({ type: "error", code: "not_found" });
  expect(await first.ask({ type: "ack", delivery_id: delivery })).toEqual({ type: "ok" });
  expect(await second.next("acked")).toEqual({ type: "acked", delivery_id: delivery });
  expect(await first.ask({ type: "ack", delivery_id: delivery })).toEqual({ type: "ok" });
  expect(await stateOf(delivery)).toMatchObject({ status: "delivered", acknowledged: true });
  await last(first, "ann");
  expect(first.of("acked")).toEqual([]);
  expect(other.of("notification")).toEqual([]);
  using late = await connect("ann");
  await last(late, "ann");
  expect(offered(late)).not.toContain(delivery);
});

test("the same user id of another client is another user", async () => {
  const other = await newClient(server);
  using stranger = await SocketClient.connect(server.url, other.key, "/ws?user_id=cat");
  const { delivery } = await send("cat");
  expect(await stranger.ask({ type: "ack", delivery_id: delivery })).toMatchObject({ code: "not_found" });
  const unknown = await stranger.ask({ type: "ack", delivery_id: `${delivery.slice(0, -1)}0` });
  expect(unknown).toEqual(await stranger.ask({ type: "ack", delivery_id: delivery }));
  expect(stranger.of("notification")).toEqual([]);
});

test("open ones come on connect, oldest first, also those that fell back, and none that has ended", async () => {
  const user = "dan";
  const cancelled = await send(user);
  const expired = await send(user, { expiresInMs: 1 });
  const fellBack = await send(user, { fallbackInMs: 0 });
  const open = await send(user);
  const at = Date.now() + 10;
  await move(cancelled.delivery, { type: "Cancel", at });
  const subject = await server.services.keyring.subjectOfUser(client.id, user);
  const mail = { id: "dlv_mail", recipient: subject, address: null, name: null } as const;
  await move(fellBack.delivery, { type: "FallbackDue", at, mail });
  using socket = await connect(user);
  await socket.until(() => offered(socket).length >= 2);
  const end = await last(socket, user);
  expect(offered(socket)).toEqual([fellBack.delivery, open.delivery, end]);
  // Late, but it counts as read; and what has ended is acknowledged without effect.
  for (const id of [fellBack.delivery, cancelled.delivery, expired.delivery]) {
    expect(await socket.ask({ type: "ack", delivery_id: id })).toEqual({ type: "ok" });
  }
  expect(await stateOf(fellBack.delivery)).toMatchObject({ status: "fell_back", acknowledged: true });
  expect(await stateOf(cancelled.delivery)).toMatchObject({ status: "cancelled", acknowledged: false });
  using again = await connect(user);
  await again.until(() => offered(again).length >= 2);
  expect(offered(again)).toEqual([open.delivery, end]);
});

test("several pages of them while more come: each once, in order", async () => {
  const user = "eve";
  const sent: DeliveryId[] = [];
  for (let n = 0; n < 230; n += 1) sent.push((await send(user)).delivery);
  const sockets = await Promise.all([connect(user), connect(user), connect(user)]);
  using stack = new DisposableStack();
  for (const socket of sockets) stack.use(socket);
  for (let n = 0; n < 60; n += 1) sent.push((await send(user)).delivery);
  for (const socket of sockets) {
    await socket.until(() => offered(socket).includes(sent.at(-1)));
    expect(offered(socket)).toEqual(sent);
  }
}, 60_000);

test("connecting at any moment while they come: none is missed, none comes twice", async () => {
  const user = "fay";
  const sent: DeliveryId[] = [];
  const sending = (async () => {
    for (let n = 0; n < 150; n += 1) sent.push((await send(user)).delivery);
  })();
  const sockets: SocketClient[] = [];
  using stack = new DisposableStack();
  for (let n = 0; n < 12; n += 1) sockets.push(stack.use(await connect(user)));
  await sending;
  for (const socket of sockets) {
    await socket.until(() => offered(socket).includes(sent.at(-1)));
    expect(offered(socket)).toEqual(sent);
  }
}, 60_000);

test("what the read model shows before the feed tells of it comes once", async () => {
  const { services } = server;
  await using feed = new LiveFeed({
    clock: () => performance.now(),
    store: services.store,
    logger: quietLogger,
    after: await services.store.tail(),
  });
  await using slow = await serve({ services, feed });
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  const { promise: stuck, resolve: nowStuck } = Promise.withResolvers<void>();
  feed.on(() => {
    nowStuck();
    return held;
  });
  using ending = new DisposableStack();
  ending.defer(release);
  feed.start();
  const { token } = await issueToken(server, client.id, "hal");
  await stuck;
  const { delivery } = await send("hal"); // this feed cannot hand it over yet
  await services.readSide.caughtUp();
  using socket = await SocketClient.connect(`ws://127.0.0.1:${slow.port}`, token);
  await socket.next("notification", { delivery_id: delivery });
  release();
  const end = await last(socket, "hal");
  expect(offered(socket)).toEqual([delivery, end]);
});

test("one that expired and is started again is offered again", async () => {
  const user = "gus";
  using socket = await connect(user);
  const { delivery } = await send(user, { expiresInMs: 500 });
  await socket.next("notification", { delivery_id: delivery });
  await move(delivery, { type: "Expire", at: Date.now() + 500, reason: "expired" });
  await move(delivery, { type: "Redrive", at: Date.now() + 500 });
  await socket.until(() => offered(socket).length === 2);
  expect(offered(socket)).toEqual([delivery, delivery]);
});
