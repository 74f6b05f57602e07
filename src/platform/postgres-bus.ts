// The bus on PostgreSQL's LISTEN and NOTIFY: for several nodes without Redis.
import { randomUUID } from "node:crypto";
import type pg from "pg";
import { type Bus, CHANNEL, Listeners, Outbox } from "./bus.ts";
import { connect, within } from "./postgres.ts";
import { backoffMs, messageOf, pause, type WarnLogger } from "./supervise.ts";

/** A connection that died in silence is noticed by a question that gets no answer. */
const PROBE_MS = 5_000;
const ANSWER_MS = 3_000;

/** One connection, made again whenever it drops; a failure is logged once, until it is back. */
export function postgresBus(parts: { url: string; logId: string; logger: WarnLogger }): Bus {
  const { url, logId, logger } = parts;
  const listeners = new Listeners();
  const own = randomUUID();
  const closing = new AbortController();
  let client: pg.Client | undefined;
  let lastError: string | null = null;
  const outbox = new Outbox(async (text) => client?.query("select pg_notify($1, $2)", [CHANNEL, text]), {
    ...{ logId, own },
  });

  async function listen(): Promise<void> {
    const connection = await connect(url, "chatapi bus");
    const current = connection.client;
    const lost = new AbortController();
    let reason: Error | undefined;
    void connection.ended.then((error) => {
      reason = error;
      lost.abort();
    });
    current.on("notification", ({ payload = "" }) => listeners.notify(payload, logId, own));
    try {
      const interrupted = AbortSignal.any([closing.signal, lost.signal]);
      for (let listening = false; !closing.signal.aborted; listening = true) {
        await within(ANSWER_MS, current.query(listening ? "select" : `listen ${CHANNEL}`), "PostgreSQL did not answer");
        client = current;
        lastError = null;
        await pause(PROBE_MS, interrupted);
        if (reason !== undefined) throw reason;
      }
    } finally {
      client = undefined;
      await connection.close();
      await outbox.close();
    }
  }

  async function keepListening(): Promise<void> {
    for (let failures = 0; !closing.signal.aborted; ) {
      try {
        await listen();
      } catch (error) {
        if (lastError === null) logger.warn({ err: error }, "wake-ups are lost: nodes poll");
        failures = lastError === null ? 1 : failures + 1;
        lastError = messageOf(error);
        await pause(backoffMs(failures), closing.signal);
      }
    }
  }
  const running = keepListening();

  return {
    publish: (topic, position) => {
      if (client !== undefined) outbox.put(topic, position);
    },
    on: (topic, listener) => listeners.add(topic, listener),
    signal: (text) => {
      if (client !== undefined) outbox.putSignal(text);
    },
    onSignal: (listener) => listeners.addSignal(listener),
    status: () => ({ kind: "postgres", connected: client !== undefined, lastError }),
    async [Symbol.asyncDispose]() {
      closing.abort();
      await running;
    },
  };
}
