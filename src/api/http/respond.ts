// The whole answer to a request, in one go.
import type { IncomingMessage, ServerResponse } from "node:http";

export type Whole = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Null for none at all. */
  readonly body: string | Uint8Array | null;
};

/** Sends it; to HEAD without its body. Does nothing when nobody is there any more. */
export function respond(request: IncomingMessage, response: ServerResponse, { status, headers, body }: Whole): void {
  if (response.destroyed) return; // writing to it would be an error that nobody hears
  if (body === null) {
    // Left to itself Node would say that it comes in chunks, of which there are none.
    response.writeHead(status, status === 204 ? headers : { ...headers, "Content-Length": "0" }).end();
    return;
  }
  response.writeHead(status, { ...headers, "Content-Length": String(Buffer.byteLength(body)) });
  response.end(request.method === "HEAD" ? undefined : body);
}
