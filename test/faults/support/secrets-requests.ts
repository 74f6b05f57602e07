// What is asked of a server beside the work: what it refuses, and everything that it shows.
import { randomBytes } from "node:crypto";
import { makeApiKey } from "../../../src/app/credentials.ts";
import type { Body } from "../../e2e/support/api.ts";
import { breakOff } from "../../support/raw.ts";
import type { Kept } from "./secrets-kept.ts";
import type { SecretReceivers } from "./secrets-receivers.ts";
import type { Talk } from "./secrets-talk.ts";

export type Run = {
  readonly talk: Talk;
  readonly kept: Kept;
  readonly receivers: SecretReceivers;
  readonly adminKey: string;
  readonly metricsToken: string;
  /** Stands on what the run leads to. */
  readonly requestId: string;
};

export type Person = { readonly id: string; readonly email: string; readonly tokens: readonly string[] };

/** Credentials that nobody gave out, and bodies and addresses that are not taken. */
export async function refuse(
  { talk, kept, adminKey, metricsToken, requestId }: Run,
  key: string,
  ann: Person,
): Promise<void> {
  const foreign = kept.keep("refused input", makeApiKey(randomBytes(32)));
  const wrong = () => kept.plain("refused input");
  const forged = `${ann.tokens[0]?.split(".")[0]}.${wrong()}.${wrong()}`;
  for (const as of [foreign, forged, wrong()]) {
    await talk.call("GET", "/clients/me", { as, status: 401 });
    await talk.socket("/ws", { authorization: `Bearer ${as}` }).closed();
    await talk.socket(`/ws?token=${as}`).closed();
  }
  const socket = talk.socket();
  await socket.opened();
  socket.send({ type: "auth", token: wrong() });
  await socket.closed();
  await talk.call("GET", "/email-providers", { as: ann.tokens[1] ?? "", status: 403 });

  const notification = { type: "webhook", url: `http://app:${wrong()}@127.0.0.1/`, content: "x" };
  await talk.call("POST", "/notifications", { as: key, body: notification, status: 422 });
  const config = { host: "127.0.0.1", port: 25, password: wrong() };
  await talk.call("PUT", "/email-providers/other", {
    as: key,
    body: { type: "smtp", config, from_email: "a@b.example" },
    status: 422,
  });
  await talk.call("PUT", `/users/${wrong()}`, { as: key, body: { email: wrong(), timezone: wrong() }, status: 422 });
  await talk.call("GET", `/users/${wrong()}`, { as: key, status: 404, headers: { "x-request-id": requestId } });
  await talk.call("POST", "/rooms", { as: key, body: `{"name":"${wrong()}`, status: 400 });

  await breakOff(talk.url, `GET /api/v1/rooms?${wrong()} HTP/9\r\nAuthorization: Bearer ${wrong()}\r\n\r\n`);

  await talk.call("GET", "/metrics", { as: wrong(), status: "any" });
  await talk.call("GET", "/metrics", { as: metricsToken });
  await talk.call("GET", "/readyz", { as: adminKey });
  await talk.call("GET", "/readyz");
  await talk.call("GET", "/openapi.json");
  await talk.call("GET", "/asyncapi.json");
}

/** Everything that can be looked at. */
export async function readAll({ talk }: Run, key: string, room: string, ann: Person): Promise<void> {
  const user = `/users/${encodeURIComponent(ann.id)}`;
  const lists = ["/clients/me", "/email-providers", "/email-providers/main", "/users", user, `${user}/rooms`, "/rooms"];
  const ofRoom = ["", "/members", "/presence", "/messages?include_deleted=true", "/reads"].map(
    (part) => `/rooms/${room}${part}`,
  );
  for (const path of [...lists, ...ofRoom, "/notifications", "/audit/streams/client/events"])
    await talk.call("GET", path, { as: key });
  await talk.call("GET", `/rooms/${room}/messages`, { as: ann.tokens[2] ?? "" });
  const { data } = await talk.call("GET", "/notifications", { as: key });
  for (const { id } of data) await talk.call("GET", `/notifications/${id}/timeline`, { as: key });
  for (let cursor: string | null = ""; cursor !== null; ) {
    const page: Body = await talk.call("GET", `/audit/events?limit=100${cursor === "" ? "" : `&cursor=${cursor}`}`, {
      as: key,
    });
    cursor = page.next_cursor;
  }
}
