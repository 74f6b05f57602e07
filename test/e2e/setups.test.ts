// What whole servers do for whoever uses them, embedded and on several nodes, which are started once for all of it.
import { afterAll, beforeAll, describe } from "vitest";
import { mainJob } from "./main-job.ts";
import { available, type Opened, openSetup, START_TIMEOUT_MS } from "./support/setups.ts";
import { webhooks } from "./webhooks.ts";
import { websocketNotifications } from "./websocket-notifications.ts";

describe.each(available())("%s", (name) => {
  const stack = new AsyncDisposableStack();
  const given = { name } as Opened;

  beforeAll(async () => {
    given.setup = stack.use(await openSetup(name, { RETRY_SCHEDULE: "1s,1s", RETRY_JITTER: "0" }));
    given.api = await given.setup.newClient();
  }, START_TIMEOUT_MS);
  afterAll(() => stack.disposeAsync());

  mainJob(given);
  // Those of both wait most of the time, and run at once.
  webhooks(given);
  websocketNotifications(given);
});
