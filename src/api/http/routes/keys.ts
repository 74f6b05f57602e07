// API keys of a client.
import { z } from "zod";
import { KEY_BYTES, keyData, makeApiKey } from "../../../app/api-keys.ts";
import { rotatedKeyBody } from "../../../app/bodies/client.ts";
import { KeyIdSchema } from "../../../contract/ids.ts";
import { RotatedKeyResource } from "../../../contract/resources.ts";
import { SECOND_MS } from "../../../contract/time.ts";
import { clientDecider, clientStream } from "../../../domain/client.ts";
import { DomainError } from "../../../domain/errors.ts";
import { deriveTail } from "../../../event-store/derived-ids.ts";
import { ok } from "../reply.ts";
import { type Route, route } from "../route.ts";
import { graceBody, live } from "./clients.ts";

const rotateKey = route({
  method: "POST",
  path: "/clients/me/keys/:key_id/rotate",
  summary: "Makes a new key in place of one, which works until the grace ends. The new key is shown this once.",
  tag: "clients",
  access: { kind: "key", scope: "keys:manage" },
  params: z.object({ key_id: KeyIdSchema }),
  body: graceBody,
  responses: { 200: RotatedKeyResource },
  problems: ["not_found", "key_limit"],
  handle: async ({ services, caller, params, body, at, context }) => {
    const apiKey = makeApiKey(services.randomBytes(KEY_BYTES));
    const { name: _ofTheOld, ...key } = keyData(`key_${deriveTail("key", context.commandId)}`, "", apiKey);
    const graceMs = body.grace_seconds * SECOND_MS;
    const command = { type: "RotateKey", at, old: params.key_id, key, graceMs } as const;
    const outcome = await services.commands.execute(clientDecider, clientStream(caller.client), command, context);
    const { position, replayed } = outcome;
    const [rotated] = outcome.events;
    const made = live(outcome.state).keys.find((one) => one.id === key.id);
    if (rotated?.type !== "KeyRotated" || made === undefined) throw new DomainError("not_found");
    const previous = { id: rotated.data.old, until: rotated.data.graceUntil };
    return ok(rotatedKeyBody(made, replayed ? null : apiKey, previous), { position, replayed });
  },
});

export const keyRoutes: readonly Route[] = [rotateKey];
