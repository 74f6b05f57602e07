// Appends to EventStoreDB in groups: what waits goes together, and no answer that is missing holds the others for long.
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { AppendGroups } from "../../src/event-store/eventstoredb/append-gate.ts";
import { batchPerTick } from "../../src/platform/bounded.ts";

const NEVER_MS = 60_000;

/** Something to send whose answers the test gives, and what has become of it. */
function sendings(groups: AppendGroups) {
  const sent: string[] = [];
  const settled: string[] = [];
  const answers = new Map<string, PromiseWithResolvers<string>>();
  return {
    sent,
    settled,
    answer: (name: string) => answers.get(name)?.resolve(name),
    fail: (name: string) => answers.get(name)?.reject(new Error(name)),
    send: (...names: string[]) => {
      for (const name of names) {
        const answer = Promise.withResolvers<string>();
        answers.set(name, answer);
        const sending = groups.send(() => {
          sent.push(name);
          return answer.promise;
        });
        sending.then(
          (value) => settled.push(value),
          (error: Error) => settled.push(`not ${error.message}`),
        );
      }
    },
  };
}

test("two groups are on their way at once, and what comes meanwhile waits and goes together, in order", async () => {
  const { sent, send, answer } = sendings(new AppendGroups(NEVER_MS));
  send("a", "b");
  await expect.poll(() => sent).toEqual(["a", "b"]);
  send("c");
  await expect.poll(() => sent).toEqual(["a", "b", "c"]);
  send("d", "e");
  send("f");
  for (let turn = 0; turn < 5; turn += 1) await batchPerTick();
  expect(sent).toEqual(["a", "b", "c"]);
  answer("c");
  await expect.poll(() => sent).toEqual(["a", "b", "c", "d", "e", "f"]);
});

test("those of a group are answered together, each with its own answer or error", async () => {
  const { sent, settled, send, answer, fail } = sendings(new AppendGroups(NEVER_MS));
  send("a", "b", "c");
  await expect.poll(() => sent).toHaveLength(3);
  answer("c");
  fail("b");
  for (let turn = 0; turn < 5; turn += 1) await batchPerTick();
  expect(settled).toEqual([]);
  answer("a");
  await expect.poll(() => settled).toEqual(["a", "not b", "c"]);
});

test("an answer that is missing holds neither the others nor the next group for longer than its time", async () => {
  const { sent, settled, send, answer } = sendings(new AppendGroups(20));
  send("a", "b");
  await expect.poll(() => sent).toHaveLength(2);
  send("c");
  await expect.poll(() => sent).toHaveLength(3);
  answer("b");
  await expect.poll(() => settled).toEqual(["b"]);
  send("d");
  await expect.poll(() => sent).toEqual(["a", "b", "c", "d"]);
  await sleep(40);
  answer("a");
  await expect.poll(() => settled).toEqual(["b", "a"]);
});

test("what throws at once is an error of its own, and others go on", async () => {
  const groups = new AppendGroups(NEVER_MS);
  const thrown = groups.send(() => {
    throw new Error("not sent");
  });
  const sent = groups.send(() => Promise.resolve("sent"));
  await expect(thrown).rejects.toThrow("not sent");
  expect(await sent).toBe("sent");
  expect(await groups.send(() => Promise.resolve("later"))).toBe("later");
});
