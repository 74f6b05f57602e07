// Ids that follow from others: what is stored must never change, and is what RFC 9562 says.
import { v5 } from "uuid";
import { expect, test } from "vitest";
import { deriveUuid } from "../../src/event-store/derived-ids.ts";
import fc from "../support/seed.ts";

const NAMESPACE = "8f0c6c3e-7d0b-5a7e-9b39-6a0d5f1c2e4b";

test("derives the UUID v5 that another implementation derives from the same name", () => {
  const part = fc.oneof(fc.string({ unit: "binary" }), fc.integer());
  fc.assert(
    fc.property(fc.array(part), (parts) => {
      expect(deriveUuid(...parts)).toBe(v5(JSON.stringify(parts), NAMESPACE));
    }),
  );
});

test("keeps the derived ids of earlier versions", () => {
  expect(deriveUuid("event", "room-1", "command", 0)).toBe("b7ba4d09-49c0-5f9a-9a1e-708311fe54cd");
});
