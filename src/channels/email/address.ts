// channels/email/address.ts: reading a mail address, and the one spelling by which two are known to be the same.

import { isIP } from "node:net";
import { domainToASCII } from "node:url";

/** What SMTP takes: octets of the local part, and of the whole address. */
const LONGEST_LOCAL = 64;
const LONGEST_ADDRESS = 254;

const SHAPE = /^([^\s\p{Cc}@,;:<>()[\]\\"]+)@([\p{L}\p{M}\p{N}.-]+)$/u;
const DOMAIN = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$/;

/**
 * The canonical spelling of an address: its domain in lower-case ASCII, its local part as it is, since only the domain's
 * server knows what case means there. Undefined for what is no single mailbox: quoted local parts, address literals,
 * comments, groups, more than one line.
 */
export function canonicalMailAddress(text: string): string | undefined {
  const [, local = "", written = ""] = SHAPE.exec(text) ?? [];
  if (local === "" || !text.isWellFormed() || Buffer.byteLength(local) > LONGEST_LOCAL) return undefined;
  const domain = domainToASCII(written);
  if (!DOMAIN.test(domain) || isIP(domain) !== 0) return undefined;
  const address = `${local}@${domain}`;
  return Buffer.byteLength(address) > LONGEST_ADDRESS ? undefined : address;
}
