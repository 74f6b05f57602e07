// Names of members: asked once, dropped when the log tells of a change, and never kept from a read model that lags.
import { expect, test } from "vitest";
import { openMemberNames } from "../../src/app/member-names.ts";
import { userDecider, userStream } from "../../src/domain/user.ts";
import type { Position } from "../../src/event-store/event-store.ts";
import type { ReadAs } from "../../src/projections/read-side.ts";
import { contextOf, liveParts } from "../support/live.ts";

test("a name is asked for once, and again after a change, also when the read model comes late", async () => {
  await using parts = await liveParts();
  const subject = await parts.keyring.subjectOfUser("cli_a", "ann");
  let asked = 0;
  let name = "Ann";
  let reached: Position | "start" = "start";
  using names = openMemberNames({
    feed: parts.feed,
    readSide: { waitFor: async (position) => reached >= position },
    lookUp: async () => {
      asked += 1;
      return name;
    },
  });
  // The read model stands in as a value: what it answers is this test's subject, not how it is queried.
  const read = { client: "cli_a" } as unknown as ReadAs;
  const nameOf = () => names.nameOf(read, "room_1", subject);
  expect([await nameOf(), await nameOf(), asked]).toEqual(["Ann", "Ann", 1]);

  const profile = { name: "Anna", email: null, timezone: null, meta: {} };
  const put = { type: "Put", at: Date.now(), subject, user: "ann", profile } as const;
  const { position } = await parts.commands.execute(userDecider, userStream(subject), put, contextOf("cli_a"));
  await parts.feed.caughtUp(5_000);
  reached = position.replace(/.$/, "") as Position; // before it: the read model lags
  expect([await nameOf(), asked]).toEqual(["Ann", 2]);
  name = "Anna";
  reached = position;
  expect([await nameOf(), await nameOf(), asked]).toEqual(["Anna", "Anna", 3]);
});
