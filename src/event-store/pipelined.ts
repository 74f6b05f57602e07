// Appends in order on a store that carries out what it is sent in the order in which it comes: many on the way at once.

import type { Append, Appended, EventStore, Position } from "./event-store.ts";

/** On the way at once, so few that none has to wait before it is sent. */
const MAX_IN_FLIGHT = 256;
const MAX_IN_FLIGHT_BYTES = 2 * 1024 * 1024;

/** The store did not write in the order in which it was sent: the log has other positions than were asked for. */
export class OrderLost extends Error {
  override readonly name = "OrderLost";
}

/**
 * Makes `appendInOrder` of `append`. The order is the store's doing, so each answer is checked: throws OrderLost when
 * the positions do not grow as the appends do, else the error of the first append that failed.
 */
export function pipelined(append: EventStore["append"]): NonNullable<EventStore["appendInOrder"]> {
  return async (appends) => {
    let last: Position | undefined;
    for (const group of groups(appends)) {
      const sent = group.map((one) => append(one.stream, one.expectedRevision, one.events));
      for (const { position } of await all(sent)) {
        if (last !== undefined && position <= last)
          throw new OrderLost("the log did not keep the order of the appends");
        last = position;
      }
    }
  };
}

/** Waits for every answer, also when one is an error: nothing of a group is on its way when this returns. */
async function all(sent: readonly Promise<Appended>[]): Promise<readonly Appended[]> {
  const settled = await Promise.allSettled(sent);
  return settled.map((one) => {
    if (one.status === "rejected") throw one.reason;
    return one.value;
  });
}

function* groups(appends: readonly Append[]): Generator<readonly Append[]> {
  let group: Append[] = [];
  let bytes = 0;
  for (const append of appends) {
    let size = 0;
    for (const { data, metadata } of append.events) size += data.byteLength + metadata.byteLength;
    if (group.length >= MAX_IN_FLIGHT || (group.length > 0 && bytes + size > MAX_IN_FLIGHT_BYTES)) {
      yield group;
      group = [];
      bytes = 0;
    }
    group.push(append);
    bytes += size;
  }
  if (group.length > 0) yield group;
}
