// The links of mails and the paths of vendors: each says whose it is, and nobody but this server can make one.
import { domainToASCII } from "node:url";
import { type ClientId, ClientIdSchema, type DeliveryId, DeliveryIdSchema } from "../contract/ids.ts";
import { deriveSecretTail } from "../event-store/derived-ids.ts";
import { isSameSecret } from "../platform/secrets.ts";

/** Among the server's own secrets. */
export const MAIL_LINKS_SECRET = "mail-links";
const MAC_DIGITS = 26;
const PREFIX = "dlv_";

/** What a token is for: one for one purpose is none for another. */
type Purpose = "unsubscribe" | "hook" | "bounce";

const macOf = (secret: Uint8Array, purpose: Purpose, id: string): string => deriveSecretTail(secret, purpose, id);

/** What a delivery's MAC covers. `domain`: the one that the token is for alone; null: any. */
const covered = (id: DeliveryId, domain: string | null): string => (domain === null ? id : `${id} ${domain}`);

/** A token for a delivery: digits and lower-case letters. The id follows from client, notification and recipient. */
const mailToken = (secret: Uint8Array, purpose: Purpose, id: DeliveryId, domain: string | null = null): string =>
  id.slice(PREFIX.length) + macOf(secret, purpose, covered(id, domain));

/** The delivery of a token, in any case; undefined for one that this server did not make for the purpose and domain. */
function deliveryOfToken(
  secret: Uint8Array,
  purpose: Purpose,
  token: string,
  domain: string | null = null,
): DeliveryId | undefined {
  if (token.length > 128) return undefined;
  const lower = token.toLowerCase();
  const id = DeliveryIdSchema.safeParse(PREFIX + lower.slice(0, -MAC_DIGITS));
  if (!id.success) return undefined;
  // fence: mail-token
  if (!isSameSecret(lower.slice(-MAC_DIGITS), macOf(secret, purpose, covered(id.data, domain)))) return undefined;
  return id.data;
}

/** What the local part of a return path begins with: 54 characters in all, of the 64 that there may be. */
const RETURN_PREFIX = "b-";
const MAX_ADDRESS_LENGTH = 320;

/** The delivery of a return path, whatever its case. */
function deliveryOfReturnPath(secret: Uint8Array, address: string): DeliveryId | undefined {
  if (address.length > MAX_ADDRESS_LENGTH) return undefined;
  const at = address.lastIndexOf("@");
  const local = address.slice(0, Math.max(at, 0)).toLowerCase();
  if (!local.startsWith(RETURN_PREFIX)) return undefined;
  const domain = domainToASCII(address.slice(at + 1));
  return deliveryOfToken(secret, "bounce", local.slice(RETURN_PREFIX.length), domain);
}

/** Whose path a vendor posts to. */
export type HookOwner = { readonly client: ClientId; readonly provider: string };

const CLIENT_PREFIX = "cli_";

/** The path's token of a provider: it names client and provider, and nobody else can make it. */
const hookToken = (secret: Uint8Array, { client, provider }: HookOwner): string =>
  [client.slice(CLIENT_PREFIX.length), provider, macOf(secret, "hook", `${client} ${provider}`)].join(".");

function ownerOfHook(secret: Uint8Array, token: string): HookOwner | undefined {
  const [tail = "", provider = "", ...rest] = token.length > 256 ? [] : token.split(".");
  const client = ClientIdSchema.safeParse(CLIENT_PREFIX + tail);
  if (!client.success || rest.length !== 1) return undefined;
  const owner = { client: client.data, provider };
  // fence: hook-path
  return isSameSecret(token, hookToken(secret, owner)) ? owner : undefined;
}

/** What the mails of a node carry, and what comes back with it. */
export type MailLinks = {
  /** Where one click unsubscribes from a mail's category. Null: nobody can reach this server. */
  readonly unsubscribeUrl: (id: DeliveryId) => string | null;
  /** The delivery of such a link's token; undefined when this server did not make it. */
  readonly unsubscribed: (token: string) => DeliveryId | undefined;
  /** The envelope's sender of a mail, at a domain in lower-case ASCII: where receiving servers report to. */
  readonly returnPath: (id: DeliveryId, domain: string) => string;
  /** The delivery of a return path, in any case; undefined when this server did not make it for its domain. */
  readonly returned: (address: string) => DeliveryId | undefined;
  /** Where a provider's vendor posts its events. Null: nobody can reach this server. */
  readonly eventsUrl: (owner: HookOwner) => string | null;
  /** Whose path it is; undefined when this server did not make it. */
  readonly hookOf: (token: string) => HookOwner | undefined;
};

/** `origin`: where this server is reached; null while that is not known. */
export const mailLinks = (secret: Uint8Array, origin: () => string | null): MailLinks => ({
  unsubscribeUrl(id) {
    const base = origin();
    return base === null ? null : `${base}/u/${mailToken(secret, "unsubscribe", id)}`;
  },
  unsubscribed: (token) => deliveryOfToken(secret, "unsubscribe", token),
  returnPath: (id, domain) => `${RETURN_PREFIX}${mailToken(secret, "bounce", id, domain)}@${domain}`,
  returned: (address) => deliveryOfReturnPath(secret, address),
  eventsUrl(owner) {
    const base = origin();
    return base === null ? null : `${base}/hooks/email/${hookToken(secret, owner)}`;
  },
  hookOf: (token) => ownerOfHook(secret, token),
});
