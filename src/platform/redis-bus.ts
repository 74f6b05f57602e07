// The bus on Redis: publish and subscribe, on one connection each. Redis may go and come back at any time.
import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { type Bus, CHANNEL, Listeners, Outbox } from "./bus.ts";
import { REDIS_OPTIONS } from "./redis.ts";
import { messageOf, type WarnLogger } from "./supervise.ts";

/** A server that does not answer for so long counts as gone. */
const ANSWER_MS = 2_000;
const PROBE_MS = 3_000;

/** Connects in the background. A failure is logged once, until Redis is back. */
export function redisBus(parts: { url: string; logId: string; logger: WarnLogger }): Bus {
  const { url, logId, logger } = parts;
  const listeners = new Listeners();
  const own = randomUUID();
  let lastError: string | null = null;
  const options = { ...REDIS_OPTIONS, commandTimeout: ANSWER_MS };
  const publisher = new Redis(url, { ...options, connectionName: "chatapi" });
  const subscriber = new Redis(url, { ...options, connectionName: "chatapi-subscriber", autoResubscribe: false });
  const both = [publisher, subscriber];
  let subscribed = false;
  let closed = false;
  const connected = () => subscribed && publisher.status === "ready";

  function failed(error: unknown): void {
    if (lastError === null) logger.warn({ error: messageOf(error) }, "Redis is gone: nodes poll until it is back");
    lastError = messageOf(error);
  }
  function recovered(): void {
    if (connected()) lastError = null;
  }

  publisher.on("ready", recovered);
  subscriber.on("ready", () => {
    subscriber.subscribe(CHANNEL).then(() => {
      subscribed = true;
      recovered();
    }, failed);
  });
  subscriber.on("message", (_channel, text) => listeners.notify(text, logId, own));
  for (const one of both) {
    one.on("error", failed);
    one.on("close", () => {
      if (one === subscriber) subscribed = false;
      if (!closed) failed(lastError ?? "the connection was closed");
    });
    // Rejects when the first attempt fails; the others follow by themselves.
    one.connect().catch(failed);
  }

  /** A connection that no longer answers is closed, and made again. */
  async function probe(one: Redis): Promise<void> {
    if (one.status !== "ready") return;
    try {
      await one.ping();
    } catch (error) {
      failed(error);
      one.disconnect(true);
    }
  }
  const probing = setInterval(() => both.forEach((one) => void probe(one)), PROBE_MS);
  const outbox = new Outbox((text) => publisher.publish(CHANNEL, text), { logId, own });

  return {
    publish: (topic, position) => {
      if (publisher.status === "ready") outbox.put(topic, position);
    },
    on: (topic, listener) => listeners.add(topic, listener),
    signal: (text) => {
      if (publisher.status === "ready") outbox.putSignal(text);
    },
    onSignal: (listener) => listeners.addSignal(listener),
    status: () => ({ kind: "redis", connected: connected(), lastError }),
    async [Symbol.asyncDispose]() {
      closed = true;
      clearInterval(probing);
      for (const one of both) one.disconnect();
      await outbox.close();
    },
  };
}
