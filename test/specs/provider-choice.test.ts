// Through which provider a mail goes.
import { describe, expect, test } from "vitest";
import type { Provider } from "../../src/domain/client.ts";
import { healthySince } from "../../src/domain/provider.ts";
import { chooseProviders, encodedMailBytes, type MailDemand } from "../../src/domain/provider-choice.ts";
import { NOW } from "../support/given.ts";

type Given = Partial<Omit<Provider, "options" | "type">> & {
  readonly type?: string;
  readonly fromDomains?: readonly string[];
  readonly weight?: number;
  readonly open?: Partial<NonNullable<Provider["health"]["circuit"]>>;
};

function provider(name: string, { weight, open, ...given }: Given = {}): Provider {
  const circuit = open === undefined ? null : { fault: "account" as const, until: NOW + 1, openings: 1, ...open };
  return {
    ...{
      client: "cli_a",
      name,
      type: "smtp",
      fromEmail: "shop@example.com",
      fromName: null,
      replyTo: null,
      order: 0,
      fromDomains: [],
    },
    ...{ useFor: ["single", "bulk"], config: { erased: true }, changedSeq: 1 },
    ...{ options: { ratePerSecond: null, timeoutSeconds: null, weight } },
    health: { ...healthySince(NOW), circuit },
    ...given,
    // Of kinds and settings that the type may not know.
  } as unknown as Provider;
}

const MAIL: MailDemand = { bulk: false, from: null, provider: null, bytes: 1_000 };
const choose = (providers: readonly Provider[], demand: Partial<MailDemand> = {}, random = () => 0) => {
  const choice = chooseProviders(providers, { ...MAIL, ...demand }, NOW, random);
  if (choice.none !== undefined) return choice;
  return choice.candidates.map(({ provider: { name }, probe }) => (probe ? `${name} (probe)` : name));
};

describe("the providers of a mail", () => {
  test("are those for its kind, by order", () => {
    const all = [
      provider("both", { order: 2 }),
      provider("bulk", { order: 1, useFor: ["bulk"] }),
      provider("single", { order: 3, useFor: ["single"] }),
    ];
    expect(choose(all)).toEqual(["both", "single"]);
    expect(choose(all, { bulk: true })).toEqual(["bulk", "both"]);
    expect(choose([provider("bulk", { useFor: ["bulk"] })])).toEqual({ none: "not_configured" });
    expect(choose([])).toEqual({ none: "not_configured" });
  });

  test("share their order by weight", () => {
    const all = [provider("light", { weight: 1 }), provider("heavy", { weight: 3 }), provider("last", { order: 1 })];
    expect(choose(all, {}, () => 0.24)).toEqual(["light", "heavy", "last"]);
    expect(choose(all, {}, () => 0.26)).toEqual(["heavy", "light", "last"]);
    expect(choose(all, {}, () => 0.999)).toEqual(["heavy", "light", "last"]);
  });

  test("cover the sender that the request names", () => {
    const all = [
      provider("own"),
      provider("more", { fromEmail: "a@other.org", fromDomains: ["Example.com", "bücher.example"] }),
    ];
    expect(choose(all, { from: "news@EXAMPLE.com" })).toEqual(["own", "more"]);
    expect(choose(all, { from: "news@xn--bcher-kva.example" })).toEqual(["more"]);
    expect(choose(all, { from: "news@sub.example.com" })).toEqual({ none: "no_provider" });
    expect(choose(all, { from: "news@example.com.evil.org" })).toEqual({ none: "no_provider" });
  });

  test("take a mail of its size: Postmark counts it as it is encoded", () => {
    const all = [provider("postmark", { type: "postmark" }), provider("smtp")];
    const bytes = encodedMailBytes(1_000, [8 * 1_048_576]);
    expect(bytes).toBeGreaterThan(11_000_000);
    expect(choose(all, { bytes })).toEqual(["smtp"]);
    expect(choose(all, { bytes: encodedMailBytes(1_000, [7_000_000]) })).toEqual(["postmark", "smtp"]);
    expect(choose(all.slice(0, 1), { bytes })).toEqual({ none: "no_provider" });
  });

  test("are the named one alone, whatever it is for", () => {
    const all = [provider("one"), provider("two", { useFor: ["bulk"] })];
    expect(choose(all, { provider: "two" })).toEqual(["two"]);
    expect(choose(all, { provider: "three" })).toEqual({ none: "no_provider" });
    expect(choose(all, { provider: "two", from: "a@elsewhere.org" })).toEqual({ none: "no_provider" });
  });
});

describe("a provider whose circuit is open", () => {
  test("is passed over, until its time is up: then one attempt probes it", () => {
    const one = (until: number) => [provider("one", { open: { until } }), provider("two", { order: 1 })];
    expect(choose(one(NOW + 1))).toEqual(["two"]);
    expect(choose(one(NOW))).toEqual(["one (probe)", "two"]);
  });

  test("that refused the account gets nothing, even where there is no other", () => {
    expect(
      choose([provider("one", { open: { until: NOW + 5 } }), provider("two", { open: { until: NOW + 3 } })]),
    ).toEqual({ none: "down", until: NOW + 3 });
  });

  test("that could not be reached is probed by what is due, where there is no other", () => {
    const open = { fault: "transport" as const, until: NOW + 5 };
    expect(choose([provider("one", { open }), provider("two", { open: {} })])).toEqual(["one (probe)"]);
    expect(choose([provider("one", { open }), provider("two")])).toEqual(["two"]);
    expect(choose([provider("one", { open }), provider("two", { open: { until: NOW } })])).toEqual([
      "two (probe)",
      "one (probe)",
    ]);
  });
});
