// Cancelling while the router is at work: what it makes between the look at the read model and the decision is open.
import { afterAll, beforeAll, expect, test } from "vitest";
import { cancelNotification } from "../../src/app/notifications.ts";
import type { Call } from "../../src/app/services.ts";
import { ClientIdSchema, NotificationIdSchema } from "../../src/contract/ids.ts";
import { deliveryDecider } from "../../src/domain/delivery.ts";
import { deliveryStream } from "../../src/domain/delivery-state.ts";
import { notificationDecider, notificationStream } from "../../src/domain/notification.ts";
import { deliveryId } from "../../src/event-store/derived-ids.ts";
import type { Commands } from "../../src/event-store/handle-command.ts";
import { newClient } from "../e2e/support/api.ts";
import { contextOf } from "../support/live.ts";
import { startTestServer, type TestServer } from "../support/server.ts";

const stack = new AsyncDisposableStack();
let server: TestServer;

beforeAll(async () => {
  // Nobody routes but the test.
  server = stack.use(await startTestServer({ config: { roles: new Set(["api", "projector"]) } }));
});
afterAll(() => stack.disposeAsync());

test("a notification whose delivery is requested just before the decision can be cancelled", async () => {
  const { services, url } = server;
  const api = await newClient(url);
  const asked = await api.post("/notifications", { type: "websocket", content: "n", user_ids: ["alice"] });
  const id = NotificationIdSchema.parse(asked.body.id);
  const client = ClientIdSchema.parse(api.id);
  const stream = notificationStream(id);

  async function route(): Promise<void> {
    const recipient = await services.keyring.subjectOfUser(client, "alice");
    const at = Date.now();
    const request = {
      ...{ notification: id, recipient, address: { open: "alice" }, name: null, fallbackOf: null, bulk: false },
      ...{ expiresAt: at + 60_000, fallbackAt: null },
      channel: "websocket",
      priority: "normal",
    } as const;
    const delivery = deliveryStream(deliveryId(id, recipient, "websocket"));
    await services.commands.execute(deliveryDecider, delivery, { type: "Request", at, request }, contextOf(client));
    const routed = { type: "MarkRouted", at, deliveries: 1 } as const;
    await services.commands.execute(notificationDecider, stream, routed, contextOf(client));
  }

  const { commands } = services;
  const execute: Commands["execute"] = commands.execute.bind(commands);
  commands.execute = async (decider, onStream, command, context, options) => {
    if (command.type === "Cancel") await route();
    return execute(decider, onStream, command, context, options);
  };
  const read = services.readSide.readAs(client);
  // Cancelling asks nothing of its caller.
  const call = { services, read, context: contextOf(client), at: Date.now() } as unknown as Call;
  await cancelNotification(call, id, null);
  const { state } = await services.commands.load(notificationDecider, stream);
  expect(state).toMatchObject({ routed: true, stopRequested: true });
});
