// How a wake-up is written on the wire: the topic, a space, the position.
import { type Position, parsePosition } from "../event-store/event-store.ts";
import { TOPICS, type Topic } from "./bus.ts";

/** What nodes listen to. Positions name their log, so that systems may share a server. */
export const CHANNEL = "chatapi_wake_ups";

export const encode = (topic: Topic, position: Position): string => `${topic} ${position}`;

/** Undefined for what is no wake-up of this log. */
export function decode(text: string, logId: string): { topic: Topic; position: Position } | undefined {
  const [name, position = ""] = text.split(" ", 2);
  const topic = TOPICS.find((one) => one === name);
  if (topic === undefined || parsePosition(position)?.logId !== logId) return undefined;
  return { topic, position: position as Position }; // parsed just now
}
