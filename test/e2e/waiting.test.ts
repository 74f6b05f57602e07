// A node that waits for another part of the system: it lives, says so, and is not available yet.
import { expect, test } from "vitest";
import { closedPort } from "../channels/servers.ts";
import { testDatabase } from "../support/postgres.ts";
import { raw } from "../support/raw.ts";
import { ADMIN_KEY, encryptionKey } from "../support/server.ts";
import { upgrade } from "../support/upgrade.ts";
import { dataFolder, spawnServer } from "./support/server.ts";

test("a node that waits for a projector answers /livez, and 503 with Retry-After to all else", async () => {
  await using database = await testDatabase();
  await using folder = await dataFolder();
  const port = await closedPort();
  const env = { DATABASE_URL: database.url, ADMIN_KEY, ENCRYPTION_KEYS: encryptionKey(), ROLES: "api" };
  const { child, exited, output } = spawnServer({ dataDir: folder.path, env, port });
  const url = `http://127.0.0.1:${port}`;
  const livez = () => raw(url, "/livez").then((answer) => answer.status, String);
  try {
    await expect.poll(livez, { timeout: 60_000 }).toBe(200);
    for (const path of ["/readyz", "/api/v1/rooms", "/openapi.json", "/ws"]) {
      const answer = await raw(url, path);
      expect([path, answer.status, answer.headers["retry-after"]]).toEqual([path, 503, "1"]);
    }
    expect((await raw(url, "/readyz")).body).toEqual({ status: "not_ready" });
    expect((await raw(url, "/api/v1/rooms")).body).toMatchObject({ code: "unavailable", status: 503 });
    expect((await upgrade(port)).status).toBe(503);
    child.kill("SIGTERM");
    expect(await exited, output()).toBe(0);
  } finally {
    child.kill("SIGKILL");
  }
}, 180_000);
