// A server all of whose links go through proxies: to what it stands on, to those it sends to, and from its clients.
import { type Api, apiOf, type Body } from "../../e2e/support/api.ts";
import { ADMIN_KEY, registeredClient } from "../../e2e/support/setups.ts";
import { missingRedis, testRedis } from "../../support/redis.ts";
import { History } from "./failpoint-history.ts";
import type { Receivers } from "./failpoint-receivers.ts";
import { type Node, openScene, type Scene, type SetupName } from "./failpoint-scene.ts";
import { proxyTo, type TcpProxy } from "./proxy.ts";

export const LINKS = ["postgres", "eventstoredb", "redis", "smtp", "webhooks", "clients"] as const;
export type LinkName = (typeof LINKS)[number];

export type Network = AsyncDisposable & {
  readonly scene: Scene;
  readonly node: Node;
  readonly links: ReadonlyMap<LinkName, TcpProxy>;
  /** Where webhooks are sent: behind the proxy. */
  readonly receivers: Receivers;
  /** Of the server, behind the proxy and in front of it. */
  readonly url: string;
  readonly directUrl: string;
  readonly key: string;
  readonly history: History;
};

/** Deliveries go on trying for longer than a fault lasts. */
const PATIENT = { RETRY_SCHEDULE: "1s,1s,2s,2s,4s,4s,4s", RETRY_JITTER: "0" };

export async function openNetwork(setup: Exclude<SetupName, "embedded">): Promise<Network> {
  await using open = new AsyncDisposableStack();
  const scene = open.use(await openScene(setup, PATIENT));
  const links = new Map<LinkName, TcpProxy>();
  const through = async (name: LinkName, target: string): Promise<TcpProxy> => {
    const proxy = open.use(await proxyTo(target));
    links.set(name, proxy);
    return proxy;
  };
  const own: Record<string, string> = {
    DATABASE_URL: (await through("postgres", await scene.databaseUrl())).url,
  };
  if (missingRedis === undefined) {
    const redis = open.use(await testRedis());
    own.REDIS_URL = (await through("redis", redis.url)).url;
  } else console.log(missingRedis);
  const { EVENTSTORE_URL } = scene.env;
  if (EVENTSTORE_URL !== undefined) own.EVENTSTORE_URL = (await through("eventstoredb", EVENTSTORE_URL)).url;
  const { mailbox, hook } = scene.receivers;
  const smtp = await through("smtp", `smtp://${mailbox.host}:${mailbox.port}`);
  const webhooks = await through("webhooks", hook("/"));
  const node = open.use(scene.launch(undefined, own));
  const directUrl = await node.ready;
  if (directUrl === undefined) throw new Error(`the node ended: ${(await node.ended).output}`);
  const clients = await through("clients", directUrl);
  const { key = "" } = await registeredClient(directUrl, { ...mailbox, port: smtp.port });
  const receivers = { ...scene.receivers, hook: (path: string) => new URL(path, webhooks.url).href };
  const url = clients.url.replace(/\/$/, "");
  const moved = open.move();
  return {
    ...{ scene, node, links, receivers, url, directUrl, key, history: new History(key) },
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

/** No request of a client may take longer, whatever is wrong behind the server. */
const ANSWER_MS = 45_000;

/** Calls that are looked at: what hangs, and what is answered with a fault of the server's own, goes to `faults`. */
export function watchedApi(url: string, key: string, faults: string[]): Api {
  const api = apiOf(url, key);
  const call: Api["call"] = async (method, path, body, headers) => {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        faults.push(`${method} ${path} had no answer after ${ANSWER_MS} ms`);
        reject(new Error("no answer"));
      }, ANSWER_MS);
    });
    try {
      const answer = await Promise.race([api.call(method, path, body, headers), late]);
      const isClear = answer.status < 500 || (answer.status === 503 && typeof answer.body?.code === "string");
      if (!isClear) faults.push(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
      return answer;
    } finally {
      clearTimeout(timer);
    }
  };
  return {
    ...{ url, key, call },
    get: (path, headers) => call("GET", path, undefined, headers),
    post: (path, body, headers) => call("POST", path, body, headers),
    put: (path, body) => call("PUT", path, body),
    patch: (path, body) => call("PATCH", path, body),
    delete: (path) => call("DELETE", path),
    as: (other) => watchedApi(url, other, faults),
  };
}

/** What is not ready, as its operator is told; undefined when everything is. */
export async function notReady(url: string): Promise<Body | undefined> {
  const response = await fetch(`${url}/readyz`, { headers: { authorization: `Bearer ${ADMIN_KEY}` } });
  return response.ok ? undefined : await response.json();
}
