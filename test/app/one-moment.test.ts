// What one answer shows of a notification and its deliveries is of one moment, whatever happens while it is read.
import { afterAll, beforeAll, expect, test } from "vitest";
import { getNotification } from "../../src/app/notifications.ts";
import type { Call } from "../../src/app/services.ts";
import { type ClientId, ClientIdSchema, NotificationIdSchema } from "../../src/contract/ids.ts";
import type { ReadAs } from "../../src/projections/read-side.ts";
import { newClient, notificationUntil } from "../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../support/server.ts";

const stack = new AsyncDisposableStack();
let server: TestServer;
let api: Awaited<ReturnType<typeof newClient>>;
let client: ClientId;

beforeAll(async () => {
  server = stack.use(await startTestServer());
  api = await newClient(server.url);
  client = ClientIdSchema.parse(api.id);
});
afterAll(() => stack.disposeAsync());

/** Runs `meanwhile` between the first query of a reading and the next. */
function interrupted(meanwhile: () => Promise<void>): Call {
  const { services } = server;
  const { readSide } = services;
  let reads = 0;
  const wrap = (read: ReadAs): ReadAs => ({
    ...read,
    rows: async (query) => {
      const rows = await read.rows(query);
      reads += 1;
      if (reads === 1) await meanwhile();
      return rows;
    },
  });
  const snapshotAs: typeof readSide.snapshotAs = (of, work) =>
    readSide.snapshotAs(of, (read, upTo) => work(wrap(read), upTo));
  const through = { ...services, readSide: { snapshotAs } };
  // Reading asks nothing else of its caller.
  return { services: through, caller: { client }, read: wrap(readSide.readAs(client)) } as unknown as Call;
}

test("a notification's status is that of the deliveries beside it", async () => {
  const { body } = await api.post("/notifications", { type: "websocket", user_ids: ["ann"], content: "n" });
  const id = NotificationIdSchema.parse(body.id);
  expect((await api.get(`/deliveries/${body.deliveries[0].id}`)).body.status).toBe("pending");
  const call = interrupted(async () => {
    expect((await api.post(`/users/ann/notifications/${id}/read`)).status).toBe(200);
    await notificationUntil(api, id, ({ status }) => status === "delivered");
  });
  const { notification } = await getNotification(call, id);
  expect([notification.status, notification.deliveries.map(({ status }) => status)]).toEqual(["pending", ["pending"]]);
  expect((await api.get(`/notifications/${id}`)).body).toMatchObject({ status: "delivered" });
});
