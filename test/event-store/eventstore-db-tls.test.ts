// The log on an EventStoreDB with TLS and users: what the connection string says reaches the client.

import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { NO_STREAM, StoreUnavailable } from "../../src/event-store/event-store.ts";
import { openEventStoreDb } from "../../src/event-store/eventstoredb/log.ts";
import { collect, eventually, ids, newEvents, newStream } from "../contracts/subject.ts";
import { missingOwnEventStore, type OwnEventStore, ownEventStore } from "../support/eventstored.ts";

const missing =
  missingOwnEventStore ??
  (spawnSync("openssl", ["version"]).status === 0 ? undefined : "skipped: no openssl to make certificates with");
if (missing !== undefined) console.info(missing);

const EXTENSIONS = "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n";

/** A certificate authority and a server's certificate, as the server's flags. */
async function certificates(folder: string): Promise<{ readonly ca: string; readonly flags: readonly string[] }> {
  const at = (name: string) => join(folder, name);
  const openssl = (...args: string[]) => {
    const { status, stderr } = spawnSync("openssl", args);
    if (status !== 0) throw new Error(`openssl: ${stderr}`);
  };
  const key = (name: string) => ["-newkey", "rsa:2048", "-nodes", "-keyout", at(name)];
  await mkdir(at("trusted"));
  const ca = at("trusted/ca.crt");
  openssl("req", "-x509", ...key("ca.key"), "-out", ca, "-days", "2", "-subj", "/CN=a test");
  openssl("req", ...key("node.key"), "-out", at("node.csr"), "-subj", "/CN=eventstoredb-node");
  await writeFile(at("extensions"), EXTENSIONS);
  const signing = ["-CA", ca, "-CAkey", at("ca.key"), "-CAcreateserial", "-extfile", at("extensions"), "-days", "2"];
  openssl("x509", "-req", "-in", at("node.csr"), "-out", at("node.crt"), ...signing);
  const own = ["--certificate-file", at("node.crt"), "--certificate-private-key-file", at("node.key")];
  return { ca, flags: [...own, "--trusted-root-certificates-path", at("trusted")] };
}

describe.skipIf(missing !== undefined)("the log on an EventStoreDB with TLS", () => {
  let folder: string;
  let server: OwnEventStore;
  let ca: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "esdb-tls-"));
    const made = await certificates(folder);
    ca = made.ca;
    server = await ownEventStore(made.flags);
  }, 180_000);
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });
  const open = (url: string) => openEventStoreDb({ url, prefix: `${randomUUID()}-` });

  test.each([
    ["a single node", (port: number) => `esdb://admin:changeit@127.0.0.1:${port}?tlsCAFile=${ca}`],
    ["a cluster by name", (port: number) => `esdb+discover://admin:changeit@127.0.0.1:${port}?tlsCAFile=${ca}`],
    [
      "a cluster by its nodes",
      (port: number) => `esdb://admin:changeit@127.0.0.1:${port},127.0.0.1:${port}?tlsCAFile=${ca}`,
    ],
  ])("writes, reads and subscribes: %s", async (_, url) => {
    // The server makes its first user a moment after it is live.
    await using log = await vi.waitFor(() => open(url(server.port)), { timeout: 20_000 });
    const [stream, events] = [newStream(), newEvents(3)];
    await using seen = collect(log, await log.tail());
    const { position } = await log.append(stream, NO_STREAM, events);
    expect(ids(await log.readStream(stream, { limit: 10 }))).toEqual(ids(events));
    expect(await log.tail()).toBe(position);
    await eventually(() => expect(ids(seen.events)).toEqual(ids(events)));
  });

  test("says so when the server is not trusted, or does not know us", async () => {
    const refused = async (url: string, why: RegExp) => {
      const error: unknown = await open(url).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(StoreUnavailable);
      expect(String(error)).toMatch(why);
    };
    await refused(`esdb://admin:changeit@127.0.0.1:${server.port}`, /certificate/);
    await refused(`esdb://admin:wrong@127.0.0.1:${server.port}?tlsCAFile=${ca}`, /unauthenticated/i);
    await refused(`esdb://127.0.0.1:${server.port}?tlsCAFile=${ca}`, /denied/i);
    await expect(open("http://127.0.0.1")).rejects.toThrow("esdb://");
  });
});
