// A node that stops, as connections see it that are kept open.
import { Agent, request } from "node:http";
import type { AddressInfo } from "node:net";
import { pino } from "pino";
import { expect, onTestFinished, test } from "vitest";
import { createWaitingServer } from "../../../src/api/http/app.ts";
import { readConfig } from "../../../src/config.ts";

test("what comes after it is refused, and the connection ends with the answer", async () => {
  const services = { config: readConfig({}), logger: pino({ level: "silent" }), newId: () => "request" };
  const { server, open, shut } = createWaitingServer(services);
  const underWay = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  open(async (req, response) => {
    const isSlow = req.url === "/slow";
    if (isSlow) asked.resolve();
    if (isSlow) await underWay.promise;
    response.end(isSlow ? "finished" : "served");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.closeAllConnections());
  const { port } = server.address() as AddressInfo;
  const [first, second] = [0, 1].map(() => new Agent({ keepAlive: true, maxSockets: 1 }));
  const get = (agent: Agent | undefined, path: string) =>
    new Promise<{ status: number | undefined; connection: string | undefined; body: string }>((resolve, reject) => {
      const asking = request({ port, path, agent }, (response) => {
        const { statusCode: status, headers } = response;
        let body = "";
        response.on("data", (chunk) => {
          body += chunk;
        });
        response.on("end", () => resolve({ status, connection: headers.connection, body }));
      });
      asking.on("error", reject).end();
    });

  expect(await get(first, "/")).toEqual({ status: 200, connection: "keep-alive", body: "served" });
  const slow = get(second, "/slow");
  await asked.promise;
  const closed = new Promise((resolve) => server.once("close", resolve));
  shut();
  const refused = await get(first, "/");
  expect(refused).toMatchObject({ status: 503, connection: "close" });
  expect(JSON.parse(refused.body)).toMatchObject({ code: "unavailable", detail: "The server is stopping. Try again." });
  expect((await get(first, "/livez")).status).toBe(200);
  expect((await get(first, "/readyz")).status).toBe(503);
  underWay.resolve();
  expect(await slow).toMatchObject({ status: 200, body: "finished" });
  server.close();
  await closed;
});
