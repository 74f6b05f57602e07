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
    const send = ({ stream, expectedRevision, events }: Append) => append(stream, expectedRevision, events);
    for (const [first, ...others] of groups(appends)) {
      // Alone: what asks a client of EventStoreDB to connect, at its start or anew, it sends after what came behind it.
      const answered = await send(first);
      for (const { position } of [answered, ...(await all(others.map(send)))]) {
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

type Group = [Append, ...Append[]];

function* groups(appends: readonly Append[]): Generator<Readonly<Group>> {
  let group: Group | undefined;
  let bytes = 0;
  for (const append of appends) {
    let size = 0;
    for (const { data, metadata } of append.events) size += data.byteLength + metadata.byteLength;
    if (group !== undefined && (group.length >= MAX_IN_FLIGHT || bytes + size > MAX_IN_FLIGHT_BYTES)) {
      yield group;
      group = undefined;
      bytes = 0;
    }
    if (group === undefined) group = [append];
    else group.push(append);
    bytes += size;
  }
  if (group !== undefined) yield group;
}
