// Bodies that come slowly, or never to their end.
import type { Speaker } from "./hostile-bytes.ts";
import { pick, seeded } from "./random.ts";

/** A body that is given up on its way, or comes in small pieces. */
export type SlowInput = {
  readonly pieces: readonly Buffer[];
  readonly end: "cut" | "half-closed" | "whole";
  readonly id: string;
};

/** The nth body of a seed that takes its time. */
export function slowInput(seed: number, nth: number, { host, key }: Speaker): SlowInput {
  const random = seeded(seed + nth * 104_729);
  const id = `slow${seed}-${nth}`;
  const body = JSON.stringify({ name: "Slow", description: "x".repeat(random.below(2_000)) });
  const lines = [`Host: ${host}`, `X-API-Key: ${key}`, "Content-Type: application/json", `X-Request-Id: ${id}`];
  const isChunked = random.below(2) === 0;
  const framing = isChunked ? "Transfer-Encoding: chunked" : `Content-Length: ${body.length}`;
  const framed = isChunked ? `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n` : body;
  const bytes = Buffer.from(`${["POST /api/v1/rooms HTTP/1.1", ...lines, framing].join("\r\n")}\r\n\r\n${framed}`);
  const end = pick(random, ["cut", "half-closed", "whole"] as const);
  const upTo = end === "whole" ? bytes.length : random.below(bytes.length - 1) + 1;
  const size = Math.ceil(upTo / (2 + random.below(6)));
  const pieces = [];
  for (let at = 0; at < upTo; at += size) pieces.push(bytes.subarray(at, Math.min(upTo, at + size)));
  return { pieces, end, id };
}
