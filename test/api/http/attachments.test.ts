// Attachments: in by HTTP, kept in the log as sealed pieces, out by SMTP; what is refused of them, and that they come once.
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { blobStream, PIECE_BYTES } from "../../../src/domain/blob.ts";
import type { RecordedEvent } from "../../../src/event-store/event-store.ts";
import { type MailServer, mailServer } from "../../channels/email/mail-server.ts";
import { type Api, type Body, newClient, notificationUntil } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

const MIB = 1_048_576;
let server: TestServer;
let api: Api;
let mails: MailServer;
beforeAll(async () => {
  server = await startTestServer();
  mails = await mailServer();
  api = await newClient(server.url);
  const config = { host: "127.0.0.1", port: mails.port, security: "none" };
  await api.put("/email-providers/main", { type: "smtp", config, from_email: "shop@example.com" });
});
afterAll(async () => {
  await mails[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const mail = (to: string, attachments: readonly object[]) => {
  return { type: "email", to_email: to, subject: "Files", content: "<p>Here</p>", attachments };
};
const file = (filename: string, content: Uint8Array, more: object = {}) => {
  return { filename, content: Buffer.from(content).toString("base64"), ...more };
};
const receivedBy = (to: string) => mails.received.find((one) => one.to.includes(to));
const sent = (id: string) => notificationUntil(api, id, ({ status }) => status === "sent", 30_000);
const blobEvents = async (): Promise<readonly RecordedEvent[]> => {
  const events = await server.services.store.readAll({ after: "start", limit: 10_000 });
  return events.filter(({ stream }) => stream.startsWith(blobStream("")));
};

describe("attachments", () => {
  test("of 10 MiB arrive as they were sent, and small mails beside them go on", async () => {
    const large = randomBytes(9 * MIB + 17);
    const picture = randomBytes(MIB - 17);
    const files = [file("Bericht ☃.pdf", large), file("logo.png", picture, { content_id: "logo@shop" })];
    const small = Array.from({ length: 20 }, (_, n) => `small${n}@example.com`);
    const [accepted, ...others] = await Promise.all([
      api.post("/notifications", mail("large@example.com", files)),
      ...small.map((to) => api.post("/notifications", mail(to, []))),
    ]);
    expect([accepted, ...others].map(({ status }) => status)).toEqual(Array(21).fill(202));
    const shown = [
      { filename: "Bericht ☃.pdf", content_type: "application/pdf", size: 9 * MIB + 17, content_id: null },
      { filename: "logo.png", content_type: "image/png", size: MIB - 17, content_id: "logo@shop" },
    ];
    expect(accepted.body.attachments).toEqual(shown);
    expect((await sent(accepted.body.id)).attachments).toEqual(shown);
    await Promise.all(others.map(({ body }) => sent(body.id)));
    const { attachments = [] } = receivedBy("large@example.com")?.mail ?? {};
    const arrived = attachments.map(({ filename, mimeType, contentId, content }) => {
      return {
        filename,
        mimeType,
        contentId,
        same: [large, picture].some((one) => one.equals(Buffer.from(content as ArrayBuffer))),
      };
    });
    // The picture is with the HTML that shows it.
    expect(arrived.toReversed()).toEqual([
      { filename: "Bericht ☃.pdf", mimeType: "application/pdf", contentId: undefined, same: true },
      { filename: "logo.png", mimeType: "image/png", contentId: "<logo@shop>", same: true },
    ]);
  });

  test("are kept in sealed pieces, which neither the audit nor a list shows", async () => {
    const secret = "the secret of the attachment".repeat(40);
    const { body } = await api.post("/notifications", mail("sealed@example.com", [file("a.txt", Buffer.from(secret))]));
    await sent(body.id);
    const pieces = await blobEvents();
    const last = pieces.at(-1);
    if (last === undefined) throw new Error("nothing was stored");
    expect(pieces.every((event) => event.data.byteLength < 1_000_000)).toBe(true);
    expect(Buffer.from(last.data).toString()).not.toContain(Buffer.from(secret).toString("base64").slice(0, 40));
    expect((await api.get(`/audit/streams/${last.stream}/events`)).status).toBe(404);
    const { data } = (await api.get("/audit/events?type=BlobPieceStored")).body;
    expect(data).toEqual([]);
    expect((await api.get(`/notifications?ids=${body.id}`)).body.data[0].attachments).toHaveLength(1);
  });

  test("are stored once, however often the request comes", async () => {
    const request = mail("once@example.com", [file("a.bin", randomBytes(2 * PIECE_BYTES + 1))]);
    const before = (await blobEvents()).length;
    const key = { "idempotency-key": "attached-once" };
    const answers = await Promise.all([0, 1, 2].map(() => api.post("/notifications", request, key)));
    expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
    expect((await blobEvents()).length - before).toBe(3);
    const other = { ...request, attachments: [file("a.bin", randomBytes(4 * PIECE_BYTES))] };
    expect((await api.post("/notifications", other, key)).body.code).toBe("idempotency_key_reused");
    expect((await blobEvents()).length - before).toBe(3);
  });

  test("that were erased are not sent", async () => {
    const at = new Date(Date.now() + 1_500).toISOString();
    const request = { ...mail("erased@example.com", [file("a.txt", Buffer.from("gone"))]), send_at: at };
    const { body } = await api.post("/notifications", request);
    const { keyring } = server.storage;
    const { id: client } = (await api.get("/clients/me")).body;
    await keyring.destroy(await keyring.subjectOfAddress(client, "erased@example.com"));
    const ended = await notificationUntil(api, body.id, ({ status }) => status === "failed", 30_000);
    expect(ended.deliveries[0].error.code).toBe("erased");
    expect(receivedBy("erased@example.com")).toBeUndefined();
  });
});

describe("what is refused", () => {
  const one = file("a.txt", Buffer.from("hello"));
  const cases: readonly (readonly [string, readonly Body[], readonly string[]])[] = [
    ["no base64", [{ ...one, content: "aGVs!G8=" }], ["attachments.0.content invalid_format"]],
    ["base64 without its padding", [{ ...one, content: "aGVsbG8" }], ["attachments.0.content invalid_format"]],
    ["base64 of URLs", [{ ...one, content: "-_-_" }], ["attachments.0.content invalid_format"]],
    ["no content", [{ filename: "a" }], ["attachments.0.content required"]],
    ["a path", [{ ...one, filename: "../etc/passwd" }], ["attachments.0.filename invalid_format"]],
    ["a filename of two lines", [{ ...one, filename: "a\r\nBcc: b" }], ["attachments.0.filename invalid_format"]],
    ["a long filename", [{ ...one, filename: "x".repeat(256) }], ["attachments.0.filename too_long"]],
    ["a type that is none", [{ ...one, content_type: "pdf" }], ["attachments.0.content_type invalid_format"]],
    ["a type of parts", [{ ...one, content_type: "multipart/mixed" }], ["attachments.0.content_type invalid_format"]],
    ["a content id in brackets", [{ ...one, content_id: "<a>" }], ["attachments.0.content_id invalid_format"]],
    ["one content id twice", [0, 1].map(() => ({ ...one, content_id: "a" })), ["attachments.1.content_id not_allowed"]],
    ["eleven", Array(11).fill(one), ["attachments too_long"]],
    ["a field that is unknown", [{ ...one, disposition: "inline" }], ["attachments.0.disposition unknown_field"]],
    [
      "more than 10 MiB together",
      [file("a", new Uint8Array(5 * MIB)), file("b", new Uint8Array(5 * MIB + 1))],
      ["attachments too_long"],
    ],
  ];
  test.each(cases)("%s", async (_name, attachments, faults) => {
    const before = await server.services.store.tail();
    const { status, body } = await api.post("/notifications", mail("a@example.com", attachments));
    expect([status, body.errors?.map((fault: Body) => `${fault.path} ${fault.code}`)]).toEqual([422, faults]);
    expect(await server.services.store.tail()).toBe(before);
  });

  test("a body of more than 15 MiB, or of more than 1 MiB without attachments", async () => {
    const huge = await api.post("/notifications", mail("a@example.com", [file("a", new Uint8Array(12 * MIB))]));
    expect([huge.status, huge.body.max_bytes]).toEqual([413, 15 * MIB]);
    const padded = { ...mail("a@example.com", []), meta: { padding: "x".repeat(2 * MIB) } };
    const plain = await api.post("/notifications", padded);
    expect([plain.status, plain.body.max_bytes]).toEqual([413, MIB]);
  });
});
