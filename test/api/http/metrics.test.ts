// Metrics: every family is explained, and promtool finds nothing wrong with them.
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { raw } from "../../support/raw.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let metrics: string;
beforeAll(async () => {
  server = await startTestServer();
  await raw(server.url, "/livez");
  metrics = (await raw(server.url, "/metrics")).text;
});
afterAll(() => server[Symbol.asyncDispose]());

test("each family of ours is explained in docs/metrics.md, and has a value", async () => {
  const page = await readFile(new URL("../../../docs/metrics.md", import.meta.url), "utf8");
  const families = [...metrics.matchAll(/^# TYPE (chatapi_\w+) /gm)].map(([, name]) => String(name));
  expect(families.length).toBeGreaterThan(5);
  for (const name of families) {
    expect(page, name).toContain(`\`${name}\``);
    expect(metrics, name).toMatch(new RegExp(`^${name}\\S* [0-9]`, "m"));
  }
  const explained = [...page.matchAll(/\| `(chatapi_\w+)`/g)].map(([, name]) => String(name));
  expect(explained.toSorted()).toEqual(families.toSorted());
});

const hasPromtool = spawnSync("promtool", ["--version"]).status === 0;
if (!hasPromtool) console.log("promtool is not installed: its check of the metrics is skipped");

test.skipIf(!hasPromtool)("promtool finds nothing wrong", () => {
  const ours = metrics.split(/^(?=# HELP )/m).filter((family) => family.startsWith("# HELP chatapi_"));
  const { status, stdout, stderr } = spawnSync("promtool", ["check", "metrics"], { input: ours.join("") });
  expect([status, String(stdout), String(stderr)]).toEqual([0, "", ""]);
});
