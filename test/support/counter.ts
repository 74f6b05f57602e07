// A small aggregate for tests of the command side: a counter that may not pass its limit.
import { randomUUID } from "node:crypto";
import { z } from "zod";
import { ALL_ALLOWED, clientEvents, type Policy } from "../../src/domain/client.ts";
import { type Decider, DomainError, type TimedCommand } from "../../src/domain/decider.ts";
import type { CommandContext } from "../../src/event-store/envelope.ts";

/** Each event is a ClientUpdated whose name counts up: a real type of the catalogue, so that envelopes are real too. */
export type Counted = {
  readonly type: "ClientUpdated";
  readonly data: { name: string; description: string | null; policy: Policy };
};
export type CounterState = { readonly count: number; readonly at: number };
export type CounterCommand = TimedCommand & { type: "Add"; limit?: number; note?: string; needs?: number };

export const priorEventsSeen: (string | undefined)[] = [];

/** Adds one; refuses at the limit; adds nothing when the note says so. */
export const counter: Decider<CounterState, Counted, CounterCommand> = {
  name: "counter",
  events: clientEvents,
  initial: { count: 0, at: 0 },
  evolve: (state, _event, fact) => ({ count: state.count + 1, at: fact.at }),
  decide: (state, command, priorEvents) => {
    if (command.needs !== undefined) priorEventsSeen.push(priorEvents.get(command.needs)?.data.name);
    if (command.limit !== undefined && state.count >= command.limit) throw new DomainError("last_key");
    if (command.note === "nothing") return [];
    const data = { name: `${state.count + 1}`, description: command.note ?? null, policy: ALL_ALLOWED };
    return [{ type: "ClientUpdated", data }];
  },
  priorEvents: (_state, command) => (command.needs === undefined ? [] : [command.needs]),
  snapshot: {
    version: 1,
    toJson: (state) => state,
    fromJson: (json) => z.object({ count: z.number(), at: z.number() }).parse(json),
  },
};

/** A context of its own; with a key it is remembered. */
export const contextOf = (key?: string, fingerprint = "print"): CommandContext => ({
  client: "cli_test",
  actor: { type: "system", id: "test" },
  commandId: key ?? randomUUID(),
  ...(key === undefined ? {} : { fingerprint }),
  correlation: "test",
  causation: "test",
});
