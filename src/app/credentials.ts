// Credentials: API keys, of which only a hash is kept, and user tokens, which only this server makes and believes.

import { hash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { crc32 } from "node:zlib";
import type { JWTHeaderParameters } from "jose";
import { JOSEError, JWSSignatureVerificationFailed, JWTExpired } from "jose/errors";
import { SignJWT } from "jose/jwt/sign";
import { jwtVerify } from "jose/jwt/verify";
import { LRUCache } from "lru-cache";
import { z } from "zod";
import { ALL_SCOPES, type Scope } from "../contract/fields.ts";
import { type ClientId, ClientIdSchema, type KeyId, type Subject } from "../contract/ids.ts";
import { HOUR_MS, type Instant, SECOND_MS } from "../contract/time.ts";
import { MAX_TOKEN_MS } from "../contract/users.ts";
import type { KeyData } from "../domain/client-keys.ts";
import type { RotatedSecret, RotateOptions } from "../event-store/rotated-secrets.ts";
import type { Keyring } from "../event-store/sealing.ts";
import { maxEntries } from "../platform/bounded.ts";

// The secrets that sign user tokens, as this process knows them: at most a second old.

/** Among the server's own secrets. */
const NAME = "tokens";
/** How long one is kept after the next one was made: its last token lives no longer, a node's slow clock included. */
const KEPT_MS = MAX_TOKEN_MS + HOUR_MS;
/** After so long what is known is read again: before it is used, or beside its use when half of that has passed. */
const KNOWN_MS = 1_000;
/** What no id of ours looks like is not looked up. */
const ID = /^[A-Za-z0-9_-]{16}$/;

type Secrets = {
  /** All that still count, newest first. */
  rotatedSecrets(name: string): Promise<readonly RotatedSecret[]>;
};
type Rotating = {
  rotateSecret(name: string, options: RotateOptions): Promise<{ readonly id: string; readonly dropped: number }>;
};

/**
 * Makes a new secret, which signs from now on, and drops those that no living token needs; `atOnce`: all older ones, so
 * that every token that they signed ends.
 */
export const rotateTokenSecret = (
  keyring: Rotating,
  { at, atOnce = false }: { at: Date; atOnce?: boolean | undefined },
) => keyring.rotateSecret(NAME, { at, keepMs: atOnce ? 0 : KEPT_MS });

/** An id stands as `kid` in the header of the tokens that its secret signs; tokens without one are of the first secret. */
export class TokenSecrets {
  readonly #keyring: Secrets;
  #known: readonly RotatedSecret[] = [];
  /** When the last reading began. */
  #readAt = Number.NEGATIVE_INFINITY;
  #reading: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  constructor(keyring: Secrets) {
    this.#keyring = keyring;
  }

  /** The one that signs. Throws what reading throws when none is known yet. */
  async newest(): Promise<RotatedSecret> {
    await this.#refresh();
    const [newest] = this.#known;
    if (newest === undefined) throw new Error("there is no secret of user tokens");
    return newest;
  }

  /** Whether the one with this id still counts. */
  async has(id: string | null): Promise<boolean> {
    await this.#refresh();
    return this.#known.some((secret) => secret.id === id);
  }

  /** The one with this id; one that is not known waits for the next reading, of which there is one a second for all. */
  async find(id: string | null): Promise<RotatedSecret | undefined> {
    await this.#refresh();
    const ofId = (secret: RotatedSecret) => secret.id === id;
    const known = this.#known.find(ofId);
    if (known !== undefined || id === null || !ID.test(id)) return known;
    this.#next ??= this.#readNext();
    await this.#next;
    return this.#known.find(ofId);
  }

  async #readNext(): Promise<void> {
    await sleep(this.#readAt + KNOWN_MS - performance.now(), undefined, { ref: false });
    // One that is under way may have begun before the secret was made.
    await this.#reading;
    this.#next = undefined;
    await this.#readOnce();
  }

  async #refresh(): Promise<void> {
    const age = performance.now() - this.#readAt;
    if (age >= KNOWN_MS) await this.#readOnce();
    else if (age >= KNOWN_MS / 2) void this.#readOnce();
    // Nothing to go on with: however long it takes.
    if (this.#known.length === 0) this.#known = await this.#keyring.rotatedSecrets(NAME);
  }

  /** While PostgreSQL is away, or does not answer within a second, things stay as they were known. */
  #readOnce(): Promise<void> {
    const begun = performance.now();
    const read = async () => {
      try {
        this.#known = await this.#keyring.rotatedSecrets(NAME);
        this.#readAt = begun;
      } catch {
        // Read again later; who needs one that is not known is refused.
      }
    };
    this.#reading ??= Promise.race([read(), sleep(KNOWN_MS, undefined, { ref: false })]).finally(() => {
      if (this.#readAt < begun) this.#readAt = performance.now();
      this.#reading = undefined;
    });
    return this.#reading;
  }
}

/** Whether text is base64url as we write it: its last character has bits that decoding ignores. */
const isCanonicalBase64Url = (text: string): boolean => Buffer.from(text, "base64url").toString("base64url") === text;

// API keys: `ck_`, 43 base62 characters of 32 random bytes, 6 of the CRC-32 of what precedes.
const BASE62_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BODY_WIDTH = 43;
const CHECK_WIDTH = 6;
const SHAPE = /^ck_[0-9A-Za-z]{49}$/;
/** Random bytes that a key is made of. */
export const KEY_BYTES = 32;

function base62(value: bigint, width: number): string {
  let rest = value;
  let text = "";
  while (text.length < width) {
    text = BASE62_DIGITS.charAt(Number(rest % 62n)) + text;
    rest /= 62n;
  }
  return text;
}

/** The CRC-32 in base62; in plain numbers, because it is asked for with every request. */
function checksum(body: string): string {
  let rest = crc32(body);
  let text = "";
  while (text.length < CHECK_WIDTH) {
    text = BASE62_DIGITS.charAt(rest % 62) + text;
    rest = Math.floor(rest / 62);
  }
  return text;
}

/** The key that KEY_BYTES random bytes make. */
export function makeApiKey(random: Uint8Array): string {
  const body = `ck_${base62(BigInt(`0x${Buffer.from(random).toString("hex")}`), BODY_WIDTH)}`;
  return body + checksum(body);
}

/** Whether text is a key as we make them; a typing error is found without a look-up. */
export const isApiKey = (text: string): boolean =>
  SHAPE.test(text) && checksum(text.slice(0, -CHECK_WIDTH)) === text.slice(-CHECK_WIDTH);

/** What is kept of a key: SHA-256, hex. */
export const hashApiKey = (key: string): string => hash("sha256", key, "hex");

/** A key's record for the log. */
export const keyData = (id: KeyId, name: string, key: string): KeyData => ({
  id,
  name,
  hash: hashApiKey(key),
  last4: key.slice(-4),
});

// User tokens: JWTs, HS256 with the newest of the secrets kept beside the data keys; `kid` names it.
const ISSUER = "chatapi";
const AUDIENCE = "chatapi:user";
const ALGORITHM = "HS256";
/** Tokens whose signature has been checked and that are remembered, so that each is checked once. */
const REMEMBERED = 10_000;
/** No token of ours is longer; a longer one is not even looked at. */
const MAX_TOKEN_LENGTH = 2_048;

/** What a token says; whether it was revoked is for the directory to say. */
type TokenClaims = {
  readonly client: ClientId;
  readonly subject: Subject;
  readonly userId: string;
  /** The user's generation of tokens that it belongs to. */
  readonly generation: number;
  readonly expiresAt: Instant;
  /** What the key that minted it allowed. */
  readonly scopes: ReadonlySet<Scope>;
};

const ClaimsSchema = z.object({
  sub: z.string(),
  cid: ClientIdSchema,
  gen: z.int().min(0),
  exp: z.int(),
  /** Names with spaces between (RFC 8693); without it every scope. */
  scope: z.string().optional(),
});

/** The claim for these scopes; nothing when they are all there are. */
const scopeClaim = (scopes: ReadonlySet<Scope>): { readonly scope?: string } =>
  scopes.size === ALL_SCOPES.size ? {} : { scope: [...scopes].join(" ") };

function scopesOfClaim(claim: string | undefined): ReadonlySet<Scope> {
  if (claim === undefined) return ALL_SCOPES;
  const named = new Set(claim.split(" "));
  return new Set([...ALL_SCOPES].filter((scope) => named.has(scope)));
}

/** What a token is made for. */
type TokenRequest = {
  readonly client: ClientId;
  readonly userId: string;
  readonly generation: number;
  /** Those of the key that asks: the token carries no more. */
  readonly scopes: ReadonlySet<Scope>;
  readonly ttlSeconds: number;
  readonly now: Instant;
  readonly jti: string;
};

/** A token that was checked, and the id of the secret that signed it. */
type Checked = { readonly claims: TokenClaims; readonly secret: string | null };

export class Tokens {
  readonly #secrets: TokenSecrets;
  readonly #keyring: Pick<Keyring, "subjectOfUser">;
  readonly #checked = new LRUCache<string, Checked>(maxEntries(REMEMBERED));

  /** `keyring` gives the subject of a user id. */
  constructor({ secrets, keyring }: { secrets: TokenSecrets; keyring: Pick<Keyring, "subjectOfUser"> }) {
    this.#secrets = secrets;
    this.#keyring = keyring;
  }

  async mint({ client, userId, generation, scopes, ttlSeconds, now, jti }: TokenRequest) {
    const secret = await this.#secrets.newest();
    const issuedAt = Math.floor(now / SECOND_MS);
    const token = await new SignJWT({ cid: client, gen: generation, .../* fence: token-scopes */ scopeClaim(scopes) })
      .setProtectedHeader({ alg: ALGORITHM, typ: "JWT", ...(secret.id === null ? {} : { kid: secret.id }) })
      .setIssuer(ISSUER)
      .setAudience(AUDIENCE)
      .setSubject(userId)
      .setIssuedAt(issuedAt)
      .setExpirationTime(issuedAt + ttlSeconds)
      .setJti(jti)
      .sign(secret.key);
    return { token, expiresAt: (issuedAt + ttlSeconds) * SECOND_MS };
  }

  /** The claims of a token of ours; undefined for anything else. */
  async verify(token: string, now: Instant): Promise<TokenClaims | "expired" | undefined> {
    if (token.length > MAX_TOKEN_LENGTH) return undefined;
    const known = this.#checked.get(token);
    if (known !== undefined) {
      // fence: token-secret-dropped
      if (!(await this.#secrets.has(known.secret))) return undefined;
      return /* fence: token-expiry */ known.claims.expiresAt <= now ? "expired" : known.claims;
    }
    const checked = await this.#check(token, now);
    if (checked === undefined || checked === "expired") return checked;
    this.#checked.set(token, checked);
    return checked.claims;
  }

  async #check(token: string, now: Instant): Promise<Checked | "expired" | undefined> {
    // fence: token-spelling
    if (!token.split(".").every(isCanonicalBase64Url)) return undefined;
    try {
      const keyOf = async ({ kid }: JWTHeaderParameters) => {
        const secret = await this.#secrets.find(kid ?? null);
        if (secret === undefined) throw new JWSSignatureVerificationFailed();
        return secret.key;
      };
      const { payload, protectedHeader } = await jwtVerify(token, keyOf, {
        issuer: ISSUER,
        audience: AUDIENCE,
        algorithms: [ALGORITHM],
        currentDate: new Date(now),
      });
      const claims = ClaimsSchema.safeParse(payload);
      if (!claims.success) return undefined;
      const { sub: userId, cid: client, gen: generation, exp, scope } = claims.data;
      const subject = await this.#keyring.subjectOfUser(client, userId);
      const scopes = scopesOfClaim(scope);
      const found = { client, subject, userId, generation, scopes, expiresAt: exp * SECOND_MS };
      return { claims: found, secret: protectedHeader.kid ?? null };
    } catch (error) {
      if (error instanceof JWTExpired) return "expired";
      if (error instanceof JOSEError) return undefined;
      throw error;
    }
  }
}
