// The mail that is built from what a tenant hands over.

import PostalMime from "postal-mime";
import { describe, expect, test } from "vitest";
import { InvalidMail, type MailContent, type MailSender, partsOf } from "../../../src/channels/email/message.ts";
import { composeMail } from "../../../src/channels/email/mime.ts";

const sender = { fromEmail: "noreply@app.example", fromName: "My App", replyTo: "help@app.example" };
const base: MailContent = {
  deliveryId: "dlv_42",
  to: { email: "user@example.com", name: "Jane" },
  subject: "Welcome!",
  content: "<h1>Welcome to our platform!</h1>",
  at: Date.parse("2026-02-03T04:05:06Z"),
};

const recipients = async (mail: Partial<MailContent>) => (await partsOf(sender, { ...base, ...mail })).envelope.to;

async function sent(mail: Partial<MailContent> = {}, from: MailSender = sender) {
  const raw = (await composeMail(await partsOf(from, { ...base, ...mail }))).message.toString();
  const headers = raw.slice(0, raw.indexOf("\r\n\r\n")).replace(/\r\n[ \t]+/g, " ");
  return { raw, headers: headers.split("\r\n"), mail: await PostalMime.parse(raw) };
}

describe("the headers", () => {
  test("have one Message-ID for all attempts, at the domain of the first sender", async () => {
    const { mail } = await sent({ domain: "first.example" }, { fromEmail: "other@second.example" });
    expect(mail.messageId).toBe("<dlv_42@first.example>");
    expect((await sent({}, { fromEmail: "me@Bücher.example" })).mail.messageId).toBe("<dlv_42@xn--bcher-kva.example>");
  });

  test("show encoded words that were typed as they were typed", async () => {
    const typed = "=?utf-8?q?Free=20money?= now";
    const { mail, headers } = await sent(
      {
        subject: typed,
        to: { email: "user@example.com", name: typed },
        cc: [{ email: "cc@example.com", name: typed }],
      },
      { ...sender, fromName: typed },
    );
    expect(mail.subject).toBe(typed);
    expect([mail.from, mail.to?.[0], mail.cc?.[0]]).toMatchObject([{ name: typed }, { name: typed }, { name: typed }]);
    expect(mail.to).toMatchObject([{ address: "user@example.com" }]);
    for (const name of ["Subject", "From", "To", "Cc"]) {
      expect(
        headers.filter((line) => line.startsWith(`${name}: `)),
        name,
      ).toHaveLength(1);
    }
    expect(headers.join()).not.toContain("Free");
  });

  test("say who, to whom, what, when, and which delivery", async () => {
    const { headers } = await sent({ cc: [{ email: "cc@example.com", name: "Cora" }] });
    expect(headers).toEqual(
      expect.arrayContaining([
        "From: My App <noreply@app.example>",
        "To: Jane <user@example.com>",
        "Cc: Cora <cc@example.com>",
        "Reply-To: help@app.example",
        "Subject: Welcome!",
        "Message-ID: <dlv_42@app.example>",
        "Date: Tue, 03 Feb 2026 04:05:06 +0000",
        "Auto-Submitted: auto-generated",
        "X-ChatAPI-Delivery: dlv_42",
      ]),
    );
  });

  test("keep the Message-ID over attempts; only the date moves", async () => {
    const [first, later] = [await sent(), await sent({ at: base.at + 5_000 })];
    expect(later.mail.messageId).toBe(first.mail.messageId);
    expect(later.mail.date).not.toBe(first.mail.date);
  });

  test("take the mail's own reply address before the provider's", async () => {
    expect((await sent({ replyTo: "me@example.com" })).mail.replyTo).toEqual([{ address: "me@example.com", name: "" }]);
    expect((await sent({}, { fromEmail: "a@b.example" })).mail.replyTo).toBeUndefined();
  });

  test("never name blind copies", async () => {
    const bcc = [{ email: "secret@example.com" }];
    expect((await sent({ bcc })).raw).not.toContain("secret@");
    expect(await recipients({ bcc })).toEqual(["user@example.com", "secret@example.com"]);
  });

  test("carry other scripts", async () => {
    const { mail } = await sent({
      subject: "Grüße 👋 ".repeat(20),
      to: { email: "user@example.com", name: "Jürgen, „J.“" },
    });
    expect(mail.subject).toBe("Grüße 👋 ".repeat(20).trim());
    expect(mail.to).toEqual([{ address: "user@example.com", name: "Jürgen, „J.“" }]);
  });

  test.each(["\r\n", "\n", "\r", "\0", "\u2028", "\r\n ", "\v", "\u0085"])(
    "cannot be broken out of by %j",
    async (end) => {
      const evil = `x${end}Bcc: victim@example.com${end}${end}<b>body</b>`;
      const { headers, mail } = await sent(
        { subject: evil, to: { email: "user@example.com", name: evil }, deliveryId: `dlv_1${end}X-Evil: 1` },
        { fromEmail: "noreply@app.example", fromName: evil },
      );
      expect(headers.filter((line) => /^(Bcc|X-Evil)/i.test(line))).toEqual([]);
      expect(mail.subject).toMatch(/^x +Bcc: victim@example\.com +<b>body<\/b>$/);
      expect(mail.messageId).toMatch(/^<dlv_1X-Evil1@app\.example>$/);
    },
  );
});

describe("an address", () => {
  test.each([
    "a@b.example\r\nBcc: c@d.example",
    "a@b.example, c@d.example",
    "a@b.example;c@d.example",
    "<a@b.example>",
    "Jane <a@b.example>",
    "a@b@c.example",
    "a b@c.example",
    '"a b"@c.example',
    "a(b)@c.example",
    "group:a@b.example;",
    "@b.example",
    "a@",
    "a",
    "",
    "a\0@b.example",
    "a@[127.0.0.1]",
    "a@127.0.0.1",
    "a@1.2",
    `${"a".repeat(250)}@b.example`,
  ])("that is not one mailbox is refused: %j", async (email) => {
    for (const mail of [{ to: { email } }, { cc: [{ email }] }, { bcc: [{ email }] }, { replyTo: email }]) {
      await expect(partsOf(sender, { ...base, ...mail })).rejects.toThrow(InvalidMail);
    }
    await expect(partsOf({ fromEmail: email }, base)).rejects.toThrow(InvalidMail);
  });

  test.each([
    ["o'brien+tag@Example.COM", "o'brien+tag@example.com"],
    ["user@bücher.example", "user@xn--bcher-kva.example"],
    ["jürgen@example.com", "jürgen@example.com"],
  ])("%s goes to %s", async (email, address) => {
    expect(await recipients({ to: { email } })).toEqual([address]);
  });

  test("named twice gets the mail once", async () => {
    const same = { email: "User@example.com".toLowerCase() };
    expect(await recipients({ cc: [same, { email: "b@example.com" }], bcc: [{ email: "b@EXAMPLE.com" }] })).toEqual([
      "user@example.com",
      "b@example.com",
    ]);
  });
});

describe("the parts", () => {
  test("of HTML are HTML and the text made from it", async () => {
    const { mail } = await sent();
    expect(mail.html?.trim()).toBe("<h1>Welcome to our platform!</h1>");
    expect(mail.text?.trim()).toBe("Welcome to our platform!");
  });

  test("of plain text are text alone", async () => {
    const { mail } = await sent({ content: "1 < 2 & <jane@example.com> says\n<3" });
    expect(mail.text?.trimEnd()).toBe("1 < 2 & <jane@example.com> says\n<3");
    expect(mail.html).toBeUndefined();
  });

  test("are both as given when both are given", async () => {
    const { mail } = await sent({ text: "Hello, plainly" });
    expect(mail.html?.trim()).toBe(base.content);
    expect(mail.text?.trim()).toBe("Hello, plainly");
  });

  test("show plain content as it is when a text is given beside it", async () => {
    const { mail } = await sent({ content: "a < b\n  & c", text: "other" });
    expect(mail.html?.trim()).toBe('<div style="white-space: pre-wrap">a &lt; b\n  &amp; c</div>');
    expect(mail.text?.trim()).toBe("other");
  });

  test("of pictures alone still have a text", async () => {
    expect((await sent({ content: '<img src="https://x.example/a.png">' })).mail.text?.trim()).toBe("Welcome!");
  });

  test("are plain when the caller says so, whatever they look like", async () => {
    const { mail } = await sent({ content: "Error <b>503</b> & more", contentType: "text" });
    expect([mail.text?.trim(), mail.html]).toEqual(["Error <b>503</b> & more", undefined]);
    const html = await sent({ content: "Just words", contentType: "html" });
    expect([html.mail.text?.trim(), html.mail.html?.trim()]).toEqual(["Just words", "Just words"]);
  });

  test("read neither files nor URLs", async () => {
    const { raw } = await sent({ content: '<img src="file:///etc/passwd"><img src="data:image/png;base64,AAAA">' });
    expect(raw).not.toContain("root:");
    expect(raw).not.toContain("attachment");
  });

  test("carry any text, less NUL and lone surrogates", async () => {
    const { mail } = await sent({ content: "a\0b \ud800 ü\r\n.\r\n..\r\nend" });
    expect(mail.text?.trimEnd().replaceAll("\r\n", "\n")).toBe("ab \ufffd ü\n.\n..\nend");
  });
});
