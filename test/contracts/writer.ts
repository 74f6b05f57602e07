// A process of its own that writes to a log: told what by its parent, and telling it how many events it wrote.

import type { EventStore } from "../../src/event-store/event-store.ts";
import { openEventStoreDb } from "../../src/event-store/eventstoredb/log.ts";
import { openPostgresLog } from "../../src/event-store/postgres/log.ts";
import type { WriterStore } from "./subject.ts";
import { type Work, write } from "./writing.ts";

export type WriterMessage = { readonly ready: true } | { readonly written: number };

const open = (store: WriterStore): Promise<EventStore> => {
  switch (store.kind) {
    case "postgres":
      return openPostgresLog({ url: store.url });
    case "eventstore":
      return openEventStoreDb({ url: store.url, prefix: store.prefix });
  }
};

const say = (message: WriterMessage) => process.send?.(message);

const store = JSON.parse(process.argv[2] ?? "") as WriterStore;
{
  await using log = await open(store);
  const work = new Promise<Work>((resolve) => process.once("message", (message) => resolve(message as Work)));
  say({ ready: true });
  say({ written: await write(log, await work) });
}
process.disconnect();
