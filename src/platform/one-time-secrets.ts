// Secrets that can be taken once, on any node: PostgreSQL keeps each sealed with what its holder alone was given.
import { createCipheriv, createDecipheriv, createHmac } from "node:crypto";
import type pg from "pg";
import { LOCKS, setUpInTransaction } from "./locks.ts";
import { hasCode, UNDEFINED_TABLE } from "./postgres.ts";

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** Rows whose time is over that one call deletes at most: more than it adds. */
const MAX_SWEPT = 100;
/** 32 bytes as base64url; other spellings of the same bytes are other texts. */
const HANDLE = /^[\w-]{42}[AEIMQUYcgkosw048]$/;

/** Beside the jobs: what is lost with them has to be asked for anew. */
const CREATE = `create schema if not exists jobs;
  create table if not exists jobs.one_time_secrets (
    id bytea primary key, sealed bytea not null, expires_at bigint not null);
  create index if not exists one_time_secrets_expiry on jobs.one_time_secrets (expires_at)`;

export class OneTimeSecrets {
  readonly #pool: pg.Pool;
  readonly #randomBytes: (count: number) => Uint8Array;

  constructor(pool: pg.Pool, randomBytes: (count: number) => Uint8Array) {
    this.#pool = pool;
    this.#randomBytes = randomBytes;
  }

  /** Keeps a text until a time. Gives what it is taken with. */
  async put(secret: string, expiresAt: number, now: number): Promise<string> {
    const key = this.#randomBytes(KEY_BYTES);
    const nonce = this.#randomBytes(NONCE_BYTES);
    const cipher = createCipheriv("aes-256-gcm", derived(key, "seal"), nonce);
    const sealed = Buffer.concat([nonce, cipher.update(secret, "utf8"), cipher.final(), cipher.getAuthTag()]);
    const insert = () =>
      this.#pool.query(
        `with ended as (
           delete from jobs.one_time_secrets where id in (
             select id from jobs.one_time_secrets where expires_at <= $4 limit ${MAX_SWEPT} for update skip locked))
         insert into jobs.one_time_secrets (id, sealed, expires_at) values ($1, $2, $3)`,
        [derived(key, "id"), sealed, expiresAt, now],
      );
    try {
      await insert();
    } catch (error) {
      if (!hasCode(error, UNDEFINED_TABLE)) throw error;
      await setUpInTransaction(this.#pool, LOCKS.jobTables, (client) => client.query(CREATE));
      await insert();
    }
    return Buffer.from(key).toString("base64url");
  }

  /** The text, once and before its time is over; undefined for whatever else is given. */
  async take(handle: string, now: number): Promise<string | undefined> {
    if (!HANDLE.test(handle)) return undefined;
    const key = Buffer.from(handle, "base64url");
    const row = await this.#delete(derived(key, "id"));
    // fence: one-time-expiry
    if (row === undefined || Number(row.expires_at) <= now) return undefined;
    const decipher = createDecipheriv("aes-256-gcm", derived(key, "seal"), row.sealed.subarray(0, NONCE_BYTES));
    decipher.setAuthTag(row.sealed.subarray(-TAG_BYTES));
    return decipher.update(row.sealed.subarray(NONCE_BYTES, -TAG_BYTES), undefined, "utf8") + decipher.final("utf8");
  }

  /** Of all who delete a row at once, one gets it. */
  async #delete(id: Buffer): Promise<{ readonly sealed: Buffer; readonly expires_at: string } | undefined> {
    try {
      const { rows } = await this.#pool.query(
        "delete from jobs.one_time_secrets where id = $1 returning sealed, expires_at",
        [id],
      );
      return rows[0];
    } catch (error) {
      if (hasCode(error, UNDEFINED_TABLE)) return undefined; // nothing was ever put
      throw error;
    }
  }
}

const derived = (key: Uint8Array, use: string): Buffer => createHmac("sha256", key).update(use).digest();
