// The last fence before a connection: the address that the socket really has.

import { describe, expect, test } from "vitest";
import { type AddressGuard, createAddressGuard } from "../../src/channels/guard.ts";
import { openSocket } from "../../src/channels/outgoing-socket.ts";
import { closedPort, httpsServer, socketServer, until } from "./servers.ts";

const production = createAddressGuard({ allow: [], allowLoopback: false });
const development = createAddressGuard({ allow: [], allowLoopback: true });
const open = (guard: AddressGuard, port: number, host = "127.0.0.1", tls = false, timeoutMs = 500) =>
  openSocket({ guard, host, port, tls, timeoutMs });

describe("a connection", () => {
  test("is cut before a byte is sent when its address is not the one that was checked", async () => {
    let received = 0;
    await using server = await socketServer((socket) => {
      socket.on("data", (data) => {
        received += data.length;
      });
    });
    const deceived: AddressGuard = { ...production, resolve: async () => [{ address: "127.0.0.1", family: 4 }] };
    for (const tls of [false, true]) {
      await expect(open(deceived, server.port, "mail.example", tls)).rejects.toMatchObject({
        code: "address_not_allowed",
        stage: "resolve",
      });
    }
    await until(() => server.open() === 0);
    expect(received).toBe(0);
  });

  test("goes to the next of several addresses when the first refuses", async () => {
    await using server = await socketServer(() => {});
    const resolve = async () => ["127.0.0.9", "127.0.0.1"].map((address) => ({ address, family: 4 }));
    const socket = await open(
      createAddressGuard({ allow: [], allowLoopback: true, resolve }),
      server.port,
      "two.example",
    );
    expect(socket.remoteAddress).toBe("127.0.0.1");
    socket.destroy();
  });

  test("fails for what refuses, stays silent in its handshake, or is closed in it", async () => {
    await expect(open(development, await closedPort())).rejects.toMatchObject({ code: "connection_refused" });
    await using silent = await socketServer((socket) => void socket.resume());
    await expect(open(development, silent.port, "127.0.0.1", true)).rejects.toMatchObject({
      code: "timeout",
      stage: "tls",
    });
    await until(() => silent.open() === 0);
    await using closing = await socketServer((socket) => socket.end());
    const failure = { code: "tls_failure", stage: "tls" };
    await expect(open(development, closing.port, "127.0.0.1", true)).rejects.toMatchObject(failure);
  });

  test("survives many handshakes that end at once, in either way", async () => {
    await using server = await httpsServer((_request, response) => void response.end());
    const untrusting = createAddressGuard({ allow: ["127.0.0.1"], allowLoopback: false });
    const outcomes = await Promise.allSettled(
      Array.from({ length: 40 }, (_, n) =>
        open(n % 2 === 0 ? untrusting : development, server.port, "127.0.0.1", true, 10_000),
      ),
    );
    for (const outcome of outcomes) if (outcome.status === "fulfilled") outcome.value.destroy();
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(20);
    await until(() => server.open() === 0);
  });
});
