// A batch: several requests of one route in one, each checked, carried out and answered as if it came by itself.
import { canonicalJson } from "../../contract/json.ts";
import { deriveUuid } from "../../event-store/derived-ids.ts";
import type { CommandContext } from "../../event-store/envelope.ts";
import type { Position } from "../../event-store/event-store.ts";
import { batchPerTick, mapBounded } from "../../platform/bounded.ts";
import { faultsIn } from "./body.ts";
import { fingerprintOf } from "./idempotency.ts";
import type { Handling, Reply, Route } from "./route.ts";
import { checkBody } from "./validation.ts";

/**
 * Items of one batch that are carried out at the same time: what they append is written together. (Measured: 250 at once
 * take a batch of 1,000 twice as long.)
 */
const ITEMS_AT_ONCE = 1_000;

type Answered = {
  readonly index: number;
  readonly status: number;
  readonly body: unknown;
  /** Of an item that had an effect. */
  readonly position?: Position | undefined;
  readonly replayed?: boolean | undefined;
};

/**
 * Answers each item as the route would. Under one idempotency key each has its own, which follows from its index: sent
 * again, those that had an effect are answered as before, and the others are carried out.
 */
export async function answerEach(
  call: Omit<Handling<undefined, undefined, undefined>, "body">,
  route: Route,
  items: readonly unknown[],
): Promise<Reply> {
  const pepper = await call.services.keyring.pepper(call.caller.client);
  const answered = await mapBounded(items, ITEMS_AT_ONCE, async (item, index): Promise<Answered> => {
    await batchPerTick();
    try {
      const { status, body, position, replayed } = await route.handle({
        ...call,
        body: checkBody(route, item, call, faultsIn(item, canonicalJson(item))),
        context: contextOf(call, { value: item, index, pepper }),
      } as Handling<never, never, never>);
      return { index, status, body, position, replayed };
    } catch (error) {
      return { index, ...call.refusal(error) };
    }
  });
  const done = answered.filter((one) => one.position !== undefined);
  const data = answered.map(({ index, status, body }) => ({ index, status, body }));
  const position = done
    .flatMap((one) => one.position ?? [])
    .toSorted()
    .at(-1);
  const replayed = done.length > 0 && done.every((one) => one.replayed === true);
  return { status: 200, body: { data }, replayed, ...(position === undefined ? {} : { position }) };
}

type Item = { readonly value: unknown; readonly index: number; readonly pepper: Uint8Array };

/** The command of an item: part of the storage format, for a key must find it again. */
function contextOf(
  {
    context: { stages: _ofAll, ...context },
    services,
  }: Pick<Handling<undefined, undefined, undefined>, "context" | "services">,
  { value, index, pepper }: Item,
): CommandContext {
  if (context.fingerprint === undefined) {
    const commandId = services.newId();
    return { ...context, commandId, causation: commandId };
  }
  const commandId = deriveUuid("batch-item", context.commandId, /* fence: batch-keys */ index);
  return { ...context, commandId, causation: commandId, fingerprint: fingerprintOf(pepper, value) };
}
