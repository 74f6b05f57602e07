// Events as rooms have them, in size and shape, without the cost of making them.
import { randomBytes, randomUUID } from "node:crypto";
import type { NewEvent } from "../../src/event-store/event-store.ts";

// A posted message with a sealed text of some 100 characters, and what surrounds it: 0.3 KB and 0.4 KB.
const data = Buffer.from(
  JSON.stringify({
    id: "msg_01HZXW6T3Q9V5N4M8K7J2R1S0A",
    sender: "sub_9f8e7d6c5b4a39281706f5e4d3c2b1a0",
    messageType: "text",
    $sealed: [{ key: "0190a0b1", iv: randomBytes(12).toString("base64"), ct: randomBytes(120).toString("base64") }],
  }),
);
const metadata = Buffer.from(
  JSON.stringify({
    ...{ v: 1, at: 1_790_000_000_000, client: "cli_01HZXW6T3Q9V5N4M8K7J2R1S0A" },
    actor: { type: "key", id: "key_01HZXW6T3Q9V5N4M8K7J2R1S0A" },
    ...{ command: randomUUID(), correlation: randomUUID(), causation: randomUUID() },
    subjects: ["sub_9f8e7d6c5b4a39281706f5e4d3c2b1a0"],
  }),
);

/** An event of the size of a posted message, with an id of its own. */
export const someEvent = (): NewEvent => ({ id: randomUUID(), type: "MessagePosted", data, metadata });
