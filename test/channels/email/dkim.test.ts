// DKIM signatures, checked with the public key as a receiver does it (RFC 6376, 3.5 to 3.7; RFC 8463, 3).
import { createHash, generateKeyPairSync, type KeyObject, verify } from "node:crypto";
import { expect, test } from "vitest";
import { dkimKeyFault } from "../../../src/channels/email/dkim.ts";
import { partsOf } from "../../../src/channels/email/message.ts";
import { composeMail } from "../../../src/channels/email/mime.ts";

const sender = { fromEmail: "shop@example.com", fromName: "Bücher" };
const mail = {
  deliveryId: "dlv_1",
  to: { email: "jane@example.com" },
  subject: "Grüße \t aus  Köln",
  content: `<p>Hi</p>  ${"x ".repeat(300)}\n\n\n`,
  unsubscribeUrl: `https://chat.example.com/u/${"a".repeat(120)}`,
  at: 1_770_000_000_000,
};

const relaxed = (line: string): string => {
  const [name = "", ...value] = line.replaceAll("\r\n", "").split(":");
  return `${name.trim().toLowerCase()}:${value
    .join(":")
    .replace(/[ \t]+/g, " ")
    .trim()}`;
};

/** Whether the signature holds, and the names that it covers. */
function checked(raw: string, key: KeyObject): { readonly holds: boolean; readonly names: readonly string[] } {
  const [head = "", body = ""] = [raw.slice(0, raw.indexOf("\r\n\r\n")), raw.slice(raw.indexOf("\r\n\r\n") + 4)];
  const lines = head.split(/\r\n(?![ \t])/);
  const [own = "", ...others] = lines;
  const tags = new Map(
    own
      .slice(own.indexOf(":") + 1)
      .split(";")
      .map((tag) => [tag.slice(0, tag.indexOf("=")).trim(), tag.slice(tag.indexOf("=") + 1).replace(/\s/g, "")]),
  );
  const canonical = body.split("\r\n").map((line) => line.replace(/[ \t]+/g, " ").replace(/ $/, ""));
  while (canonical.at(-1) === "") canonical.pop();
  const hash = createHash("sha256").update(canonical.map((line) => `${line}\r\n`).join(""), "latin1");
  const names = (tags.get("h") ?? "").split(":");
  const left = [...others];
  const covered = names.flatMap((name) => {
    const at = left.findLastIndex((line) => relaxed(line).startsWith(`${name}:`));
    return at < 0 ? [] : left.splice(at, 1).map((line) => `${relaxed(line)}\r\n`);
  });
  const data = Buffer.from(covered.join("") + relaxed(own.replace(/b=[^;]*$/, "b=")), "latin1");
  const signature = Buffer.from(tags.get("b") ?? "", "base64");
  const ed25519 = tags.get("a") === "ed25519-sha256";
  const good = ed25519
    ? verify(null, createHash("sha256").update(data).digest(), key, signature)
    : verify("sha256", data, key, signature);
  return { holds: good && tags.get("bh") === hash.digest("base64"), names };
}

test.each([
  ["RSA", generateKeyPairSync("rsa", { modulusLength: 2_048 })],
  ["Ed25519", generateKeyPairSync("ed25519")],
])(
  "a mail signed with %s is found genuine, and one that was changed is not",
  async (_name, { privateKey, publicKey }) => {
    const private_key = String(privateKey.export({ type: "pkcs8", format: "pem" }));
    const dkim = { domain: "example.com", selector: "s1", private_key };
    const { message } = await composeMail(await partsOf(sender, mail), dkim);
    // As it goes over the wire.
    const raw = message.toString("latin1").replace(/\r?\n/g, "\r\n");
    const { holds, names } = checked(raw, publicKey);
    expect(holds).toBe(true);
    expect(names).toEqual(expect.arrayContaining(["from", "subject", "list-unsubscribe", "list-unsubscribe-post"]));
    expect(names.filter((name) => name === "from")).toHaveLength(2);
    expect(raw).toContain(`\r\nList-Unsubscribe: <${mail.unsubscribeUrl}>\r\n`);
    expect(checked(raw.replace("To: jane@", "To: joan@"), publicKey).holds).toBe(false);
    expect(checked(raw.replace("Hi", "Ho"), publicKey).holds).toBe(false);
    // A second sender would be shown in place of the first.
    expect(checked(raw.replace("\r\nFrom:", "\r\nFrom: evil@example.org\r\nFrom:"), publicKey).holds).toBe(false);
  },
);

test("keys that cannot sign are told by what is wrong with them", () => {
  const pem = (key: KeyObject) => String(key.export({ type: "pkcs8", format: "pem" }));
  expect(dkimKeyFault(pem(generateKeyPairSync("ed25519").privateKey))).toBeNull();
  expect(dkimKeyFault(pem(generateKeyPairSync("rsa", { modulusLength: 512 }).privateKey))).toContain("bits");
  expect(dkimKeyFault(pem(generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey))).toContain("RSA or Ed25519");
  expect(dkimKeyFault("no key")).toContain("PEM");
});
