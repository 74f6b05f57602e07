// The naive path: the same routes' checks for posting a message, on plain tables, one transaction each.
import { createHash, randomBytes, randomUUID } from "node:crypto";
import type { IncomingMessage, Server } from "node:http";
import type { AddressInfo } from "node:net";
import pg from "pg";
import { z } from "zod";
import { serveCalls } from "../support/process.ts";
import { loadRival } from "../support/rival.ts";

/** What is used here of koa. */
type Context = {
  readonly req: IncomingMessage;
  readonly path: string;
  readonly method: string;
  status: number;
  body: unknown;
  get(header: string): string;
  set(header: string, value: string): void;
};
type App = {
  use(middleware: (ctx: Context, next: () => Promise<void>) => Promise<void>): void;
  listen(port: number, host: string): Server;
};
const { default: Koa } = (await loadRival("koa")) as { default: new () => App };

const CONNECTIONS = 32;
const MAX_BODY = 1024 * 1024;

const SCHEMA = `
  create table api_keys (hash text primary key, client text not null, expires_at timestamptz);
  create table rooms (id text primary key, client text not null, active boolean not null default true,
    deleted boolean not null default false, seq integer not null default 0, message_count integer not null default 0,
    updated_at timestamptz not null default now());
  create table members (room_id text not null references rooms, user_id text not null, role text not null, name text,
    primary key (room_id, user_id));
  create table messages (id text primary key, room_id text not null references rooms, seq integer not null,
    sender_id text not null, sender_name text, type text not null, content text not null, meta jsonb not null,
    reply_to text, created_at timestamptz not null default now(), unique (room_id, seq));
  create index on messages (room_id, sender_id, seq);
  create index on members (user_id);
  create index on rooms (client, updated_at);`;

const NewMessage = z.strictObject({
  sender_id: z.string().min(1).max(128),
  sender_name: z.string().min(1).max(200).nullish(),
  content: z.string().min(1).max(10_000),
  type: z
    .string()
    .regex(/^[a-z][a-z0-9_.-]*$/)
    .default("text"),
  meta: z.record(z.string(), z.unknown()).default({}),
  reply_to: z.string().nullish(),
});

class Refused extends Error {
  readonly status: number;
  constructor(status: number, code: string) {
    super(code);
    this.status = status;
  }
}

const PATH = /^\/api\/v1\/rooms\/([^/]+)\/messages$/;

type Setup = { readonly databaseUrl: string; readonly key: string; readonly rooms: Record<string, readonly string[]> };
const hashOf = (key: string) => createHash("sha256").update(key).digest("hex");

serveCalls({
  async start({ databaseUrl, key, rooms }: Setup): Promise<string> {
    const pool = new pg.Pool({ connectionString: databaseUrl, max: CONNECTIONS });
    await pool.query(SCHEMA);
    await pool.query("insert into api_keys values ($1, 'cli_1', null)", [hashOf(key)]);
    for (const [room, members] of Object.entries(rooms)) {
      await pool.query("insert into rooms (id, client) values ($1, 'cli_1')", [room]);
      await pool.query("insert into members select $1, unnest($2::text[]), 'member'", [room, members]);
    }
    const app = new Koa();
    app.use(async (ctx, next) => {
      try {
        await next();
      } catch (error) {
        ctx.status = error instanceof Refused ? error.status : 500;
        ctx.body = { code: error instanceof Refused ? error.message : "internal" };
      }
    });
    app.use(async (ctx) => {
      const room = PATH.exec(ctx.path)?.[1];
      if (room === undefined || ctx.method !== "POST") throw new Refused(404, "not_found");
      const body = NewMessage.safeParse(JSON.parse(await bodyOf(ctx.req)));
      if (!body.success) throw new Refused(422, "validation_failed");
      const token = /^Bearer (.+)$/.exec(ctx.get("authorization"))?.[1] ?? "";
      const message = await post(pool, hashOf(token), room, body.data);
      ctx.status = 201;
      ctx.set("Location", `${ctx.path}/${message.id}`);
      ctx.set("ETag", `"${message.seq}"`);
      ctx.set("X-Request-Id", randomUUID());
      ctx.body = message;
    });
    const server = app.listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  },
});

async function bodyOf(request: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.byteLength;
    if (bytes > MAX_BODY) throw new Refused(413, "body_too_large");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

async function post(pool: pg.Pool, hash: string, room: string, body: z.infer<typeof NewMessage>) {
  const client = await pool.connect();
  try {
    await client.query("begin");
    const key = await client.query<{ client: string }>({
      name: "key",
      text: "select client from api_keys where hash = $1 and (expires_at is null or expires_at > now())",
      values: [hash],
    });
    const owner = key.rows[0]?.client;
    if (owner === undefined) throw new Refused(401, "unauthenticated");
    // Locked, so that seqs have no gaps.
    const found = await client.query<{ active: boolean; seq: number }>({
      name: "room",
      text: "select active, seq from rooms where id = $1 and client = $2 and not deleted for update",
      values: [room, owner],
    });
    const state = found.rows[0];
    if (state === undefined) throw new Refused(404, "not_found");
    if (!state.active) throw new Refused(409, "room_inactive");
    const member = await client.query<{ role: string; name: string | null }>({
      name: "member",
      text: "select role, name from members where room_id = $1 and user_id = $2",
      values: [room, body.sender_id],
    });
    const sender = member.rows[0];
    if (sender === undefined) throw new Refused(403, "not_a_member");
    if (sender.role === "reader") throw new Refused(403, "read_only");
    const id = `msg_${randomBytes(16).toString("hex")}`;
    const seq = state.seq + 1;
    const name = body.sender_name ?? sender.name;
    const inserted = await client.query<{ created_at: Date }>({
      name: "message",
      text: "insert into messages values ($1, $2, $3, $4, $5, $6, $7, $8, $9) returning created_at",
      values: [id, room, seq, body.sender_id, name, body.type, body.content, body.meta, body.reply_to ?? null],
    });
    await client.query({
      name: "count",
      text: "update rooms set seq = $2, message_count = message_count + 1, updated_at = now() where id = $1",
      values: [room, seq],
    });
    await client.query("commit");
    const { sender_id, type, content, meta, reply_to = null } = body;
    const shown = { id, room_id: room, seq, sender_id, sender_name: name, type, content, meta, reply_to };
    return { ...shown, created_at: inserted.rows[0]?.created_at.toISOString(), edited_at: null, deleted_at: null };
  } catch (error) {
    await client.query("rollback");
    throw error;
  } finally {
    client.release();
  }
}
