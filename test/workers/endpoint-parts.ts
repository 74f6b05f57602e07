// Webhook endpoints of a world: making them, receiving what they get, and rooms whose events they get.
import { randomUUID } from "node:crypto";
import type { ClientId, EndpointId, RoomId } from "../../src/contract/ids.ts";
import { clientDecider, clientStream } from "../../src/domain/client.ts";
import type { EndpointCommand, EndpointSettings, EndpointStart } from "../../src/domain/endpoint.ts";
import { seal } from "../../src/domain/event.ts";
import { deriveTail } from "../../src/event-store/derived-ids.ts";
import { bodyOf, httpServer } from "../channels/servers.ts";
import type { Body } from "../e2e/support/api.ts";
import { until } from "../support/until.ts";
import type { World } from "./world.ts";

type Made = Partial<Omit<EndpointSettings, "url">> & { readonly url: string; readonly start?: EndpointStart };
type Steering = Extract<EndpointCommand["type"], "PauseEndpoint" | "ResumeEndpoint">;

/** Makes an endpoint as the API does; it gets every kind of event of rooms unless it says otherwise. */
export async function endpointOf(world: World, client: ClientId, { url, start, ...more }: Made): Promise<EndpointId> {
  const endpoint: EndpointId = `whk_${deriveTail("endpoint", randomUUID())}`;
  const settings: EndpointSettings = {
    ...{ url: seal(url), recipient: await world.keyring.subjectOfAddress(client, url), events: ["message.*"] },
    ...{ roomIds: null, filter: null, description: null, headers: seal([]), ordered: false, ratePerSecond: null },
    ...{ timeoutSeconds: 15, retrySchedule: null, ...more },
  };
  const secret = `whsec_${Buffer.alloc(24, 5).toString("base64")}`;
  const begins = start ?? { after: null, notBefore: null };
  const command = { type: "CreateEndpoint", at: Date.now(), endpoint, settings, secret, start: begins } as const;
  await world.commands.execute(clientDecider, clientStream(client), command, world.context(client));
  return endpoint;
}

export const steer = (world: World, client: ClientId, endpoint: EndpointId, type: Steering) =>
  world.commands.execute(
    clientDecider,
    clientStream(client),
    { type, at: Date.now(), endpoint },
    world.context(client),
  );

export const newRoom = (): RoomId => `room_${deriveTail("room", randomUUID())}`;

/** Receives what endpoints get, by path. `answer` null: never. */
export async function eventReceiver(answer: (path: string) => number | null = () => 204) {
  const received: { readonly path: string; readonly id: string; readonly body: Body }[] = [];
  const held: (() => void)[] = [];
  const server = await httpServer(async (request, response) => {
    const path = request.url ?? "";
    const body = JSON.parse(String(await bodyOf(request)));
    received.push({ path, id: String(request.headers["webhook-id"]), body });
    const status = answer(path);
    if (status === null) held.push(() => response.writeHead(204).end());
    else response.writeHead(status).end();
  });
  const at = (path: string) => received.filter((one) => one.path === path);
  return {
    url: (path: string) => `http://127.0.0.1:${server.port}${path}`,
    at,
    /** The contents of messages that came to a path. */
    contents: (path: string) => at(path).map(({ body }) => body.data.content),
    come: (path: string, count: number) =>
      until(
        () => at(path),
        (all) => all.length >= count,
      ),
    /** Answers what was never answered. */
    release: () => {
      for (const end of held.splice(0)) end();
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** Every job of an attempt was worked off, and what is under way is `open`. */
export const attemptsAre = (world: World, open: number) =>
  until(
    async () => {
      const { rows } = await world.database.pool.query(
        "select count(*)::int as count from jobs.job where name = 'attempts' and state in ('created', 'active')",
      );
      return Number(rows[0]?.count);
    },
    (count) => count === open,
  );
