// Providers that fail: the same attempt goes on with the next one, and who is down is left alone until a probe succeeds.
import type { SMTPServerOptions } from "smtp-server";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClientId, NotificationId } from "../../src/contract/ids.ts";
import { clientDecider, clientStream } from "../../src/domain/client.ts";
import { NO_OPTIONS } from "../../src/domain/provider.ts";
import { deliveryId } from "../../src/event-store/derived-ids.ts";
import { readDecoded } from "../../src/event-store/handle-command.ts";
import { ProviderUse } from "../../src/workers/provider-use.ts";
import { type MailServer, mailServer, reply } from "../channels/email/mail-server.ts";
import { closedPort, socketServer } from "../channels/servers.ts";
import { sized } from "../support/size.ts";
import { until } from "../support/until.ts";
import { openWorld, type World } from "./world.ts";

const MAILS = sized(200, 1_000);
/** After so many mails provider one refuses the account. */
const TAKEN_BY_ONE = 60;

const LETS_IN: SMTPServerOptions = {
  allowInsecureAuth: true,
  onAuth: (_auth, _session, callback) => callback(null, { user: "shop" }),
};

let world: World;
let ahead = 0;
beforeAll(async () => {
  world = await openWorld({ now: () => Date.now() + ahead });
});
afterAll(() => world[Symbol.asyncDispose]());

async function addProvider(client: ClientId, name: string, port: number, order: number): Promise<void> {
  const config = {
    host: "127.0.0.1",
    port,
    username: "shop",
    password: "secret",
    security: "none",
    dkim: null,
  } as const;
  const provider = {
    ...{ client, name, type: "smtp" as const, config, fromEmail: "shop@example.com", fromName: null, replyTo: null },
    ...{ useFor: ["single" as const, "bulk" as const], order, fromDomains: [], options: NO_OPTIONS },
  };
  const command = { type: "SetProvider", at: Date.now(), provider } as const;
  await world.commands.execute(clientDecider, clientStream(client), command, world.context(client));
}

async function clientOf(...ports: readonly number[]): Promise<ClientId> {
  const client = await world.client();
  for (const [order, port] of ports.entries()) await addProvider(client, order === 0 ? "one" : "two", port, order);
  return client;
}

const healthEvents = async (client: ClientId) =>
  (await readDecoded(world, clientStream(client), { limit: 100 })).filter(
    (event) => event.type === "ProviderDown" || event.type === "ProviderUp",
  );

const deliveryTo = async (client: ClientId, id: NotificationId, address: string) =>
  deliveryId(id, await world.keyring.subjectOfAddress(client, address), "email");

async function send(client: ClientId, address: string, status: string): Promise<readonly string[]> {
  const delivery = await deliveryTo(client, await world.notify(client, "email", [address]), address);
  await until(
    () => world.delivery(delivery),
    (state) => state.status === status,
  );
  return world.types(delivery);
}

const addresses = ({ received }: MailServer) => received.map(({ to }) => to[0] ?? "");

describe("a provider that refuses the account", () => {
  test("in the middle of many mails: the next one sends the rest, none twice; it comes back by a probe", async () => {
    let refuses = false;
    await using one = await mailServer({
      allowInsecureAuth: true,
      onAuth: (_auth, _session, callback) =>
        refuses ? callback(reply(535, "5.7.8 suspended")) : callback(null, { user: "shop" }),
      onMailFrom: (_address, _session, callback) => {
        refuses ||= one.received.length >= TAKEN_BY_ONE && ahead === 0;
        callback(refuses ? reply(530, "5.7.0 authentication required") : null);
      },
    });
    await using two = await mailServer(LETS_IN);
    const client = await clientOf(one.port, two.port);
    const recipients = Array.from({ length: MAILS }, (_, n) => `r${n}@example.com`);
    const id = await world.notify(client, "email", recipients);
    await until(
      () => one.received.length + two.received.length,
      (count) => count >= MAILS,
      60_000,
    );
    expect([...addresses(one), ...addresses(two)].toSorted()).toEqual(recipients.toSorted());
    expect(one.received.length).toBeGreaterThanOrEqual(TAKEN_BY_ONE);
    const histories = await Promise.all(
      recipients.map(async (address) => {
        const delivery = await deliveryTo(client, id, address);
        await until(
          () => world.delivery(delivery),
          ({ status }) => status === "sent",
        );
        return world.events(delivery);
      }),
    );
    const moved = histories.filter((events) => events.some(({ type }) => type === "ProviderFailedOver"));
    expect(moved.length).toBeGreaterThan(0);
    expect(moved[0]?.map(({ type }) => type)).toEqual([
      ...["DeliveryRequested", "DeliveryAttemptStarted", "ProviderFailedOver", "DeliverySucceeded"],
    ]);
    expect(moved[0]?.[2]?.data).toMatchObject({ n: 1, from: "one", to: "two" });
    expect(moved[0]?.[3]?.data).toMatchObject({ n: 1, provider: "two" });
    expect(await healthEvents(client)).toMatchObject([
      { type: "ProviderDown", data: { name: "one", fault: "account" } },
    ]);

    refuses = false;
    ahead = 31_000;
    const before = one.received.length;
    await send(client, "probe@example.com", "sent");
    expect(one.received.length).toBe(before + 1);
    expect(await healthEvents(client)).toMatchObject([
      { type: "ProviderDown" },
      { type: "ProviderUp", data: { name: "one" } },
    ]);
    ahead = 0;
  });

  test("and no other is left: what waits is tried again", async () => {
    await using one = await mailServer({
      allowInsecureAuth: true,
      onAuth: (_auth, _session, callback) => callback(reply(535, "5.7.8 no")),
    });
    const client = await clientOf(one.port);
    const id = await world.notify(client, "email", ["a@example.com"]);
    const delivery = await deliveryTo(client, id, "a@example.com");
    await until(
      () => world.delivery(delivery),
      ({ status }) => status === "exhausted",
    );
    const failed = (await world.events(delivery)).filter((event) => event.type === "DeliveryAttemptFailed");
    expect(failed.map(({ data }) => [data.kind, data.error])).toMatchObject([
      ["transient", { open: { code: "auth_failed" } }],
      ["transient", { open: { code: "provider_down" } }],
      ["transient", { open: { code: "provider_down" } }],
    ]);
  });
});

describe("a provider that cannot be reached", () => {
  test("is down after three failures in a row; each mail goes through the next one at once", async () => {
    await using two = await mailServer(LETS_IN);
    const client = await clientOf(await closedPort(), two.port);
    const over = ["DeliveryRequested", "DeliveryAttemptStarted", "ProviderFailedOver", "DeliverySucceeded"];
    for (const n of [1, 2]) expect(await send(client, `t${n}@example.com`, "sent")).toEqual(over);
    expect(await healthEvents(client)).toEqual([]);
    expect(await send(client, "t3@example.com", "sent")).toEqual(over);
    expect(await healthEvents(client)).toMatchObject([
      { type: "ProviderDown", data: { name: "one", fault: "transport", reason: "connection_refused" } },
    ]);
    expect(await send(client, "t4@example.com", "sent")).toEqual(over.filter((type) => type !== "ProviderFailedOver"));
  });
});

describe("what a provider refuses", () => {
  test("a sender: the next one is tried, and nothing opens; a recipient: the delivery ends at once", async () => {
    await using one = await mailServer({
      ...LETS_IN,
      onMailFrom: (_address, _session, callback) => callback(reply(553, "5.7.1 not verified")),
    });
    await using two = await mailServer({
      ...LETS_IN,
      onRcptTo: ({ address }, _session, callback) =>
        callback(address.startsWith("gone") ? reply(550, "5.1.1 unknown") : null),
    });
    const client = await clientOf(one.port, two.port);
    expect(await send(client, "here@example.com", "sent")).toContain("ProviderFailedOver");
    const other = await clientOf(two.port, one.port);
    expect(await send(other, "gone@example.com", "exhausted")).toEqual([
      ...["DeliveryRequested", "DeliveryAttemptStarted", "DeliveryAttemptFailed", "DeliveryExhausted"],
    ]);
    expect([...(await healthEvents(client)), ...(await healthEvents(other))]).toEqual([]);
  });
});

describe("a provider that had the whole mail and did not answer", () => {
  test("may have sent it: no other gets it in this attempt", async () => {
    let cut = false;
    await using one = await socketServer((socket) => {
      let inData = false;
      socket.write("220 one\r\n");
      socket.on("data", (bytes) => {
        const text = bytes.toString();
        const ends = text.endsWith("\r\n.\r\n");
        if (inData && !ends) return;
        if (inData && !cut) {
          cut = true;
          socket.destroy();
          return;
        }
        const command = inData ? "" : text.slice(0, 4);
        inData = command === "DATA";
        const replies: Record<string, string> = { EHLO: "250 AUTH PLAIN", AUTH: "235 in", DATA: "354 go on" };
        socket.write(`${replies[command] ?? "250 done"}\r\n`);
      });
    });
    await using two = await mailServer(LETS_IN);
    const client = await clientOf(one.port, two.port);
    expect(await send(client, "here@example.com", "sent")).not.toContain("ProviderFailedOver");
    expect(two.received).toEqual([]);
  });
});

describe("processes that share a provider", () => {
  test("space its mails together, and one of them probes it at a time", async () => {
    const client = await world.client();
    const [one, another] = [new ProviderUse(world.database.pool), new ProviderUse(world.database.pool)];
    const PER_SECOND = 0.01;
    expect(await one.takeSlot(client, "p", PER_SECOND, 1_000)).toBe(0);
    expect(await another.takeSlot(client, "p", PER_SECOND, 1_000)).toBeGreaterThan(1_000);
    const wait = await another.takeSlot(client, "p", PER_SECOND, 100_000);
    expect(wait).toBeGreaterThan(50_000);
    expect(await one.takeSlot(client, "p", PER_SECOND, 1_000_000)).toBeGreaterThan(wait);
    expect(await one.takeSlot(client, "other", PER_SECOND, 1_000)).toBe(0);

    const probe = await one.takeProbe(client, "p", 60_000);
    expect(probe).not.toBeNull();
    expect(await another.takeProbe(client, "p", 60_000)).toBeNull();
    if (probe !== null) await one.endProbe(client, "p", probe, false);
    const over = await another.takeProbe(client, "p", 0);
    expect(over).not.toBeNull();
    expect(await one.takeProbe(client, "p", 60_000)).not.toBeNull();
  });

  test("count its failures in a row", async () => {
    const client = await world.client();
    const [one, another] = [new ProviderUse(world.database.pool), new ProviderUse(world.database.pool)];
    expect(await one.countFailure(client, "p")).toBe(1);
    expect(await another.countFailure(client, "p")).toBe(2);
    await until(
      async () => {
        one.noteSuccess(client, "p");
        return one.countFailure(client, "p");
      },
      (count) => count === 1,
    );
    expect(await another.countFailure(client, "p")).toBe(2);
  });
});
