// Host names are looked up as the system does, and a name server that does not answer holds up its own names alone.
import { createSocket, type RemoteInfo } from "node:dgram";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { createResolver, onBehalfOf } from "../../src/channels/resolver.ts";

/** The name that a DNS query is about, and its type. */
function questionOf(packet: Buffer): { readonly name: string; readonly type: number; readonly end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = packet[at] ?? 0; length > 0; length = packet[at] ?? 0) {
    labels.push(packet.toString("latin1", at + 1, at + 1 + length));
    at += length + 1;
  }
  return { name: labels.join(".").toLowerCase(), type: packet.readUInt16BE(at + 1), end: at + 5 };
}

/** Answers A queries with one address; unknown names with "no such name"; those under `silent` never, `held` once released. */
async function nameServer(names: Readonly<Record<string, string>>) {
  const socket = createSocket("udp4");
  const asked: string[] = [];
  const held: (() => void)[] = [];
  let holding = true;
  const answer = (packet: Buffer, { port, address }: RemoteInfo) => {
    const { name, type, end } = questionOf(packet);
    const known = names[name];
    const answers = known !== undefined && type === 1 ? [known] : [];
    const header = Buffer.from(packet.subarray(0, 12));
    header.writeUInt16BE(known === undefined ? 0x8183 : 0x8180, 2);
    header.writeUInt16BE(answers.length, 6);
    header.fill(0, 8, 12);
    const records = answers.map((one) =>
      Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...one.split(".").map(Number)]),
    );
    socket.send(Buffer.concat([header, packet.subarray(12, end), ...records]), port, address);
  };
  socket.on("message", (packet, from) => {
    const { name } = questionOf(packet);
    asked.push(name);
    if (name.endsWith(".held") && holding) held.push(() => answer(packet, from));
    else if (!name.endsWith(".silent")) answer(packet, from);
  });
  const release = () => {
    holding = false;
    for (const one of held) one();
  };
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  return { asked, release, server: `127.0.0.1:${socket.address().port}`, close: () => socket.close() };
}

let dns: Awaited<ReturnType<typeof nameServer>>;
beforeAll(async () => {
  dns = await nameServer({ "hooks.example": "93.184.215.14", "mailpit.apps.internal": "10.0.0.7" });
});
afterAll(() => dns.close());

describe("a name", () => {
  test("has the addresses of the hosts file first, then those of the name server", async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "resolver-"));
    const hostsFile = join(folder.path, "hosts");
    await writeFile(hostsFile, "# local\n10.1.2.3\tIntranet.example intranet # ours\n::2 intranet\nnonsense here\n");
    const resolve = createResolver({ hostsFile, servers: [dns.server] });
    expect(await resolve("intranet")).toEqual([
      { address: "10.1.2.3", family: 4 },
      { address: "::2", family: 6 },
    ]);
    expect(await resolve("HOOKS.example")).toEqual([{ address: "93.184.215.14", family: 4 }]);
    await expect(resolve("no-such.example")).rejects.toMatchObject({ code: "ENOTFOUND" });
  });

  test("is found in a hosts file that changed, however often names are looked up meanwhile", async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "resolver-"));
    const hostsFile = join(folder.path, "hosts");
    await writeFile(hostsFile, "10.1.2.3 one.example\n");
    const now = performance.now.bind(performance);
    let ahead = 0;
    const clock = vi.spyOn(performance, "now").mockImplementation(() => now() + ahead);
    try {
      const resolve = createResolver({ hostsFile, resolvConf: "/nowhere", servers: [dns.server] });
      expect(await resolve("one.example")).toEqual([{ address: "10.1.2.3", family: 4 }]);
      await writeFile(hostsFile, "10.1.2.4 two.example\n");
      for (const name of ["a.example", "b.example", "c.example"]) {
        ahead += 2_000;
        await sleep(5); // the cache reads its clock once a millisecond
        await resolve(name).catch(() => undefined);
      }
      expect(await resolve("two.example")).toEqual([{ address: "10.1.2.4", family: 4 }]);
    } finally {
      clock.mockRestore();
    }
  });

  test("under localhost is this machine, whoever answers", async () => {
    const resolve = createResolver({ hostsFile: "/nowhere", servers: [dns.server] });
    expect((await resolve("app.localhost")).map(({ address }) => address)).toEqual(["127.0.0.1", "::1"]);
  });

  test("with few dots is tried under the search domains too", async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "resolver-"));
    const resolvConf = join(folder.path, "resolv.conf");
    await writeFile(resolvConf, "search other.internal apps.internal\noptions ndots:2\n");
    const resolve = createResolver({ hostsFile: "/nowhere", resolvConf, servers: [dns.server] });
    expect(await resolve("mailpit")).toEqual([{ address: "10.0.0.7", family: 4 }]);
  });

  test("is looked up once for attempts that follow each other", async () => {
    const resolve = createResolver({ hostsFile: "/nowhere", resolvConf: "/nowhere", servers: [dns.server] });
    const before = dns.asked.length;
    await Promise.all([resolve("hooks.example"), resolve("hooks.example")]);
    await resolve("Hooks.Example");
    expect(dns.asked.length - before).toBe(2);
  });
});

test("a hundred names whose server never answers are given up in time, and hold up no other", async () => {
  const resolve = createResolver({
    hostsFile: "/nowhere",
    resolvConf: "/nowhere",
    servers: [dns.server],
    timeoutMs: 1_500,
  });
  let pending = 100;
  const silent = Array.from({ length: 100 }, async (_, n) => {
    const outcome = await resolve(`h${n}.silent`).then(
      () => "found",
      () => "given up",
    );
    pending -= 1;
    return outcome;
  });
  expect(await resolve("hooks.example")).toHaveLength(1);
  expect(pending).toBe(100);
  expect(new Set(await Promise.all(silent))).toEqual(new Set(["given up"]));
});

test("a client whose names nobody answers has a bound, and what it waits for holds up no other client", async () => {
  const files = { hostsFile: "/nowhere", resolvConf: "/nowhere" };
  const resolve = createResolver({ ...files, servers: [dns.server], timeoutMs: 20_000 });
  let pending = 200;
  const outcomes = Array.from({ length: 200 }, async (_, n) => {
    const failed = ({ code }: NodeJS.ErrnoException) => code;
    const found = await onBehalfOf("cli_flood", () => resolve(`flood${n}.held`)).then(() => "found", failed);
    pending -= 1;
    return found;
  });
  const own = onBehalfOf("cli_flood", () => resolve("hooks.example"));
  const floods = () => new Set(dns.asked.filter((name) => name.startsWith("flood"))).size;
  await vi.waitFor(() => expect(floods()).toBeGreaterThanOrEqual(64), { timeout: 4_000 });
  // The other client asks for a name that waits behind the flood.
  expect(await onBehalfOf("cli_other", () => resolve("hooks.example"))).toHaveLength(1);
  expect([pending, floods()]).toEqual([200, 64]);
  dns.release();
  expect(new Set(await Promise.all(outcomes))).toEqual(new Set(["ENOTFOUND"]));
  expect([await own, floods()]).toEqual([[{ address: "93.184.215.14", family: 4 }], 200]);
});

test("a lookup that waits for the client's others is given up in time", async () => {
  const files = { hostsFile: "/nowhere", resolvConf: "/nowhere" };
  const resolve = createResolver({ ...files, servers: [dns.server], timeoutMs: 50 });
  const all = Array.from({ length: 65 }, (_, n) => onBehalfOf("cli_late", () => resolve(`late${n}.silent`)));
  const outcomes = await Promise.allSettled(all);
  expect(outcomes.every(({ status }) => status === "rejected")).toBe(true);
});
