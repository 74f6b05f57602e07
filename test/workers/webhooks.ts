// Webhooks of a world: who receives them, and the delivery that asking for one leads to.
import type { DeliveryId } from "../../src/contract/ids.ts";
import { deliveryId } from "../../src/event-store/derived-ids.ts";
import { bodyOf, httpServer } from "../channels/servers.ts";
import type { World } from "./world.ts";

export const statusIs = (wanted: string) => (state: { readonly status: string }) => state.status === wanted;
/** Answers with `status()`, or not at all when that is null; keeps the webhook ids that came. */
export async function receiver(status: () => number | null) {
  const ids: string[] = [];
  const server = await httpServer(async (request, response) => {
    await bodyOf(request);
    ids.push(String(request.headers["webhook-id"]));
    const code = status();
    if (code !== null) response.writeHead(code).end();
  });
  const url = `http://127.0.0.1:${server.port}/hook`;
  return { url, ids, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

/** Asks for a webhook and gives its delivery's id. */
export const webhookOf = async (world: World, client: `cli_${string}`, url: string): Promise<DeliveryId> => {
  const id = await world.notify(client, "webhook", [url]);
  return deliveryId(id, await world.keyring.subjectOfAddress(client, url), "webhook");
};
