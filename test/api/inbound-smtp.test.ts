// Reports of receiving servers, over real SMTP: mails to return paths count, once; every other recipient is refused.
import { randomUUID } from "node:crypto";
import { connect } from "node:net";
import { createTransport } from "nodemailer";
import pino from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type InboundLimits, startInboundSmtp } from "../../src/api/inbound-smtp.ts";
import { type MailServer, mailServer } from "../channels/email/mail-server.ts";
import { closedPort } from "../channels/servers.ts";
import { type Api, type Body, newClient, notificationUntil, until } from "../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../support/server.ts";

/** Hands over a mail from the empty sender. Gives the reply code, and resolves for refusals too. */
async function deliver(port: number, to: string | string[], raw: string): Promise<number> {
  const transport = createTransport({ host: "127.0.0.1", port, ignoreTLS: true });
  try {
    const { response } = await transport.sendMail({ envelope: { from: "", to }, raw });
    return Number(response.slice(0, 3));
  } catch (error) {
    return error instanceof Error && "responseCode" in error ? Number(error.responseCode) : 0;
  } finally {
    transport.close();
  }
}

/** The reply codes that the commands get, until the server ends the connection. */
async function dialogue(port: number, commands: readonly string[]): Promise<readonly string[]> {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => {});
  let said = "";
  for await (const chunk of socket.setEncoding("latin1")) {
    // Who speaks before the greeting is refused.
    if (said === "") socket.write(commands.map((one) => `${one}\r\n`).join(""));
    said += chunk;
  }
  return [...said.matchAll(/^(\d{3})(?= )/gm)].map(([, code = ""]) => code);
}

const report = (type: string, fields: string): string =>
  [
    "From: MAILER-DAEMON@mx.example.org",
    `Message-ID: <${randomUUID()}@mx.example.org>`,
    `Content-Type: multipart/report; report-type=${type}; boundary=B`,
    "",
    "--B",
    `Content-Type: message/${type}`,
    "",
    fields,
    "--B--",
    "",
  ].join("\r\n");
const failed = (address: string): string =>
  report(
    "delivery-status",
    `Reporting-MTA: dns; mx.example.org\r\n\r\nFinal-Recipient: rfc822; ${address}\r\nAction: failed\r\nStatus: 5.1.1\r\n`,
  );

describe("a server that listens for reports", () => {
  let server: TestServer;
  let relay: MailServer;
  let api: Api;
  let port: number;
  beforeAll(async () => {
    relay = await mailServer();
    port = await closedPort();
    server = await startTestServer({ config: { inboundSmtp: { host: "127.0.0.1", port } } });
    api = await newClient(server.url);
    const about = { config: { host: "127.0.0.1", port: relay.port, security: "none" }, from_email: "shop@example.com" };
    const options = { return_path: "Bounces.Example.com" };
    const { status, body } = await api.put("/email-providers/main", { type: "smtp", ...about, options });
    expect(status, JSON.stringify(body)).toBe(201);
    expect(body.options.return_path).toBe("bounces.example.com");
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await relay[Symbol.asyncDispose]();
  });

  /** A mail that was sent, and its return path. */
  async function sent(to: string, more: object = {}): Promise<{ readonly id: string; readonly path: string }> {
    const about = { type: "email", to_email: to, subject: "Hello", content: "Hello", ...more };
    const { body } = await api.post("/notifications", about);
    await notificationUntil(api, body.id, (one) => one.status === "sent");
    const path = relay.received.find((one) => one.to.includes(to))?.from ?? "";
    expect(path).toMatch(/^b-[0-9a-z]{52}@bounces\.example\.com$/);
    return { id: body.id, path };
  }
  const deliveryOf = async (id: string): Promise<Body> => (await api.get(`/notifications/${id}`)).body.deliveries[0];
  const reportsOf = async (id: string): Promise<readonly Body[]> =>
    (await api.get(`/notifications/${id}/timeline`)).body.data.filter((one: Body) => one.type === "DeliveryReported");

  test("a bounce, whatever the case of its address; again it changes nothing", async () => {
    const { id, path } = await sent("jane@example.org");
    const bounce = failed("jane@example.org");
    expect(await deliver(port, path.toUpperCase(), bounce)).toBe(250);
    await notificationUntil(api, id, (one) => one.deliveries[0].status === "bounced");
    expect((await deliveryOf(id)).error).toMatchObject({ code: "unknown_recipient" });
    expect((await api.get("/suppressions/jane@example.org")).body.reason).toBe("bounced");
    expect(await deliver(port, path, `Received: from relay\r\n${bounce}`)).toBe(250);
    expect(await deliver(port, path, failed("jane@example.org"))).toBe(250);
    // The last one is a report of its own, and what it says is known.
    expect(
      await until(
        () => reportsOf(id),
        (all) => all.length >= 2,
      ),
    ).toHaveLength(2);
  });

  test("an abuse report is a complaint", async () => {
    const { id, path } = await sent("ann@example.org");
    expect(await deliver(port, path, report("feedback-report", "Feedback-Type: abuse\r\nVersion: 1\r\n"))).toBe(250);
    await notificationUntil(api, id, (one) => one.deliveries[0].status === "complained");
    expect((await api.get("/suppressions/ann@example.org")).body.reason).toBe("complained");
  });

  test("of a copy: it is in the timeline and suppresses that address, the status is the recipient's", async () => {
    const { id, path } = await sent("joe@example.org", { cc: ["copy@example.org"] });
    expect(await deliver(port, path, failed("copy@example.org"))).toBe(250);
    expect(
      await until(
        () => reportsOf(id),
        (all) => all.length === 1,
      ),
    ).toMatchObject([{ data: { index: 1 } }]);
    expect((await deliveryOf(id)).status).toBe("sent");
    expect((await api.get("/suppressions/copy@example.org")).body.reason).toBe("bounced");
    expect((await api.get("/suppressions/joe@example.org")).status).toBe(404);
  });

  test("what this server did not make is refused at RCPT", async () => {
    const { id, path } = await sent("lee@example.org");
    const [local = "", domain = ""] = path.split("@");
    const flipped = `${local.slice(0, -1)}${local.endsWith("0") ? "1" : "0"}`;
    for (const address of [
      ...[`${flipped}@${domain}`, `${local}@example.com`, `${local.slice(0, -1)}@${domain}`, `b-@${domain}`],
      ...[`${local}x@${domain}`, `${local.slice(2)}@${domain}`, "jane@example.org", `bounces@${domain}`],
    ]) {
      expect(await deliver(port, address, failed("lee@example.org")), address).toBe(550);
    }
    expect((await deliveryOf(id)).status).toBe("sent");
    expect(await reportsOf(id)).toEqual([]);
  });

  test("only smtp has a return path, and neither smtp nor ses tracks", async () => {
    const put = async (type: string, config: object, options: object) =>
      (await api.put("/email-providers/other", { type, config, from_email: "a@example.com", options })).body.errors;
    const refused = (name: string) => [expect.objectContaining({ path: `options.${name}`, code: "not_allowed" })];
    const smtp = { host: "127.0.0.1", port: relay.port };
    expect(await put("postmark", { server_token: "k" }, { return_path: "example.com" })).toEqual(
      refused("return_path"),
    );
    expect(await put("smtp", smtp, { track_opens: true })).toEqual(refused("track_opens"));
    const ses = { access_key_id: "k", secret_access_key: "k", region: "eu-central-1" };
    expect(await put("ses", ses, { track_clicks: true })).toEqual(refused("track_clicks"));
    expect(await put("smtp", smtp, { track_opens: false, return_path: null })).toBeUndefined();
  });
});

describe("a listener", () => {
  const PATH = "b-1@bounces.example.com";
  const DELIVERY = "dlv_1" as const;

  async function listener(receive: () => Promise<unknown>, limits: Partial<InboundLimits> = {}) {
    const logged: Body[] = [];
    const logger = pino({ level: "info" }, { write: (line: string) => void logged.push(JSON.parse(line)) });
    const returned = (address: string) => (address === PATH ? DELIVERY : undefined);
    const about = { host: "127.0.0.1", port: 0, name: "mx.example.com", logger, returned, receive, limits };
    const inbound = await startInboundSmtp(about);
    return { ...inbound, logged };
  }

  test("answers 451 when a report cannot be recorded, so that its sender tries again", async () => {
    let away = true;
    let taken = 0;
    await using inbound = await listener(async () => {
      if (away) throw new Error("the log is away");
      taken += 1;
    });
    expect(await deliver(inbound.port, PATH, failed("jane@example.org"))).toBe(451);
    away = false;
    expect(await deliver(inbound.port, PATH, failed("jane@example.org"))).toBe(250);
    expect(taken).toBe(1);
  });

  test("takes mail to postmaster, and logs it", async () => {
    await using inbound = await listener(async () => {});
    for (const to of ["postmaster@bounces.example.com", "PostMaster@example.com"]) {
      expect(await deliver(inbound.port, to, "Subject: Your mails\u0007 are late\r\n\r\nHello")).toBe(250);
    }
    const mails = inbound.logged.filter(({ msg }) => msg === "inbound SMTP: mail to postmaster");
    expect(mails.map(({ subject }) => subject)).toEqual(["Your mails  are late", "Your mails  are late"]);
  });

  test("keeps the beginning of a mail, and refuses one that is too large", async () => {
    const sizes: number[] = [];
    const receive = async (_delivery?: unknown, raw?: Uint8Array) => sizes.push(raw?.length ?? 0);
    await using inbound = await listener(receive, { keptBytes: 1_000, mailBytes: 20_000 });
    expect(await deliver(inbound.port, PATH, "x\r\n".repeat(2_000))).toBe(250);
    expect(sizes).toEqual([1_000]);
    expect(await deliver(inbound.port, PATH, "x\r\n".repeat(10_000))).toBe(552);
  });

  test("ends a connection after some unknown recipients, and one that is too many of an address", async () => {
    await using inbound = await listener(async () => {}, { refusedRecipients: 2, connectionsOfAddress: 1 });
    const to = ["a@example.org", "b@example.org", "c@example.org", PATH];
    const said = await dialogue(inbound.port, ["EHLO x", "MAIL FROM:<>", ...to.map((one) => `RCPT TO:<${one}>`)]);
    expect(said.slice(-3)).toEqual(["550", "550", "421"]);
    await using open = await listener(async () => {}, { connectionsOfAddress: 0 });
    expect(await dialogue(open.port, [])).toEqual(["421"]);
    await using silent = await listener(async () => {}, { sessionMs: 1 });
    expect((await dialogue(silent.port, [])).length).toBeLessThanOrEqual(1);
    await using short = await listener(async () => {}, { commandBytes: 100 });
    expect((await dialogue(short.port, [`EHLO ${"x".repeat(200)}`])).at(-1)).toBe("421");
  });
});
