// The development mailbox, over real SMTP.

import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createTransport } from "nodemailer";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type Mailbox, startMailbox } from "../../src/embedded/mailbox.ts";

let mailbox: Mailbox;
let transport: ReturnType<typeof transportTo>;

beforeAll(async () => {
  mailbox = await startMailbox({ log: () => {} });
  transport = transportTo(mailbox);
});
beforeEach(() => mailbox.clear());
afterAll(async () => {
  transport.close();
  await mailbox[Symbol.asyncDispose]();
});

const transportTo = ({ host, port }: Mailbox) =>
  createTransport({ pool: true, host, port, auth: { user: "any", pass: "thing" } });

test("a mail is there, with all its parts, when its sender has been told so", async () => {
  await transport.sendMail({
    from: "Grüße GmbH <shop@example.com>",
    to: ["Ann <ann@example.com>", "bob@example.com"],
    cc: "cy@example.com",
    bcc: "Dan@Example.com",
    subject: "Willkommen 🎉",
    html: "<h1>Hi</h1>",
    text: "Hi\n",
    headers: { "Auto-Submitted": "auto-generated", "X-Twice": ["one", "two"] },
    messageId: "<one@example.com>",
    attachments: [{ filename: "größe.txt", content: "12345" }],
  });
  const [mail, ...others] = mailbox.list();
  expect(others).toEqual([]);
  expect(mail).toEqual({
    id: expect.stringMatching(/^mail_/),
    from: { address: "shop@example.com", name: "Grüße GmbH" },
    to: [
      { address: "ann@example.com", name: "Ann" },
      { address: "bob@example.com", name: null },
    ],
    cc: [{ address: "cy@example.com", name: null }],
    bcc: [{ address: "Dan@example.com", name: null }],
    subject: "Willkommen 🎉",
    html: "<h1>Hi</h1>",
    text: "Hi\n",
    headers: expect.objectContaining({
      "message-id": "<one@example.com>",
      "auto-submitted": "auto-generated",
      "x-twice": "one, two",
      subject: "Willkommen 🎉",
    }),
    attachments: [
      { filename: "größe.txt", content_type: "text/plain", disposition: "attachment", content_id: null, size: 5 },
    ],
    received_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
  });
  expect(mailbox.get(mail?.id ?? "")).toBe(mail);
  const raw = Buffer.from(mailbox.raw(mail?.id ?? "") ?? []).toString("utf8");
  expect(raw).toContain("Message-ID: <one@example.com>\r\n");
  expect(raw).not.toContain("Dan@");
  expect(mailbox.get("mail_other")).toBeUndefined();
  expect(mailbox.raw("mail_other")).toBeUndefined();
});

test.each(["plain", "mit Umlauten: äöü", "кириллица ".repeat(50).trim()])(
  "a body is what was sent: %s",
  async (words) => {
    const html = `<p>${words}</p>`;
    await transport.sendMail({ from: "a@example.com", to: "b@example.com", subject: "x", html, text: words });
    await transport.sendMail({ from: "a@example.com", to: "b@example.com", subject: "x", html });
    expect(mailbox.list()).toMatchObject([{ html }, { html, text: words }]);
  },
);

test("the newest comes first, and an address finds its own mails only", async () => {
  for (const to of ["ann@example.com", "bob@example.com", "ANN@example.com"]) {
    await transport.sendMail({ from: "shop@example.com", to, subject: to, text: "x" });
  }
  await transport.sendMail({
    envelope: { from: "", to: ["ann@example.com"] },
    raw: "Subject: hidden\r\n\r\nx",
  });
  expect(mailbox.list().map(({ subject }) => subject)).toEqual([
    "hidden",
    "ANN@example.com",
    "bob@example.com",
    "ann@example.com",
  ]);
  expect(mailbox.list({ to: "Ann@Example.com" }).map(({ subject }) => subject)).toEqual([
    "hidden",
    "ANN@example.com",
    "ann@example.com",
  ]);
  expect(mailbox.list()[0]).toMatchObject({ from: null, to: [], bcc: [{ address: "ann@example.com", name: null }] });
  await mailbox.clear();
  expect(mailbox.list()).toEqual([]);
});

test("what is no proper mail is kept all the same", async () => {
  const nested = Array.from(
    { length: 300 },
    (_, i) => `Content-Type: multipart/mixed; boundary=b${i}\r\n\r\n--b${i}\r\n`,
  );
  for (const raw of ["", "\0\0\0", "__proto__: x\r\nsubject\r\n\r\n", nested.join("")]) {
    await transport.sendMail({ envelope: { from: "shop@example.com", to: ["ann@example.com"] }, raw });
  }
  const mails = mailbox.list();
  expect(mails).toHaveLength(4);
  for (const mail of mails) {
    expect(mail).toMatchObject({ from: { address: "shop@example.com" }, bcc: [{ address: "ann@example.com" }] });
  }
});

test("the last 500 are kept", async () => {
  const envelope = { from: "shop@example.com", to: ["ann@example.com"] };
  await Promise.all(
    Array.from({ length: 503 }, (_, i) => transport.sendMail({ envelope, raw: `Subject: ${i}\r\n\r\nx` })),
  );
  expect(mailbox.list()).toHaveLength(500);
});

test("old mails make room for new ones; a mail that is too big is refused, and the connection goes on", async () => {
  const limits = { mails: 500, mailBytes: 10_000, totalBytes: 30_000 };
  await using small = await startMailbox({ log: () => {}, limits });
  const client = transportTo(small);
  const envelope = { from: "shop@example.com", to: ["ann@example.com"] };
  const raw = (subject: string, lines: number) => `Subject: ${subject}\r\n\r\n${`${"x".repeat(98)}\r\n`.repeat(lines)}`;
  for (const subject of ["1", "2", "3", "4"]) await client.sendMail({ envelope, raw: raw(subject, 90) });
  expect(small.list().map(({ subject }) => subject)).toEqual(["4", "3", "2"]);
  // The size is not announced, so that it shows only as the mail comes in.
  await expect(client.sendMail({ envelope, raw: raw("big", 900) })).rejects.toMatchObject({ responseCode: 552 });
  await client.sendMail({ envelope, raw: raw("5", 1) });
  expect(small.list().map(({ subject }) => subject)).toEqual(["5", "4", "3", "2"]);
  client.close();
});

test("closing ends the connections of silent clients too", async () => {
  const lines: string[] = [];
  const other = await startMailbox({ log: (line) => lines.push(line) });
  expect(other.port).not.toBe(mailbox.port);
  const silent = connect(other.port, other.host);
  silent.on("error", () => {});
  const closed = new Promise((resolve) => silent.once("close", resolve));
  await new Promise((resolve) => silent.once("data", resolve));
  await Promise.all([other[Symbol.asyncDispose](), other[Symbol.asyncDispose]()]);
  await closed;
  await expect(transportTo(other).sendMail({ from: "a@example.com", to: "b@example.com" })).rejects.toThrow();
});

test("with a folder mails are there after a restart, hidden recipients too, until they are deleted", async () => {
  const folder = await mkdtemp(join(tmpdir(), "chatapi-mailbox-"));
  await using removed = { [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
  void removed;
  const kept = join(folder, "mailbox");
  const open = () =>
    startMailbox({ log: () => {}, folder: kept, limits: { mails: 2, mailBytes: 10_000, totalBytes: 100_000 } });
  const first = await open();
  const sender = transportTo(first);
  for (const subject of ["gone", "one", "two"]) {
    await sender.sendMail({ from: "a@example.com", to: "b@example.com", bcc: "c@example.com", subject, text: subject });
  }
  sender.close();
  const before = first.list();
  await first[Symbol.asyncDispose]();
  expect((await stat(kept)).mode & 0o777).toBe(0o700);
  await writeFile(join(kept, "000-broken.mail"), "no mail");
  const second = await open();
  expect(second.list()).toEqual(before);
  expect(before.map(({ subject, bcc }) => [subject, bcc[0]?.address])).toEqual([
    ["two", "c@example.com"],
    ["one", "c@example.com"],
  ]);
  expect(second.raw(before[0]?.id ?? "")).toEqual(first.raw(before[0]?.id ?? ""));
  expect(await second.delete(before[0]?.id ?? "")).toBe(true);
  await second[Symbol.asyncDispose]();
  const third = await open();
  expect(third.list()).toEqual(before.slice(1));
  await third.clear();
  expect((await readdir(kept)).filter((name) => !name.includes("broken"))).toEqual([]);
  await third[Symbol.asyncDispose]();
});
