// domain/provider-choice.ts: through which of a client's providers a mail goes, in which order they are tried.
import { canonicalOrSame } from "../contract/fields.ts";
import type { ProviderType } from "../contract/providers.ts";
import type { Instant } from "../contract/time.ts";
import type { Provider } from "./client.ts";

/** What a mail requires of a provider. */
export type MailDemand = {
  /** Whether its notification has more than one recipient. */
  readonly bulk: boolean;
  /** The sender's address that the request names. Null: the provider's own. */
  readonly from: string | null;
  /** The only provider that the request allows. Null: any that is for such mails. */
  readonly provider: string | null;
  /** Its size as it is sent. */
  readonly bytes: number;
};

/**
 * A provider that may be tried. `probe`: its circuit is not closed. One attempt at a time, of all workers, may find out
 * whether it takes mail again.
 */
export type Candidate = { readonly provider: Provider; readonly probe: boolean };

/**
 * The candidates, first choice first. Without any: `not_configured`, there is no provider for such mails; `no_provider`,
 * none may send this one; `down`, the circuits of all are open, the first one until `until`.
 */
type ProviderChoice =
  | { readonly candidates: readonly Candidate[]; readonly none?: never }
  | { readonly candidates?: never; readonly none: "not_configured" | "no_provider" }
  | { readonly candidates?: never; readonly none: "down"; readonly until: Instant };

const MB = 1_000_000;
const MIB = 1_048_576;
/** The largest mail that each kind of provider takes, encoded, as its vendor documents it. A server says itself. */
const MAX_MAIL_BYTES: Readonly<Partial<Record<ProviderType, number>>> = {
  mailgun: 25 * MIB,
  sendgrid: 30 * MB,
  postmark: 10 * MB,
  ses: 40 * MB,
};

/** `random`: uniform in [0, 1), drawn once for each provider that shares its place with others. */
export function chooseProviders(
  providers: readonly Provider[],
  demand: MailDemand,
  at: Instant,
  random: () => number,
): ProviderChoice {
  const { bulk, provider: named } = demand;
  const use = bulk ? "bulk" : "single";
  const intended = providers.filter(({ name, useFor }) => (named === null ? useFor.includes(use) : name === named));
  if (intended.length === 0) return { none: named === null ? "not_configured" : "no_provider" };
  const able = intended.filter((provider) => covers(provider, demand.from) && takes(provider, demand.bytes));
  if (able.length === 0) return { none: "no_provider" };
  const ranked = inOrder(able, random).map((provider) => ({ provider, ...circuitAt(provider, at) }));
  const ready = ranked.filter(({ state }) => state !== "open");
  // With no other way to go, an attempt that is due tries a server that could not be reached: it costs nobody anything.
  // Who refused the account is left alone.
  const lastResort = ranked.filter(
    ({ state, provider }) => state === "open" && provider.health.circuit?.fault === "transport",
  );
  const tried = ready.some(({ state }) => state === "closed") ? ready : [...ready, ...lastResort];
  if (tried.length === 0) {
    return { none: "down", until: Math.min(...able.map(({ health }) => health.circuit?.until ?? at)) };
  }
  return { candidates: tried.map(({ provider, state }) => ({ provider, probe: state !== "closed" })) };
}

/** Whether a client has any provider for its mails of one recipient, or with `bulk` of several. */
export const hasProviderFor = (providers: readonly Provider[], bulk: boolean): boolean =>
  providers.some(({ useFor }) => useFor.includes(bulk ? "bulk" : "single"));

/** Whether a provider may send from an address: of the domain of its own sender, or of one of its further domains. */
function covers({ fromEmail, fromDomains }: Provider, from: string | null): boolean {
  const allowed = () => [domainOf(fromEmail), ...fromDomains.map((domain) => domainOf(`postmaster@${domain}`))];
  // fence: from-domain
  return from === null || allowed().includes(domainOf(from));
}

/** In the form that name servers know. */
function domainOf(email: string): string {
  const address = canonicalOrSame(email);
  return address.slice(address.lastIndexOf("@") + 1).toLowerCase();
}

const takes = ({ type }: Provider, bytes: number): boolean =>
  bytes <= (MAX_MAIL_BYTES[type] ?? Number.POSITIVE_INFINITY);

function circuitAt({ health: { circuit } }: Provider, at: Instant): { state: "closed" | "due" | "open" } {
  if (circuit === null) return { state: "closed" };
  return { state: circuit.until <= at ? "due" : "open" };
}

/** By `order`; among equals drawn by weight, one after the other. */
function inOrder(providers: readonly Provider[], random: () => number): readonly Provider[] {
  const orders = [...new Set(providers.map(({ order }) => order))].toSorted((a, b) => a - b);
  return orders.flatMap((order) =>
    drawn(
      providers.filter((one) => one.order === order),
      random,
    ),
  );
}

function drawn(equals: readonly Provider[], random: () => number): readonly Provider[] {
  const [only] = equals;
  if (only === undefined || equals.length === 1) return equals;
  let ticket = random() * equals.reduce((sum, one) => sum + weightOf(one), 0);
  const first = equals.find((one) => {
    ticket -= weightOf(one);
    return ticket < 0;
  });
  const next = first ?? only;
  const rest = equals.filter((one) => one !== next);
  return [next, ...drawn(rest, random)];
}

const weightOf = ({ options }: Provider): number => options.weight ?? 1;

/** What a line break after each 76 characters of base64 adds. */
const LINED = 78 / 76;
const HEADERS_BYTES = 2_048;
const PART_HEADERS_BYTES = 512;

/** About how large a mail is when it is sent: files are encoded in base64. */
export const encodedMailBytes = (textBytes: number, fileSizes: readonly number[]): number =>
  HEADERS_BYTES +
  textBytes +
  fileSizes.reduce((sum, size) => sum + PART_HEADERS_BYTES + Math.ceil(Math.ceil(size / 3) * 4 * LINED), 0);
