// A server with one of everything in it, and its operations as its own document tells them.
import { expect } from "vitest";
import { type Api, type Body, newClient, tokenOf, until } from "./api.ts";
import type { Schema } from "./bad-bodies.ts";
import { type Refused, refuseAll } from "./refusals.ts";
import { dataFolder, startServer } from "./server.ts";

/** One operation of the document. */
export type Operation = {
  readonly method: string;
  readonly template: string;
  /** The same with ids that exist. */
  readonly path: string;
  /** Of the body; undefined when none is looked at. */
  readonly schema: Schema | undefined;
  /** The query's parameters by name. */
  readonly query: ReadonlyMap<string, Schema>;
  /** Names of the headers that it takes, as components of the document. */
  readonly headers: readonly string[];
  /** The codes of problems that it may answer with, by status; none for a success. */
  readonly answers: ReadonlyMap<number, readonly string[]>;
};

export type Stage = {
  readonly url: string;
  readonly api: Api;
  readonly key: Readonly<Record<string, string>>;
  /** Of the user `alice`. */
  readonly token: string;
  readonly operations: readonly Operation[];
  /** The credential that an operation lets in. */
  admitted(operation: Operation): Readonly<Record<string, string>>;
  /** Sends them all, expects each to be refused as it says, and the log to be as it was. */
  check(all: readonly Refused[]): Promise<void>;
};

const MANY_DAYS_MS = 300 * 86_400_000;

/** Makes one of everything; the ids as paths name them. */
export async function idsOf(api: Api): Promise<Readonly<Record<string, string>>> {
  const { body: room } = await api.post("/rooms", { name: "General", members: [{ user_id: "alice" }] });
  const { body: message } = await api.post(`/rooms/${room.id}/messages`, { sender_id: "alice", content: "Hello" });
  const email = { type: "email", to_email: "a@example.com", subject: "Hi", content: "Hello" };
  const send_at = new Date(Date.now() + MANY_DAYS_MS).toISOString();
  const { body: notification } = await api.post("/notifications", { ...email, send_at });
  const { body: me } = await api.get("/clients/me");
  const config = { host: "127.0.0.1", port: 1, security: "none" };
  await api.put("/email-providers/mailer", { type: "smtp", config, from_email: "a@b.example" });
  return {
    room_id: room.id,
    message_id: message.id,
    notification_id: notification.id,
    delivery_id: notification.deliveries[0].id,
    key_id: me.key.id,
    user_id: "alice",
    name: "mailer",
    stream: "client",
  };
}

const codesOf = ({ content }: Body): readonly string[] =>
  content?.["application/problem+json"]?.schema.allOf[1].properties.code.enum ?? [];

const WITH_BODY = ["post", "put", "patch"];

/** The operations of the server's document, with these ids. */
export async function operationsOf(url: string, ids: Readonly<Record<string, string>>): Promise<readonly Operation[]> {
  const document = (await (await fetch(`${url}/openapi.json`)).json()) as Body;
  return Object.entries<Body>(document.paths).flatMap(([template, methods]) =>
    Object.entries<Body>(methods).map(([method, { requestBody, parameters, responses }]): Operation => {
      const body = requestBody?.content["application/json"].schema ?? { type: "object", properties: {} };
      return {
        method: method.toUpperCase(),
        template,
        path: template.replaceAll(/\{([a-z_]+)\}/g, (_whole, name: string) => ids[name] ?? "missing"),
        schema: WITH_BODY.includes(method) ? body : undefined,
        query: new Map(parameters.flatMap((one: Body) => (one.in === "query" ? [[one.name, one.schema]] : []))),
        headers: parameters.flatMap((one: Body) => one.$ref?.split("/").at(-1) ?? []),
        answers: new Map(Object.entries<Body>(responses).map(([status, said]) => [Number(status), codesOf(said)])),
      };
    }),
  );
}

/** Where the log ends, by the read model once it has all of it. */
async function endOfLog(url: string): Promise<string> {
  const readModels = async () => ((await (await fetch(`${url}/readyz`)).json()) as Body).parts.read_models;
  const { lag, checkpoint } = await until(readModels, (one) => one.lag === 0);
  expect(lag).toBe(0);
  return checkpoint;
}

async function countEvents(api: Api): Promise<number> {
  let count = 0;
  for (let cursor = ""; ; ) {
    const { body } = await api.get(`/audit/events?limit=100${cursor === "" ? "" : `&cursor=${cursor}`}`);
    count += body.data.length;
    if (body.next_cursor === null) return count;
    cursor = encodeURIComponent(body.next_cursor);
  }
}

/** Starts a server of its own, which ends with the stack. */
export async function setStage(stack: AsyncDisposableStack): Promise<Stage> {
  const folder = stack.use(await dataFolder());
  const { url } = stack.use(await startServer({ dataDir: folder.path }));
  const api = await newClient(url);
  const token = await tokenOf(api, "alice");
  const key = { authorization: `Bearer ${api.key}` };
  const operations = await operationsOf(url, await idsOf(api));
  return {
    url,
    api,
    key,
    token,
    operations,
    admitted({ template }) {
      if (template === "/api/v1/clients") return {};
      return template.startsWith("/api/v1/deliveries/") ? { authorization: `Bearer ${token}` } : key;
    },
    async check(all) {
      const before = [await countEvents(api), await endOfLog(url)];
      expect(await refuseAll(url, all)).toEqual([]);
      expect([await countEvents(api), await endOfLog(url)]).toEqual(before);
    },
  };
}
