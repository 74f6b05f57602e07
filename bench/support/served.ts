// A server in a process of its own, and the client, rooms and users that a benchmark needs on it.
import { randomBytes } from "node:crypto";
import type { ServerOptions } from "../processes/server.ts";
import { type BenchProcess, startProcess } from "./process.ts";

/** A ring for `ENCRYPTION_KEYS`. */
export const newEncryptionKey = (): string => randomBytes(32).toString("base64");

export type Served = AsyncDisposable & { readonly url: string; readonly process: BenchProcess };

/** Starts one and waits until it listens. */
export async function startServed(options: ServerOptions, flags: readonly string[] = []): Promise<Served> {
  const process = startProcess(new URL("../processes/server.ts", import.meta.url), flags);
  try {
    const url = await process.call<string>("start", options);
    return { url, process, [Symbol.asyncDispose]: () => process[Symbol.asyncDispose]() };
  } catch (error) {
    await process[Symbol.asyncDispose]();
    throw error;
  }
}

export type Api = {
  readonly key: string;
  readonly client: string;
  /** The body of a good answer; throws for any other. */
  call<T>(method: string, path: string, body?: unknown): Promise<T>;
};

/** Registers a client. */
export async function newApi(url: string): Promise<Api> {
  const registered = await call<{ id: string; api_key: string }>(url, undefined, "POST", "/clients", { name: "Bench" });
  return apiOf(url, registered.id, registered.api_key);
}

/** Calls with a client's key. */
export const apiOf = (url: string, client: string, key: string): Api => ({
  key,
  client,
  call: (method, path, body) => call(url, key, method, path, body),
});

async function call<T>(url: string, key: string | undefined, method: string, path: string, body?: unknown): Promise<T> {
  const response = await fetch(`${url}/api/v1${path}`, {
    method,
    headers: {
      "content-type": "application/json",
      ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return JSON.parse(text) as T;
}

/** A room of these users; gives its id. */
export async function newRoom(api: Api, users: readonly string[]): Promise<string> {
  const members = users.map((user_id) => ({ user_id }));
  const { id } = await api.call<{ id: string }>("POST", "/rooms", { name: "Room", members });
  return id;
}

export async function newToken(api: Api, user: string): Promise<string> {
  const { token } = await api.call<{ token: string }>("POST", `/users/${user}/tokens`, {});
  return token;
}
