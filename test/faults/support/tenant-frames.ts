// Every frame on every stranger's socket: an error that says no more than one about an unknown id, or the end of it.

import { CLOSE } from "../../../src/contract/errors.ts";
import type { ClientFrame } from "../../../src/contract/frames.ts";
import { SocketClient } from "../../support/socket-client.ts";
import { SseClient } from "../../support/sse-client.ts";
import { ALL_MARKS, type Asker, type Cast } from "./tenant-cast.ts";
import { unknown } from "./tenant-matrix.ts";

type FrameScene = {
  /** The field that names what is another's; null: it names nothing. */
  readonly names: "room_id" | "message_id" | "delivery_id" | null;
  /** Fields that it has beside from who sends it. */
  readonly beside?: readonly ("room_id" | "message_id")[];
  readonly more?: object;
  /** Who may, and with what. */
  readonly may?: readonly string[];
};

/** Of a frame that names something. */
type NamingScene = FrameScene & { readonly type: string; readonly names: NonNullable<FrameScene["names"]> };

const READS = ["a reader: private room"];

const ofMessage = (more: object = {}): readonly FrameScene[] => [
  { names: "room_id", beside: ["message_id"], more },
  { names: "message_id", beside: ["room_id"], more },
];

/** By type: a frame without a scene does not pass the compiler. */
const SCENES: Readonly<Record<ClientFrame["type"], FrameScene | readonly FrameScene[]>> = {
  auth: { names: null, more: { token: "none" } },
  ping: { names: null },
  subscribe: { names: "room_id", more: { after_seq: 0 }, may: READS },
  follow: { names: null },
  unfollow: { names: null },
  unsubscribe: { names: "room_id", may: [...READS, "an outsider: public room", "a reader: public room"] },
  read: { names: "room_id", more: { seq: 1 }, may: READS },
  delivered: { names: "room_id", more: { seq: 1 }, may: READS },
  ack: { names: "delivery_id" },
  post: { names: "room_id", more: { content: "Hello" } },
  edit: ofMessage({ content: "Hello" }),
  delete: ofMessage(),
  restore: ofMessage(),
  append: ofMessage({ text: "Hello", offset: 0 }),
  complete: ofMessage(),
  cancel: ofMessage(),
  react: ofMessage({ emoji: "👍" }),
  unreact: ofMessage({ emoji: "👍" }),
  typing: { names: "room_id", more: { active: true } },
  presence: {
    names: "room_id",
    more: { active: true },
    may: READS,
  },
};
const scenes = Object.entries(SCENES).flatMap(([type, of]) => [of].flat().map((scene) => ({ type, ...scene })));

/** What a socket is told that is refused; `user_required`: it is a key's, and names no user. */
const REFUSED = ["not_found", "not_a_member", "read_only", "user_required"];
/** What tells a client's own user that there is something. */
const KNOWING = ["not_a_member", "read_only"];

type Faults = { readonly cells: number; readonly found: readonly string[] };

/** A key may name a user on its socket, and has that user's rights then. */
type Guest = Asker & { readonly path: string };
const guestsOf = (strangers: readonly Asker[]): readonly Guest[] =>
  strangers.flatMap((one): Guest[] => {
    const plain = { ...one, path: "/ws" };
    if (one.kind !== "key") return [plain];
    return [plain, { ...one, name: `${one.name} in erin's name`, path: "/ws?user_id=erin" }];
  });

/**
 * Sockets and streams of all who are let in, while something happens that is none of their business: what they are told
 * of it. Users follow; a key has the events of its client.
 */
export async function overheard(url: string, { strangers }: Cast, happens: () => Promise<void>) {
  using held = new DisposableStack();
  const http = url.replace("ws", "http");
  const guests = guestsOf(strangers).filter((one) => one.refused === undefined);
  const open = await Promise.all(
    guests.map(async (guest) => {
      const { bearer = "", path } = guest;
      const socket = held.use(await SocketClient.connect(url, bearer, path));
      const { user_id: user } = await socket.next("welcome");
      const stream = held.use(await SseClient.open(http, user === null ? "/events" : `/users/${user}/events`, bearer));
      if (stream.status !== 200) throw new Error(`${guest.name} has no stream: ${stream.status}`);
      if (user !== null) await socket.ask({ type: "follow" });
      return { guest, socket, stream };
    }),
  );
  await happens();
  await Promise.all(open.map(({ socket }) => socket.ask({ type: "ping" })));
  return open.flatMap(({ guest, socket, stream }) =>
    [socket.frames, stream.events].flatMap((told) => marksIn(told, guest).map((mark) => `${guest.name}: ${mark}`)),
  );
}

/** What somebody was told that it must not see. */
const marksIn = (told: readonly object[], { hidden }: Pick<Asker, "hidden">): readonly string[] =>
  hidden.filter((mark) => JSON.stringify(told).includes(mark));

/** Those who are let in: each frame about each thing, and about an unknown one. */
async function asked(url: string, guest: Guest, targets: Cast["targets"]): Promise<readonly Faults[]> {
  const parts: Faults[] = [];
  for (const { names, ...scene } of scenes)
    if (names !== null) parts.push(await askedOf(url, guest, { ...scene, names }, targets));
  return parts;
}

/** On a socket of its own: one may send so many frames in a second. */
async function askedOf(
  url: string,
  guest: Guest,
  { type, names, beside = [], more, may }: NamingScene,
  targets: Cast["targets"],
): Promise<Faults> {
  using socket = await SocketClient.connect(url, guest.bearer ?? "", guest.path);
  const found: string[] = [];
  let cells = 0;
  const fields = Object.fromEntries(beside.map((name) => [name, guest.own[name]]));
  for (const { what, id } of targets[names] ?? []) {
    if (may?.includes(`${guest.name}: ${what}`)) continue;
    cells += 1;
    const face = async (named: string) => {
      const { code = null, ...answer } = await socket.ask({ type, ...fields, [names]: named, ...more });
      return { code: String(code), whole: JSON.stringify([code, answer]).replaceAll(named, "…") };
    };
    const seen = await face(id);
    const name = `${type} by ${guest.name}, ${what} ${id}`;
    if (!REFUSED.includes(seen.code)) found.push(`${name}: let in: ${seen.whole}`);
    if (KNOWING.includes(seen.code) && !guest.foreign) continue;
    const other = await face(unknown(id));
    if (seen.whole !== other.whole) found.push(`${name}: not as unknown: ${seen.whole}, ${other.whole}`);
  }
  const told = marksIn(socket.frames, guest);
  return { cells, found: told.length === 0 ? found : [...found, `${guest.name} is told of ${told}`] };
}

/** How a socket ends after this frame. */
async function endsWith(url: string, bearer: string | undefined, path: string, frame?: object): Promise<string> {
  const headers = bearer === undefined ? {} : { authorization: `Bearer ${bearer}` };
  using socket = new SocketClient(url + path, headers);
  await socket.opened();
  if (frame !== undefined) socket.send(frame);
  const code = await socket.closed();
  const told = [...ALL_MARKS, "welcome"].filter((mark) => JSON.stringify(socket.frames).includes(mark));
  return told.length === 0 ? String(code) : `${code}, told of ${told}`;
}

type Ending = { readonly name: string; readonly code: number; ends(): Promise<string> };

/** Sockets that must end: of who is nobody, and of who would become another. */
function endings(url: string, guests: readonly Guest[], erin: Asker): readonly Ending[] {
  const { unauthenticated, forbidden } = CLOSE;
  const refused = guests.filter((one) => one.refused !== undefined);
  const early = scenes.map(({ type, names, more }): Ending => {
    const frame = { type, ...(names === null ? {} : { [names]: "unknown" }), ...more };
    return { name: `${type} by nobody`, code: unauthenticated, ends: () => endsWith(url, undefined, "/ws", frame) };
  });
  const shown = refused
    .filter(({ bearer }) => bearer !== undefined)
    .flatMap(({ name, bearer = "", path }): Ending[] => [
      { name: `a socket of ${name}`, code: unauthenticated, ends: () => endsWith(url, bearer, path) },
      {
        name: `auth by ${name}`,
        code: unauthenticated,
        ends: () => endsWith(url, undefined, "/ws", { type: "auth", token: bearer }),
      },
    ]);
  const others = guests
    .filter((one) => one.refused === undefined)
    .flatMap((guest) =>
      [erin, ...refused].flatMap(({ name, bearer, refused: ended }): Ending[] => {
        if (bearer === undefined) return [];
        const code = ended === undefined ? forbidden : unauthenticated;
        return [{ name: `auth by ${guest.name} as ${name}`, code, ends: () => becomes(url, guest, bearer) }];
      }),
    );
  return [...early, ...shown, ...others];
}

/** How a socket ends that shows another credential later. */
async function becomes(url: string, guest: Guest, bearer: string): Promise<string> {
  using socket = await SocketClient.connect(url, guest.bearer ?? "", guest.path);
  socket.send({ type: "auth", token: bearer });
  const code = await socket.closed();
  const told = marksIn(socket.frames, guest);
  return told.length === 0 ? String(code) : `${code}, told of ${told}`;
}

/** All frames of all strangers. `url` is the server's, with `ws://`. */
export async function frameFaults(url: string, { strangers, targets, erin }: Cast): Promise<Faults> {
  const guests = guestsOf(strangers);
  const all = guests.filter((one) => one.refused === undefined).map((guest) => asked(url, guest, targets));
  const parts = (await Promise.all(all)).flat();
  const ended = await Promise.all(
    endings(url, guests, erin).map(async ({ name, code, ends }) => {
      const seen = await ends();
      return seen === String(code) ? [] : [`${name}: ends with ${seen}, not ${code}`];
    }),
  );
  const cells = parts.reduce((sum, part) => sum + part.cells, ended.length);
  return { cells, found: [...parts.flatMap((part) => part.found), ...ended.flat()] };
}
