// An EventStoreDB that does not answer, played by servers that are none: what reads make of it.
import { once } from "node:events";
import http2 from "node:http2";
import type net from "node:net";
import type { AddressInfo } from "node:net";
import { EventStoreDBClient } from "@eventstore/db-client";
import { expect, test, vi } from "vitest";
import { StoreUnavailable } from "../../src/event-store/event-store.ts";
import { Connection, connectTo } from "../../src/event-store/eventstoredb/connection.ts";
import { Reader } from "../../src/event-store/eventstoredb/reader.ts";

const names = { prefix: "p-", logId: "log" };

async function listening(server: net.Server): Promise<AsyncDisposable & { readonly url: string }> {
  const sockets = new Set<net.Socket>();
  server.on("connection", (socket) => sockets.add(socket));
  await once(server.listen(0, "127.0.0.1"), "listening");
  const address = server.address() as AddressInfo;
  return {
    url: `esdb://127.0.0.1:${address.port}?tls=false`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

test("a read that the server takes and never answers ends when its time is up, and so does the next", async () => {
  const silent = http2.createServer().on("stream", (stream) => {
    stream.on("error", () => {});
  });
  await using server = await listening(silent);
  const reader = new Reader({ client: connectTo(server.url), failed: () => {} }, names, 200);
  const reads = [
    () => reader.tail(),
    () => reader.page("start", 10),
    () => reader.stream("any", { limit: 1 }),
    () => reader.ping(),
  ];
  for (const read of reads) {
    const error = await read().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(StoreUnavailable);
    expect(String(error)).toContain("no answer to a read within 200 ms");
  }
});

test("each client has options of its own, so that it does not wait with the connection of another that has failed", () => {
  const made = vi.spyOn(EventStoreDBClient, "connectionString");
  const timeoutOf = (url: string): number => {
    connectTo(url);
    const [sent = ""] = made.mock.lastCall ?? [];
    expect(String(sent).startsWith(url)).toBe(true);
    return Number(String(sent).split("=").at(-1));
  };
  try {
    const own = Array.from({ length: 5 }, () => timeoutOf("esdb://127.0.0.1:1"));
    expect(new Set(own).size).toBe(own.length);
    for (const one of own) expect(one).toBeGreaterThanOrEqual(10_000);
    expect(timeoutOf("esdb://127.0.0.1:1?tls=false&keepAliveTimeout=20000")).toBeGreaterThanOrEqual(20_000);
    expect(timeoutOf("esdb://127.0.0.1:1?KeepAliveTimeout=-1&tls=false")).toBe(-1);
  } finally {
    made.mockRestore();
  }
});

test("the client is replaced when the server was not there, once a second at most, and for nothing else", () => {
  let now = 0;
  const connection = new Connection("esdb://127.0.0.1:1?tls=false", () => now);
  const away = Object.assign(new Error("14 UNAVAILABLE"), { code: 14 });
  const { client: first } = connection;
  now = 999;
  connection.failed(first, away);
  expect(connection.client).toBe(first);
  now = 1_000;
  connection.failed(first, new Error("something else"));
  expect(connection.client).toBe(first);
  connection.failed(first, Object.assign(new Error(""), { type: "unavailable" }));
  const { client: second } = connection;
  expect(second).not.toBe(first);
  now = 2_000;
  connection.failed(first, away); // a late failure of the old one
  expect(connection.client).toBe(second);
  connection.failed(second, away);
  expect(connection.client).not.toBe(second);
});
