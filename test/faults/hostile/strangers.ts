// Requests of callers whom the server does not know: with credentials that are none, and by names that are not its own.
import { randomBytes } from "node:crypto";
import { makeApiKey } from "../../../src/app/credentials.ts";
import type { Refused } from "./answers.ts";
import type { Operation, Scene } from "./scene.ts";

const json = { "content-type": "application/json" };

/** No credential, wrong ones, in the wrong place, a user's where a key is needed: of every operation. */
export function wrongCredentials(scene: Scene, operations: readonly Operation[]): readonly Refused[] {
  const { key: sent = "" } = scene.api;
  const last = sent.endsWith("0") ? "1" : "0";
  const wrong: Record<string, string>[] = [
    {},
    { authorization: "Bearer" },
    { authorization: sent },
    { authorization: `Basic ${Buffer.from(`${sent}:`).toString("base64")}` },
    { authorization: `Bearer ${sent.slice(0, -1)}${last}` },
    { authorization: `Bearer ${sent.slice(0, -1)}` },
    { authorization: `Bearer ${sent}0` },
    { authorization: `Bearer ${sent.toUpperCase()}` },
    { authorization: `Bearer ${scene.token.slice(0, -3)}` },
    { authorization: `Bearer ${scene.token.split(".").with(2, "").join(".")}` },
    { authorization: "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9." },
    { authorization: `Bearer ${"x".repeat(10_000)}` },
    { "x-api-key": `${sent}x` },
    { cookie: `api_key=${sent}` },
  ];
  const header = ["www-authenticate", "Bearer"] as const;
  const refused = { status: 401, code: "unauthenticated", header };
  const all = operations.flatMap(({ method, template, path }): Refused[] => {
    if (template === "/api/v1/clients") return [];
    return [
      ...wrong.map((headers) => ({ method, path, headers, ...refused })),
      ...["api_key", "key", "token", "access_token"].map((name) => {
        const value = name === "token" ? scene.token : sent;
        return { method, path: `${path}?${name}=${value}`, headers: {}, ...refused };
      }),
    ];
  });
  // Of a well-formed key only the log can say that it is none.
  const unknown = { authorization: `Bearer ${makeApiKey(randomBytes(32))}` };
  const forbidden = operations.flatMap(({ method, template, path }): Refused[] => {
    const isClients = /^\/api\/v1\/(clients\/|notifications|email-providers|audit)/.test(template);
    const isToken = template.endsWith("/tokens") || (method === "GET" && template === "/api/v1/users");
    const headers = { authorization: `Bearer ${scene.token}`, ...json };
    return isClients || isToken ? [{ method, path, headers, status: 403, code: "forbidden" }] : [];
  });
  if (forbidden.length <= 15) throw new Error("few operations are for keys alone");
  return [
    ...all,
    ...forbidden,
    { method: "GET", path: "/api/v1/clients/me", headers: unknown, ...refused },
    { method: "GET", path: "/api/v1/nope", headers: {}, ...refused },
    { method: "PUT", path: "/api/v1/rooms", headers: {}, ...refused },
  ];
}

/** Requests by hosts that are not the server's, and of pages of other origins. `key`: a header that is let in. */
export function othersHostsAndOrigins(key: Readonly<Record<string, string>>): readonly Refused[] {
  const hosts = ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[::2]", "a b", "@"];
  const paths = ["/livez", "/api/v1/rooms", "/api/v1/nope", "/docs", "/dev/mailbox", "/nope"];
  const foreign = hosts.flatMap((host) =>
    paths.map((path): Refused => {
      return { method: "GET", path, headers: { ...key, host }, status: 421, code: "unknown_host" };
    }),
  );
  const origins = ["https://evil.example", "null", "http://localhost:1", "", "file://"].flatMap((origin): Refused[] => {
    const refused = { status: 403, code: "forbidden" };
    const headers = { ...json, origin };
    return [
      { method: "POST", path: "/api/v1/clients", headers, body: '{"name":"Evil"}', ...refused },
      { method: "DELETE", path: "/dev/mailbox", headers, ...refused },
    ];
  });
  return [...foreign, ...origins];
}
