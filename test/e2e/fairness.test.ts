// One tenant's flood is its own: 5,000 mails wait on a slow server, and another client's mail goes out at once.
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { SMTPServer } from "smtp-server";
import { expect, test } from "vitest";
import { type Body, mails, newClient, until } from "./support/api.ts";
import { folderWithCluster, startServer } from "./support/server.ts";

test("the first mail of another client goes out within the next batch", async () => {
  let taken = 0;
  const slow = new SMTPServer({
    disabledCommands: ["STARTTLS", "AUTH"],
    onData(stream, _session, done) {
      stream.resume();
      stream.on("end", async () => {
        taken += 1;
        await sleep(500);
        done();
      });
    },
  });
  await new Promise<void>((resolve) => slow.listen(0, "127.0.0.1", resolve));
  const { port } = slow.server.address() as AddressInfo;
  await using folder = await folderWithCluster();
  await using server = await startServer({ dataDir: folder.path });
  const flooder = await newClient(server.url, "Flooder");
  const other = await newClient(server.url, "Other");
  const config = { host: "127.0.0.1", port, security: "none" };
  const set = await flooder.put("/email-providers/slow", { type: "smtp", config, from_email: "flood@example.com" });
  expect(set.status).toBe(201);
  for (let n = 0; n < 5; n += 1) {
    const to = Array.from({ length: 1_000 }, (_, k) => `user-${n}-${k}@example.com`);
    const { status } = await flooder.post("/notifications", {
      type: "email",
      to_email: to,
      subject: "Flood",
      content: "Hello",
    });
    expect(status).toBe(202);
  }
  await until(
    async () => taken,
    (count) => count > 10,
    60_000,
  );
  await other.post("/notifications", {
    type: "email",
    to_email: "lucky@example.com",
    subject: "Me too",
    content: "Hello",
  });
  const [mail]: Body[] = await until(
    () => mails(server.url, "lucky@example.com"),
    (all) => all.length > 0,
    60_000,
  );
  expect(mail).toMatchObject({ subject: "Me too" });
  // The flood, at its pace, needs minutes: it is still going on, and nobody waited for it.
  expect(taken).toBeLessThan(5_000);
  const { body } = await flooder.get("/notifications?limit=1");
  expect(["pending", "processing"]).toContain(body.data[0].status);
  await new Promise<void>((resolve) => slow.close(() => resolve()));
}, 240_000);
