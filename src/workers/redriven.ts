// Whether a delivery was started again by hand: a stop of its notification before that no longer concerns it.

import type { DeliveryId } from "../contract/ids.ts";
import { deliveryStream } from "../domain/delivery.ts";
import type { EventStore } from "../event-store/event-store.ts";

/** Some events for each of the attempts that there can be between two times of starting again. */
const NEWEST_EVENTS = 100;

/** Reads types alone; nothing is opened. */
export async function wasRedriven({ store }: { readonly store: EventStore }, id: DeliveryId): Promise<boolean> {
  const events = await store.readStream(deliveryStream(id), { direction: "backward", limit: NEWEST_EVENTS });
  return events.some((event) => event.type === "DeliveryRedriven");
}
