// A problem written straight to a connection, where no response can be had: it is the last that the connection says.
import { STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import type { Config } from "../../config.ts";
import { PROBLEMS } from "../../contract/errors.ts";
import { headersOfAll } from "./headers.ts";
import { type Problem, problemBody } from "./problems.ts";

/** How long what still comes in is thrown away, so that the answer is not lost to a reset. */
const LINGER_MS = 500;

/** Answers and ends the connection. */
export function answerPlainly(
  socket: Duplex,
  problem: Problem,
  { publicUrl }: Pick<Config, "publicUrl">,
  requestId: string,
): void {
  const body = JSON.stringify(problemBody(problem, publicUrl ?? "http://localhost", requestId));
  const { status } = PROBLEMS[problem.code];
  const headers = {
    ...problem.headers,
    "Content-Type": "application/problem+json; charset=utf-8",
    "Content-Length": String(Buffer.byteLength(body)),
    ...headersOfAll(requestId),
    Connection: "close",
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Refused"}\r\n${lines.join("")}\r\n${body}`);
  endSoon(socket);
}

/** Ends a connection of which nothing more is read, once what was written has left. */
export function endSoon(socket: Duplex): void {
  socket.end();
  socket.resume();
  const cut = setTimeout(() => socket.destroy(), LINGER_MS);
  cut.unref();
  socket.once("close", () => clearTimeout(cut));
}
