// An acknowledgement and the deadline racing on one log, from two processes: never both, never neither.
import fc from "fast-check";
import { expect, test } from "vitest";
import { type DeliveryCommand, deliveryDecider } from "../../src/domain/delivery.ts";
import { decode } from "../../src/event-store/envelope.ts";
import { createCommands } from "../../src/event-store/handle-command.ts";
import { openInMemoryLog } from "../../src/event-store/in-memory.ts";
import { localTurns } from "../../src/event-store/stream-turns.ts";
import { NOW } from "../support/given.ts";
import { memoryKeyring } from "../support/memory-keyring.ts";

const DEADLINE = NOW + 30_000;
const request: DeliveryCommand = {
  type: "Request",
  at: NOW,
  request: {
    notification: "ntf_a",
    recipient: "sub_a",
    channel: "websocket",
    address: { open: "ada" },
    name: null,
    fallbackOf: null,
    priority: "normal",
    bulk: false,
    expiresAt: NOW + 3_600_000,
    fallbackAt: DEADLINE,
  },
};
const acknowledge: DeliveryCommand = { type: "Acknowledge", at: DEADLINE, subject: "sub_a" };
const fallbackDue: DeliveryCommand = {
  type: "FallbackDue",
  at: DEADLINE,
  mail: { id: "dlv_mail", recipient: "sub_mail", address: "ada@example.com", name: null },
};

/** A racer: which process it runs in, what it asks, and how many turns of the event loop it comes late. */
const racer = fc.record({ process: fc.nat({ max: 1 }), acknowledges: fc.boolean(), late: fc.nat({ max: 6 }) });

test("the first appended wins, and the log says only that", async () => {
  const seen = new Set<string>();
  const keyring = memoryKeyring();
  const race = async (racers: readonly { process: number; acknowledges: boolean; late: number }[], round: number) => {
    await using store = await openInMemoryLog();
    const stream = `delivery-dlv_${round}`;
    const processes = [0, 1].map(() =>
      createCommands({
        store,
        keyring,
        snapshots: undefined,
        turns: localTurns(),
        olderCommands: undefined,
        warn: () => undefined,
      }),
    );
    let sent = 0;
    const run = async (process: number, command: DeliveryCommand) => {
      sent += 1;
      const context = {
        client: "cli_a",
        actor: { type: "system", id: "test" },
        commandId: `command-${sent}`,
        correlation: "r",
        causation: "r",
      } as const;
      return processes[process]?.execute(deliveryDecider, stream, command, context);
    };
    await run(0, request);
    await run(1, { ...fallbackDue, at: NOW }); // too early, but now both processes hold the state
    await Promise.all(
      racers.map(async ({ process, acknowledges, late }) => {
        for (let turn = 0; turn < late; turn += 1) await new Promise(setImmediate);
        await run(process, acknowledges ? acknowledge : fallbackDue);
      }),
    );
    await run(0, fallbackDue); // the deadline's job runs in the end, whatever happened
    return (await decode(keyring, await store.readStream(stream, { limit: 100 }))).map((event) => event.type);
  };
  let round = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(racer, { minLength: 2, maxLength: 6 }), async (racers) => {
      round += 1;
      const types = await race(racers, round);
      const first = types[1];
      seen.add(String(first));
      if (first === "DeliveryAcknowledged") expect(types).toEqual(["DeliveryRequested", "DeliveryAcknowledged"]);
      else {
        const readLate = racers.some((one) => one.acknowledges) && types.includes("DeliveryAcknowledged");
        expect(types).toEqual([
          "DeliveryRequested",
          "DeliveryFallbackRequested",
          ...(readLate ? ["DeliveryAcknowledged"] : []),
        ]);
      }
    }),
    { numRuns: 100 },
  );
  expect(seen).toEqual(new Set(["DeliveryAcknowledged", "DeliveryFallbackRequested"]));
});
