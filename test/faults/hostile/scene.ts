// What hostile input meets: clients with one of everything, and the operations of a server as its own document tells them.
import { type Api, type Body, newClient, tokenOf, until } from "../../e2e/support/api.ts";
import type { Schema } from "./schemas.ts";

/** The X-Request-Id of all that the suite itself asks for. */
export const SOUND = "sound";
/** Beyond what any of this takes, and within a year. */
export const LATER = new Date(Date.now() + 300 * 86_400_000).toISOString();
/** Messages that grow in a scene: those that end leave others. */
const GROWING = 8;

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

export type Scene = {
  readonly api: Api & { readonly id: string };
  /** Of alice, a member of its room. */
  readonly token: string;
  /** As paths name them. */
  readonly ids: Ids;
  /** Messages of alice's that grow, until something ends them. */
  readonly growing: readonly string[];
  readonly host: string;
};
type Ids = Readonly<Record<string, string>>;

export async function openScene(url: string): Promise<Scene> {
  const api = await newClient(url, "My App", { "x-request-id": SOUND });
  const ids = await idsOf(api);
  const begin = async (): Promise<string> => {
    const message = { sender_id: "alice", content: "Hello", state: "growing" };
    return (await api.post(`/rooms/${ids.room_id}/messages`, message)).body.id;
  };
  const growing = await Promise.all(Array.from({ length: GROWING }, begin));
  const host = new URL(url).host;
  return { api, ids: { ...ids, growing_id: growing[0] ?? "" }, growing, token: await tokenOf(api, "alice"), host };
}

/** Makes one of everything; the ids as paths name them. */
async function idsOf(api: Api): Promise<Ids> {
  const { body: room } = await api.post("/rooms", { name: "General", members: [{ user_id: "alice" }] });
  const { body: message } = await api.post(`/rooms/${room.id}/messages`, { sender_id: "alice", content: "Hello" });
  const { body: scheduled } = await api.post(`/rooms/${room.id}/messages`, {
    ...{ sender_id: "alice", content: "Later", send_at: LATER },
  });
  const email = { type: "email", to_email: "a@example.com", subject: "Hi", content: "Hello" };
  const { body: notification } = await api.post("/notifications", { ...email, send_at: LATER });
  const { body: me } = await api.get("/clients/me");
  const config = { host: "127.0.0.1", port: 1, security: "none" };
  await api.put("/email-providers/mailer", { type: "smtp", config, from_email: "a@b.example" });
  const hook = { url: "http://127.0.0.1:8099/hook", events: ["provider.*"] };
  const { body: endpoint } = await api.post("/webhooks", hook);
  const { body: told } = await api.post("/notifications", { type: "websocket", user_ids: ["alice"], content: "Hello" });
  const delivery = told.deliveries[0].id;
  await until(
    () => api.get(`/deliveries/${delivery}`),
    ({ status }) => status === 200,
  );
  await api.put("/suppressions/gone@example.com", {});
  const { body: redrive } = await api.post("/deliveries/redrive", {});
  await until(
    () => api.get(`/redrives/${redrive.job_id}`),
    ({ status }) => status === 200,
  );
  return {
    endpoint_id: endpoint.id,
    webhook_delivery_id: delivery,
    job_id: redrive.job_id,
    email: "gone@example.com",
    room_id: room.id,
    message_id: message.id,
    scheduled_id: scheduled.id,
    emoji: "%F0%9F%91%8D",
    notification_id: notification.id,
    delivery_id: delivery,
    key_id: me.key.id,
    user_id: "alice",
    name: "mailer",
    stream: "client",
  };
}

/** Whether only a user's token is let in. */
export const needsToken = ({ template }: Operation): boolean => template.endsWith("/ack");

/** The credential that an operation lets in. */
export function admitted(operation: Operation, { api, token }: Scene): Readonly<Record<string, string>> {
  if (operation.template === "/api/v1/clients") return {};
  return { authorization: `Bearer ${needsToken(operation) ? token : api.key}` };
}

const codesOf = ({ content }: Body): readonly string[] =>
  content?.["application/problem+json"]?.schema.allOf[1].properties.code.enum ?? [];

const WITH_BODY = ["post", "put", "patch"];

/** What a name in a path stands for: to a growing message one appends, and that one ends. */
export const idIn = (template: string, name: string, ids: Ids): string | undefined =>
  ids[name === "message_id" && /\/(append|complete|cancel)$/.test(template) ? "growing_id" : name];

/** The operations of the server's document, with these ids. */
export async function operationsOf(url: string, ids: Ids): Promise<readonly Operation[]> {
  const document = (await (await fetch(`${url}/openapi.json`)).json()) as Body;
  return Object.entries<Body>(document.paths).flatMap(([template, methods]) =>
    Object.entries<Body>(methods).map(([method, { requestBody, parameters, responses }]): Operation => {
      const body = requestBody?.content["application/json"].schema ?? { type: "object", properties: {} };
      return {
        method: method.toUpperCase(),
        template,
        path: template.replaceAll(/\{([a-z_]+)\}/g, (_all, name: string) => idIn(template, name, ids) ?? "missing"),
        schema: WITH_BODY.includes(method) ? body : undefined,
        query: new Map(parameters.flatMap((one: Body) => (one.in === "query" ? [[one.name, one.schema]] : []))),
        headers: parameters.flatMap((one: Body) => one.$ref?.split("/").at(-1) ?? []),
        answers: new Map(Object.entries<Body>(responses).map(([status, said]) => [Number(status), codesOf(said)])),
      };
    }),
  );
}

/** Whether it may leave its scene without what other inputs need: keys, tokens, rooms, members. */
const usesUp = ({ method, template }: Operation): boolean =>
  method === "DELETE" || /\/(rotate|tokens|deactivate|complete|cancel|send-now)$/.test(template);

const nameOf = (operation: Operation): string =>
  usesUp(operation) ? `${operation.method} ${operation.template}` : "all others";

/** The scenes of a run: one for all operations that use nothing up, for each other one its own, made anew once used up. */
export class Scenes {
  readonly #url: string;
  readonly #open = new Map<string, Promise<Scene>>();

  constructor(url: string) {
    this.#url = url;
  }

  of(operation: Operation): Promise<Scene> {
    const name = nameOf(operation);
    const scene = this.#open.get(name) ?? openScene(this.#url);
    this.#open.set(name, scene);
    return scene;
  }

  /** It was carried out. */
  spend(operation: Operation): void {
    if (usesUp(operation)) this.#open.delete(nameOf(operation));
  }

  /** All are made anew. */
  clear(): void {
    this.#open.clear();
  }
}
