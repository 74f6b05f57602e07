// Requests that come on one connection without waiting for answers: taken up one after the other, as they are answered.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** Of each connection the answer to the last request whose head could be read: answers leave in the order of requests. */
const last = new WeakMap<Duplex, ServerResponse>();

/** The answer, under way or given, behind which anything else that the connection is told must wait. */
export const lastAnswer = (socket: Duplex): ServerResponse | undefined => last.get(socket);

/**
 * Node takes up all that a packet holds at once, hundreds of requests, whose answers would wait in memory for one that
 * may never be read. With this each waits for the one before to have been taken by its reader.
 */
export function inOrder(handle: Handler): Handler {
  return (request, response) => {
    const { socket } = request;
    const before = last.get(socket);
    last.set(socket, response);
    // fence: answers-in-order
    if (before === undefined || before.writableFinished) handle(request, response);
    else before.once("close", () => socket.destroyed || handle(request, response));
  };
}
