// Who may come in, folded from the log: keys found, rotated, unknown; tokens revoked; and what is known when it lags.

import { expect, test } from "vitest";
import { ClientDirectory } from "../../src/app/client-directory.ts";
import { ALL_SCOPES } from "../../src/contract/fields.ts";
import { clientDecider, clientStream } from "../../src/domain/client.ts";
import { userDecider, userStream } from "../../src/domain/user.ts";
import { LiveFeed } from "../../src/projections/feed.ts";
import { contextOf, liveParts, quietLogger, registerClient } from "../support/live.ts";

test("a key is found as soon as its registration answered", async () => {
  await using parts = await liveParts();
  for (let n = 0; n < 20; n += 1) {
    const key = await registerClient(parts, `cli_${n}`, `hash${n}`);
    const found = await parts.directory.keyByHash(`hash${n}`);
    expect(found).toMatchObject({ client: `cli_${n}`, keyId: key.id, expiresAt: null });
  }
  expect(await parts.directory.keyByHash("unknown")).toBeUndefined();
});

test("after a rotation both keys are known, the old one with its end, and listeners are told", async () => {
  await using parts = await liveParts();
  const key = await registerClient(parts, "cli_a", "old");
  await parts.directory.keyByHash("old");
  const told: unknown[] = [];
  parts.directory.onChange((change) => told.push(change));
  const at = Date.now();
  const rotate = {
    type: "RotateKey",
    at,
    old: key.id,
    key: { id: "key_b", hash: "new", last4: "5678" },
    granter: ALL_SCOPES,
  } as const;
  await parts.commands.execute(
    clientDecider,
    clientStream("cli_a"),
    { ...rotate, graceMs: 60_000 },
    contextOf("cli_a"),
  );
  expect(await parts.directory.keyByHash("new")).toMatchObject({ client: "cli_a", keyId: "key_b", expiresAt: null });
  const old = await parts.directory.keyByHash("old");
  expect(old?.expiresAt).toBeGreaterThanOrEqual(at + 60_000);
  expect(told).toEqual([{ kind: "keys", client: "cli_a" }]);
});

test("tokens of a generation hold until a newer one begins", async () => {
  await using parts = await liveParts();
  const subject = await parts.keyring.subjectOfUser("cli_a", "ann");
  const user = { subject, user: "ann", at: Date.now() };
  const issue = { ...user, type: "IssueToken", jti: "1", expiresAt: 0, revokePrevious: false } as const;
  const run = (command: typeof issue | (typeof user & { type: "RevokeTokens" })) =>
    parts.commands.execute(userDecider, userStream(subject), command, contextOf("cli_a"));
  await run(issue);
  expect(parts.directory.tokenHolds(subject, 0)).toBe(true);
  await run({ ...user, type: "RevokeTokens" });
  await parts.feed.caughtUp(5_000);
  expect(parts.directory.tokenHolds(subject, 0)).toBe(false);
  expect(parts.directory.tokenHolds(subject, 1)).toBe(true);
});

test("facts of the read model and the same events told again give one truth", async () => {
  await using parts = await liveParts();
  const key = await registerClient(parts, "cli_a", "old");
  const rotate = {
    type: "RotateKey",
    at: 1,
    old: key.id,
    key: { id: "key_b", hash: "new", last4: "5678" },
    granter: ALL_SCOPES,
  } as const;
  await parts.commands.execute(clientDecider, clientStream("cli_a"), { ...rotate, graceMs: 0 }, contextOf("cli_a"));
  await parts.feed.caughtUp(5_000);
  const expected = [await parts.directory.keyByHash("old"), await parts.directory.keyByHash("new")];
  const rows = expected.flatMap((one, index) =>
    one === undefined ? [] : { ...one, hash: ["old", "new"][index] ?? "" },
  );
  await using feed = new LiveFeed({
    clock: () => performance.now(),
    store: parts.store,
    logger: quietLogger,
    after: "start",
  });
  using again = new ClientDirectory({
    feed,
    keyring: parts.keyring,
    seed: { keys: rows, revoked: [], at: 0 },
  });
  expect(again.ready()).toBe(false);
  feed.start();
  await feed.caughtUp(5_000);
  expect([await again.keyByHash("old"), await again.keyByHash("new")]).toEqual(expected);
});
