// Calling the server as its users do.
import { setTimeout as sleep } from "node:timers/promises";

// biome-ignore lint/suspicious/noExplicitAny: tests look into answers freely
export type Body = any;
export type Answer = { readonly status: number; readonly body: Body; readonly headers: Headers };
/** What a refusal says, for comparing. */
export const codeOf = ({ status, body }: Answer) => [status, body?.code];

export type Api = {
  readonly url: string;
  readonly key: string | undefined;
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  get(path: string, headers?: Record<string, string>): Promise<Answer>;
  post(path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  put(path: string, body?: unknown): Promise<Answer>;
  patch(path: string, body?: unknown): Promise<Answer>;
  delete(path: string): Promise<Answer>;
  /** The same server with another credential. */
  as(key: string): Api;
};

/** Calls below `/api/v1` with a key or token; `always` are headers of each. */
export function apiOf(url: string, key?: string, always: Readonly<Record<string, string>> = {}): Api {
  const call: Api["call"] = async (method, path, body, headers = {}) => {
    const response = await fetch(`${url}/api/v1${path}`, {
      method,
      headers: {
        ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...always,
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, body: text === "" ? undefined : JSON.parse(text), headers: response.headers };
  };
  return {
    url,
    key,
    call,
    get: (path, headers) => call("GET", path, undefined, headers),
    post: (path, body, headers) => call("POST", path, body, headers),
    put: (path, body) => call("PUT", path, body),
    patch: (path, body) => call("PATCH", path, body),
    delete: (path) => call("DELETE", path),
    as: (other) => apiOf(url, other, always),
  };
}

/** Registers a client and gives its API. */
export async function newClient(
  url: string,
  name = "My App",
  always: Readonly<Record<string, string>> = {},
): Promise<Api & { readonly id: string; readonly secret: string }> {
  const { status, body } = await apiOf(url, undefined, always).post("/clients", { name });
  if (status !== 201) throw new Error(`registration: ${status} ${JSON.stringify(body)}`);
  return { ...apiOf(url, body.api_key, always), id: body.id, secret: body.webhook_secret };
}

/** A token of one of the client's users. */
export async function tokenOf(api: Api, user: string): Promise<string> {
  const { status, body } = await api.post(`/users/${user}/tokens`, {});
  if (status !== 201) throw new Error(`token: ${status} ${JSON.stringify(body)}`);
  return body.token;
}

/** The mails in the development mailbox, newest first. */
export async function mails(url: string, to?: string): Promise<Body[]> {
  const query = to === undefined ? "" : `?to=${encodeURIComponent(to)}`;
  const response = await fetch(`${url}/dev/mailbox${query}`, { headers: { accept: "application/json" } });
  return ((await response.json()) as Body).data;
}

/** Asks until the answer is as wanted; the last answer otherwise. */
export async function until<T>(ask: () => Promise<T>, wanted: (answer: T) => boolean, timeoutMs = 30_000): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (wanted(answer) || performance.now() > deadline) return answer;
    await sleep(25);
  }
}

/** A notification once it reads as wanted. */
export const notificationUntil = async (
  api: Api,
  id: string,
  wanted: (body: Body) => boolean,
  timeoutMs?: number,
): Promise<Body> =>
  (
    await until(
      () => api.get(`/notifications/${id}`),
      (answer) => wanted(answer.body),
      timeoutMs,
    )
  ).body;
