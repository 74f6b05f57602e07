// What clients go on doing while a link of their server is out of order: they write, keep what they were answered, listen.
import { setTimeout as sleep } from "node:timers/promises";
import { type Api, tokenOf } from "../../e2e/support/api.ts";
import { faithful } from "../../e2e/support/cluster.ts";
import { type History, Unknown } from "./failpoint-history.ts";
import type { Receivers } from "./failpoint-receivers.ts";

export type Load = {
  /** How many writes were answered so far. */
  answered(): number;
  /** Ends it, once every request has come to its end. */
  stop(): Promise<void>;
  /** Every seq that the listener was shown, in the order in which it came, by room. */
  shown(): ReadonlyMap<string, readonly number[]>;
  /** Ends the listener. */
  close(): Promise<void>;
};

type LoadParts = {
  readonly api: Api;
  readonly history: History;
  readonly receivers: Receivers;
  /** Names what belongs to it. */
  readonly run: string;
  readonly faults: string[];
};

const PAUSE_MS = 20;
/** After a write whose outcome is unknown. */
const AFTER_UNKNOWN_MS = 100;
const POSTERS = 4;

export async function startLoad({ api, history, receivers, run, faults }: LoadParts): Promise<Load> {
  const [alice, bob] = [`${run}-alice`, `${run}-bob`];
  const members = [{ user_id: alice, role: "owner" }, { user_id: bob }];
  const make = (n: number) => history.write(api, run, "POST", "/rooms", { name: `Room ${n}`, members });
  const rooms = (await Promise.all([0, 1].map(make))).map(({ id }) => String(id));
  const listener = await faithful(api.url, await tokenOf(api, bob), rooms);
  let going = true;
  let made = 0;

  /** Writes one after the other; what is unknown stays so until `settle`. */
  async function carryOn(act: (name: string) => Promise<unknown>, pauseMs: number): Promise<void> {
    while (going) {
      made += 1;
      try {
        await act(`${run}-${made}`);
        await sleep(pauseMs);
      } catch (error) {
        if (!(error instanceof Unknown)) faults.push(String(error));
        await sleep(AFTER_UNKNOWN_MS);
      }
    }
  }
  const write = (path: string, body: unknown) => history.write(api, run, "POST", path, body);
  const say = (name: string) => {
    const room = rooms[made % rooms.length];
    return write(`/rooms/${room}/messages`, { sender_id: alice, content: name });
  };
  const mail = (name: string) =>
    write("/notifications", { type: "email", to_email: `${name}@example.com`, subject: "S", content: "C" });
  const hook = (name: string) =>
    write("/notifications", { type: "webhook", url: receivers.hook("/first-fails"), content: name });
  const unseen = (name: string) => {
    const fallback = { enabled: true, to_email: `${name}@example.com`, after_seconds: 1 };
    return write("/notifications", { type: "websocket", content: name, user_ids: [name], email_fallback: fallback });
  };
  const look = async () => {
    const { status, body } = await api.get(`/rooms/${rooms[0]}/messages?limit=5`).catch((error: unknown) => {
      throw new Unknown("read", { cause: error });
    });
    if (status !== 200 && status !== 503) faults.push(`reading: ${status} ${JSON.stringify(body)}`);
  };
  const all = Promise.all([
    ...Array.from({ length: POSTERS }, () => carryOn(say, PAUSE_MS)),
    ...[mail, hook, unseen].map((act) => carryOn(act, 10 * PAUSE_MS)),
    carryOn(look, 2 * PAUSE_MS),
  ]);
  return {
    answered: () => history.answered(/./, run).length,
    stop: async () => {
      going = false;
      await all;
    },
    shown: () => new Map(rooms.map((room) => [room, listener.seqs(room)])),
    close: listener.close,
  };
}
