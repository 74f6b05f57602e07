// What Node's own HTTP server reaches when it does nothing but read a JSON body and send it back: the ceiling of posting.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { serveCalls } from "../support/process.ts";

serveCalls({
  async start(): Promise<string> {
    const server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const body = JSON.stringify(JSON.parse(Buffer.concat(chunks).toString()));
        const headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) };
        response.writeHead(201, headers).end(body);
      });
    });
    await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  },
});
