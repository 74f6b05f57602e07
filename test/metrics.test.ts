// What a node counts of deliveries: by the type of their provider, never by a client's name for it.
import { expect, test } from "vitest";
import { NodeMetrics } from "../src/metrics.ts";

test("a stage that a request has passed is counted with what it took", async () => {
  const { registry: counted, stagePassed } = new NodeMetrics();
  stagePassed("seal", 0.2);
  stagePassed("seal", 3);
  const text = await counted.metrics();
  const seal = (rest: string) => `chatapi_write_stage_duration_seconds_${rest}`;
  expect(text).toContain(seal('bucket{le="0.0001",stage="seal"} 0'));
  expect(text).toContain(seal('bucket{le="0.00025",stage="seal"} 1'));
  expect(text).toContain(seal('bucket{le="0.005",stage="seal"} 2'));
  expect(text).toContain(seal('count{stage="flush"} 0'));
});

test("a mail is counted by the type of its provider, also where nobody knows it", async () => {
  const metrics = new NodeMetrics();
  const mail = (provider: string) => ({ status: "sent", request: { channel: "email" }, provider });
  const sent = [{ type: "DeliverySucceeded", data: { from: "sending", to: "sent" } }];
  metrics.written(mail("main"), sent, (name) => (name === "main" ? "ses" : "unknown"));
  metrics.written(mail("gone"), sent, () => "unknown");
  const { registry: counted } = metrics;
  const text = await counted.metrics();
  for (const type of ["ses", "unknown"]) {
    expect(text).toContain(
      `chatapi_deliveries_total{channel="email",provider="${type}",source="notification",outcome="sent"} 1`,
    );
  }
});
