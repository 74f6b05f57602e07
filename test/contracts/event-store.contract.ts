// Every promise of the event-store port, as a suite that an adapter binds in a few lines.

import { afterAll, beforeAll, describe } from "vitest";
import type { EventStore } from "../../src/event-store/event-store.ts";
import { appending } from "./appending.ts";
import { modelled } from "./modelled.ts";
import { reading } from "./reading.ts";
import type { Open, Subject } from "./subject.ts";
import { subscribing } from "./subscribing.ts";
import { writers } from "./writers.ts";

export type Traits = {
  /** Whether several processes can have the log open: then `open` says how (`second`, `writer`). */
  readonly shared: boolean;
};

/** Runs the suite against the log that `open` opens; streams have random names, so the log need not be empty. */
export function eventStoreContract(name: string, open: Open, { shared }: Traits): void {
  describe(`event store: ${name}`, () => {
    let subject: Subject | undefined;
    beforeAll(async () => {
      subject = await open();
    });
    afterAll(() => subject?.close());
    const current = (): Subject => {
      if (subject === undefined) throw new Error("the log is not open");
      return subject;
    };
    const store = (): EventStore => current().store;

    describe("appending", () => appending(store));
    describe("reading", () => reading(store));
    describe("subscribing", () => subscribing(store));
    describe("any sequence of appends", () => modelled(store));
    describe("several writers", () => writers(current, shared));
  });
}
