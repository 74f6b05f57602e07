// Talking to a server as its users do, with every word that comes back kept for a search.
import { type Body, until } from "../../e2e/support/api.ts";
import { type RawRequest, raw } from "../../support/raw.ts";
import { type Received, SocketClient } from "../../support/socket-client.ts";

/** Answers that are there to show a secret: a place of their own each. All others that succeed are one. */
export const SHOWN = [
  "POST /clients",
  "POST /clients/me/keys/{id}/rotate",
  "GET /clients/me/webhook-secret",
  "POST /clients/me/webhook-secret/rotate",
  "POST /users/{id}/tokens",
  "POST /tickets",
] as const;

type Options = {
  readonly as?: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Default: any that succeeds. */
  readonly status?: number | "any";
};

export class Talk {
  readonly url: string;
  /** By place. */
  readonly heard = new Map<string, Buffer[]>();
  readonly #sockets: SocketClient[] = [];

  constructor(url: string) {
    this.url = url;
  }

  /** Calls the API, or a page at the root. Throws when the answer has another status. */
  async call(method: string, path: string, { as, body, headers = {}, status }: Options = {}): Promise<Body> {
    const sent: RawRequest = {
      method,
      headers: {
        host: new URL(this.url).host,
        ...(as === undefined ? {} : { authorization: `Bearer ${as}` }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    };
    const isPage = /^\/(?:livez|readyz|metrics|(?:open|async)api\.json|dev\/mailbox)/.test(path);
    const answer = await raw(this.url, isPage ? path : `/api/v1${path}`, sent);
    const place = answer.status >= 400 ? "errors" : isPage ? "operators' pages" : placeOf(method, path);
    this.note(place, JSON.stringify(answer.headers), answer.text);
    if (status === undefined ? answer.status >= 400 : status !== "any" && answer.status !== status) {
      throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
    }
    return answer.body;
  }

  /** The answer to a GET once it is as wanted. */
  async once(path: string, as: string, wanted: (body: Body) => boolean): Promise<Body> {
    const found = await until(() => this.call("GET", path, { as }), wanted);
    if (!wanted(found)) throw new Error(`GET ${path}: never as wanted: ${JSON.stringify(found)}`);
    return found;
  }

  socket(path = "/ws", headers: Readonly<Record<string, string>> = {}): SocketClient {
    const socket = new SocketClient(this.url.replace("http", "ws") + path, headers);
    this.#sockets.push(socket);
    return socket;
  }

  note(place: string, ...texts: readonly string[]): void {
    this.heard.set(place, [...(this.heard.get(place) ?? []), Buffer.from(texts.join("\n"))]);
  }

  /** Cuts the sockets; their frames are heard from then on. */
  end(): void {
    const place = (frame: Received) => (frame.type === "error" ? "errors" : "frames");
    for (const socket of this.#sockets.splice(0)) {
      for (const frame of socket.frames) this.note(place(frame), JSON.stringify(frame));
      socket.cut();
    }
  }
}

function placeOf(method: string, path: string): string {
  const template = (path.split("?")[0] ?? "")
    .replace(/\/keys\/[^/]+/, "/keys/{id}")
    .replace(/^\/users\/[^/]+/, "/users/{id}");
  return SHOWN.find((shown) => shown === `${method} ${template}`) ?? "answers";
}
