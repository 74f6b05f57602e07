// Which secrets sign a webhook: the newest, and the one before it while its grace lasts.
import { expect, test } from "vitest";
import { clientDecider, clientStream } from "../../src/domain/client.ts";
import { httpServer } from "../channels/servers.ts";
import { until } from "../e2e/support/api.ts";
import { openWorld } from "./world.ts";

test("the secret before signs only while its grace lasts", async () => {
  await using world = await openWorld();
  const client = await world.client();
  const signatures: number[] = [];
  await using server = await httpServer((request, response) => {
    signatures.push(String(request.headers["webhook-signature"]).split(" ").length);
    response.end();
  });
  const rotate = async (graceMs: number) => {
    const secret = `whsec_${Buffer.alloc(32, signatures.length + 1).toString("base64")}`;
    const command = { type: "RotateWebhookSecret", at: Date.now(), secret, graceMs } as const;
    await world.commands.execute(clientDecider, clientStream(client), command, world.context(client));
  };
  const signed = async () => {
    const before = signatures.length;
    await world.notify(client, "webhook", [`http://127.0.0.1:${server.port}/`]);
    await until(
      async () => signatures.length,
      (count) => count > before,
    );
    return signatures.slice(before);
  };
  expect(await signed()).toEqual([1]);
  await rotate(60_000);
  expect(await signed()).toEqual([2]);
  await rotate(0);
  expect(await signed()).toEqual([1]);
});
