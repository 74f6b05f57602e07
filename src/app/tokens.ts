// User tokens: JWTs that only this server makes and believes, HS256 with a secret kept beside the data keys.
import { errors, jwtVerify, SignJWT } from "jose";
import { LRUCache } from "lru-cache";
import { z } from "zod";
import { type ClientId, ClientIdSchema, type Subject } from "../contract/ids.ts";
import { DAY_MS, type Instant, SECOND_MS } from "../contract/time.ts";
import type { Keyring } from "../event-store/sealing.ts";

const ISSUER = "chatapi";
const AUDIENCE = "chatapi:user";
const ALGORITHM = "HS256";
/** Tokens whose signature has been checked and that are remembered, so that each is checked once. */
const REMEMBERED = 10_000;
/** The longest that a token holds. */
export const MAX_TOKEN_MS = DAY_MS;
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
};

export interface Tokens {
  mint(request: {
    readonly client: ClientId;
    readonly subject: Subject;
    readonly userId: string;
    readonly generation: number;
    readonly ttlSeconds: number;
    readonly now: Instant;
    readonly jti: string;
  }): Promise<{ readonly token: string; readonly expiresAt: Instant }>;
  /** The claims of a token of ours; undefined for anything else. */
  verify(token: string, now: Instant): Promise<TokenClaims | "expired" | undefined>;
}

const ClaimsSchema = z.object({
  sub: z.string(),
  cid: ClientIdSchema,
  gen: z.int().min(0),
  exp: z.int(),
});

/** `secret`: the same on every node. `keyring` gives the subject of a user id. */
export function createTokens(parts: { secret: Uint8Array; keyring: Pick<Keyring, "subjectOfUser"> }): Tokens {
  const { secret, keyring } = parts;
  const checked = new LRUCache<string, TokenClaims>({ max: REMEMBERED });

  async function check(token: string, now: Instant): Promise<TokenClaims | "expired" | undefined> {
    try {
      const { payload } = await jwtVerify(token, secret, {
        issuer: ISSUER,
        audience: AUDIENCE,
        algorithms: [ALGORITHM],
        currentDate: new Date(now),
      });
      const claims = ClaimsSchema.safeParse(payload);
      if (!claims.success) return undefined;
      const { sub: userId, cid: client, gen: generation, exp } = claims.data;
      const subject = await keyring.subjectOfUser(client, userId);
      return { client, subject, userId, generation, expiresAt: exp * SECOND_MS };
    } catch (error) {
      if (error instanceof errors.JWTExpired) return "expired";
      if (error instanceof errors.JOSEError) return undefined;
      throw error;
    }
  }

  return {
    async mint({ client, userId, generation, ttlSeconds, now, jti }) {
      const issuedAt = Math.floor(now / SECOND_MS);
      const token = await new SignJWT({ cid: client, gen: generation })
        .setProtectedHeader({ alg: ALGORITHM, typ: "JWT" })
        .setIssuer(ISSUER)
        .setAudience(AUDIENCE)
        .setSubject(userId)
        .setIssuedAt(issuedAt)
        .setExpirationTime(issuedAt + ttlSeconds)
        .setJti(jti)
        .sign(secret);
      return { token, expiresAt: (issuedAt + ttlSeconds) * SECOND_MS };
    },
    async verify(token, now) {
      if (token.length > MAX_TOKEN_LENGTH) return undefined;
      const known = checked.get(token);
      if (known !== undefined) return /* fence: token-expiry */ known.expiresAt <= now ? "expired" : known;
      const claims = await check(token, now);
      if (claims !== undefined && claims !== "expired") checked.set(token, claims);
      return claims;
    },
  };
}
