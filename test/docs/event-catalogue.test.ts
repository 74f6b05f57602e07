// docs/events.md has every public event, with an example that the contract takes.
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { PUBLIC_EVENT_TYPES, webhookBody } from "../../src/contract/public-events.ts";
import { bodyOf, PAGE, withCatalogue } from "./event-catalogue.ts";

test("the catalogue of public events is as the contract has them", async () => {
  const page = await readFile(PAGE, "utf8");
  expect(withCatalogue(page)).toBe(page);
  // A page that lacks one is found.
  const lacking = page.replace("### `message.posted`", "### `message.said`");
  expect(withCatalogue(lacking)).not.toBe(lacking);
});

test.each(PUBLIC_EVENT_TYPES)("the example of %s is one", (type) => {
  expect(webhookBody(type).safeParse(bodyOf(type)).error?.issues ?? []).toEqual([]);
});
