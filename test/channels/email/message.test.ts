// The mail that is built from what a tenant hands over.

import MailComposer from "nodemailer/lib/mail-composer";
import PostalMime from "postal-mime";
import { describe, expect, test } from "vitest";
import {
  buildMail,
  InvalidMail,
  looksLikeHtml,
  type MailContent,
  recipients,
  textFromHtml,
} from "../../../src/channels/email/message.ts";

const sender = { fromEmail: "noreply@app.example", fromName: "My App", replyTo: "help@app.example" };
const base: MailContent = {
  deliveryId: "dlv_42",
  to: { email: "user@example.com", name: "Jane" },
  subject: "Welcome!",
  content: "<h1>Welcome to our platform!</h1>",
  at: Date.parse("2026-02-03T04:05:06Z"),
};

async function sent(mail: Partial<MailContent> = {}, from: Parameters<typeof buildMail>[0] = sender) {
  const raw = (await new MailComposer(buildMail(from, { ...base, ...mail })).compile().build()).toString();
  const headers = raw.slice(0, raw.indexOf("\r\n\r\n")).replace(/\r\n[ \t]+/g, " ");
  return { raw, headers: headers.split("\r\n"), mail: await PostalMime.parse(raw) };
}

describe("the headers", () => {
  test("say who, to whom, what, when, and which delivery", async () => {
    const { headers } = await sent({ cc: [{ email: "cc@example.com", name: "Cora" }] });
    expect(headers).toEqual(
      expect.arrayContaining([
        "From: My App <noreply@app.example>",
        "To: Jane <user@example.com>",
        "Cc: Cora <cc@example.com>",
        "Reply-To: help@app.example",
        "Subject: Welcome!",
        "Message-ID: <dlv_42@chatapi.internal>",
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

  test("keep it when the next attempt goes through another provider, from another address", async () => {
    const [first, later] = [await sent(), await sent({}, { fromEmail: "noreply@other.example" })];
    expect(later.mail.messageId).toBe(first.mail.messageId);
  });

  test("take the mail's own reply address before the provider's", async () => {
    expect((await sent({ replyTo: "me@example.com" })).mail.replyTo).toEqual([{ address: "me@example.com", name: "" }]);
    expect((await sent({}, { fromEmail: "a@b.example" })).mail.replyTo).toBeUndefined();
  });

  test("never name blind copies", async () => {
    const bcc = [{ email: "secret@example.com" }];
    expect((await sent({ bcc })).raw).not.toContain("secret@");
    expect(recipients({ ...base, bcc })).toEqual(["user@example.com", "secret@example.com"]);
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
      expect(mail.messageId).toMatch(/^<dlv_1X-Evil1@chatapi\.internal>$/);
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
  ])("that is not one mailbox is refused: %j", (email) => {
    for (const mail of [{ to: { email } }, { cc: [{ email }] }, { bcc: [{ email }] }, { replyTo: email }]) {
      expect(() => buildMail(sender, { ...base, ...mail })).toThrow(InvalidMail);
    }
    expect(() => buildMail({ fromEmail: email }, base)).toThrow(InvalidMail);
  });

  test.each([
    ["o'brien+tag@Example.COM", "o'brien+tag@example.com"],
    ["user@bücher.example", "user@xn--bcher-kva.example"],
    ["jürgen@example.com", "jürgen@example.com"],
  ])("%s goes to %s", (email, address) => {
    expect(recipients({ ...base, to: { email } })).toEqual([address]);
  });

  test("named twice gets the mail once", () => {
    const same = { email: "User@example.com".toLowerCase() };
    expect(recipients({ ...base, cc: [same, { email: "b@example.com" }], bcc: [{ email: "b@EXAMPLE.com" }] })).toEqual([
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

describe("what looks like HTML", () => {
  test.each(["<p>x", "a<br>b", "<BR/>", '<a href="x">y</a>', "<!doctype html>", "<!-- x -->", "x</div>", "<h1\nid=a>"])(
    "%j does",
    (content) => expect(looksLikeHtml(content)).toBe(true),
  );
  test.each(["", "a < b > c", "<3", "<jane@example.com>", "x<y>z", "&amp;", "< p>", "<par>", "if a<b and b>c"])(
    "%j does not",
    (content) => expect(looksLikeHtml(content)).toBe(false),
  );
});

describe("text from HTML", () => {
  test("keeps links, lists, and the letters of headings; leaves out what is not shown", () => {
    const html =
      "<style>p{}</style><h2>News</h2><p>See <a href='https://x.example/a'>this</a>.</p><ul><li>one<li>two</ul><script>1</script>";
    expect(textFromHtml(html)).toBe("News\n\nSee this [https://x.example/a].\n\n * one\n * two");
  });

  test("takes 256 KiB of hostile nesting without failing", () => {
    for (const html of [
      "<div>".repeat(50_000),
      "<table><tr><td>".repeat(17_000),
      "<b".repeat(100_000),
      "<p>x".repeat(65_000),
    ]) {
      expect(typeof textFromHtml(html)).toBe("string");
      expect(typeof looksLikeHtml(html)).toBe("boolean");
    }
  });
});
