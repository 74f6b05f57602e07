// What a worker last knew of a delivery, while other processes wrote about it.
import { describe, expect, test } from "vitest";
import type { DeliveryId } from "../../src/contract/ids.ts";
import { deliveryDecider } from "../../src/domain/delivery.ts";
import { deliveryStream } from "../../src/domain/delivery-state.ts";
import { until } from "../support/until.ts";
import { receiver, statusIs, webhookOf } from "./webhooks.ts";
import { openWorld } from "./world.ts";

describe("known deliveries", () => {
  test("what a worker last knew of a delivery stands only until the log says otherwise", async () => {
    await using world = await openWorld({ scheduleMs: [500] });
    const client = await world.client();
    let answer = 503;
    await using target = await receiver(() => answer);
    const onIt = (id: DeliveryId, type: "Cancel" | "Redrive") =>
      world.elsewhere().execute(deliveryDecider, deliveryStream(id), { type, at: Date.now() }, world.context(client));
    // To this process the one is retried in half a second and the other has ended.
    const cancelled = await webhookOf(world, client, target.url);
    await until(() => world.delivery(cancelled), statusIs("retrying"));
    await onIt(cancelled, "Cancel");
    const redriven = await webhookOf(world, client, `${target.url}/other`);
    await until(() => world.delivery(redriven), statusIs("exhausted"));
    answer = 200;
    await onIt(redriven, "Redrive");
    // Not by asking for its state, which would tell this process.
    await until(
      () => world.types(redriven),
      (types) => types.includes("DeliverySucceeded"),
    );
    expect(await world.types(cancelled)).toEqual([
      "DeliveryRequested",
      "DeliveryAttemptStarted",
      "DeliveryAttemptFailed",
      "DeliveryRetryScheduled",
      "DeliveryCancelled",
    ]);
    expect(target.ids).toEqual([cancelled, redriven, redriven, redriven]);
  });

  test("a delivery that others attempted and started again is not taken for what this process last knew", async () => {
    await using world = await openWorld({ scheduleMs: [300], startWorkers: false });
    const client = await world.client();
    let answer = 503;
    await using target = await receiver(() => answer);
    const others = await world.anotherProcess();
    const id = await webhookOf(world, client, target.url);
    // To this process its second attempt is due in a moment, for good.
    await until(() => world.delivery(id), statusIs("retrying"));
    const typesUntil = (type: string) =>
      until(
        () => world.types(id),
        (types) => types.includes(type),
      );
    await typesUntil("DeliveryExhausted");
    await others[Symbol.asyncDispose]();
    await world.startWorkers();
    answer = 200;
    const redrive = { type: "Redrive", at: Date.now() } as const;
    await world.elsewhere().execute(deliveryDecider, deliveryStream(id), redrive, world.context(client));
    await typesUntil("DeliverySucceeded");
    expect(target.ids).toEqual([id, id, id]);
  });
});
