// One spelling for each mail address; nothing that could mean more than one mailbox.
import { expect, test } from "vitest";
import { partsOf } from "../../../src/channels/email/message.ts";
import { canonicalMailAddress } from "../../../src/contract/fields.ts";
import fc from "../../support/seed.ts";

test.each([
  ["User@Example.COM", "User@example.com"],
  ["a+b@münchen.example", "a+b@xn--mnchen-3ya.example"],
  ["a@XN--MNCHEN-3YA.example", "a@xn--mnchen-3ya.example"],
  ["o'hara_1.2@localhost", "o'hara_1.2@localhost"],
  ["jörg@example.com", "jörg@example.com"],
])("%s", (written, canonical) => {
  expect(canonicalMailAddress(written)).toBe(canonical);
});

test.each([
  "",
  "a",
  "@b.example",
  "a@",
  '"a b"@example.com',
  "a@[127.0.0.1]",
  "a@127.0.0.1",
  "a@0x7f.1",
  "a@example..com",
  "a@example.com.",
  "a@-example.com",
  "a@ex_ample.com",
  "a@%65xample.com",
  "a@b@example.com",
  "a,b@example.com",
  "a@example.com\n",
  "a(b)@example.com",
  "a\u0000@example.com",
  "\ud800@example.com",
  `${"x".repeat(65)}@example.com`,
  `a@${"x".repeat(250)}.example`,
])("%j is none", (written) => {
  expect(canonicalMailAddress(written)).toBeUndefined();
});

test("what is taken can be sent to", async () => {
  const part = fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 });
  const address = fc.oneof(
    fc.tuple(part, part).map(([local, domain]) => `${local}@${domain}`),
    fc.tuple(part, fc.domain()).map(([local, domain]) => `${local}@${domain}`),
    fc.emailAddress(),
  );
  let taken = 0;
  await fc.assert(
    fc.asyncProperty(address, async (email) => {
      const canonical = canonicalMailAddress(email);
      if (canonical === undefined) return;
      taken += 1;
      for (const to of [email, canonical]) {
        const mail = { deliveryId: "dlv_1", to: { email: to }, subject: "s", content: "c", at: 0 };
        expect((await partsOf({ fromEmail: "a@b.example" }, mail)).envelope.to).toEqual([canonical]);
      }
    }),
    { numRuns: 1_000 },
  );
  expect(taken).toBeGreaterThan(50);
});
