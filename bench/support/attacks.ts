// What one caller sends to stop others: each costs the most that a request of its kind was found to cost.
import { connect } from "node:net";
import { apiOf } from "./served.ts";

const IDEOGRAPH = "漢";

/** What an attack may use: the server, a client's key, one of that client's users, and a host that never answers. */
export type Ground = {
  readonly url: string;
  readonly key: string;
  readonly token: string;
  readonly room: string;
  readonly hanging: string;
};
export type Attack = { readonly name: string; readonly run: (ground: Ground) => Promise<unknown> };

const times = <T>(count: number, make: (n: number) => T): T[] => Array.from({ length: count }, (_, n) => make(n));
/** Whatever it is answered. */
const send = (url: string, path: string, key: string, body: string, method = "POST", type = "application/json") =>
  fetch(`${url}/api/v1${path}`, {
    ...{ method, body },
    headers: { authorization: `Bearer ${key}`, "content-type": type },
  }).then((answer) => answer.arrayBuffer());
const notify = ({ url, key }: Ground, about: object) => send(url, "/notifications", key, JSON.stringify(about));

/** Announces bytes and sends all but the last of them; ends the connection after a while. */
function stall({ url, token, room }: Ground, ms: number): Promise<void> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname, () => {
      const head = `POST /api/v1/rooms/${room}/messages HTTP/1.1\r\nHost: ${hostname}:${port}\r\nAuthorization: Bearer ${token}\r\n`;
      const body = "x".repeat(1_000_000);
      socket.write(`${head}Content-Type: application/json\r\nContent-Length: ${body.length + 1}\r\n\r\n${body}`);
    });
    socket.on("error", () => {}).resume();
    setTimeout(() => socket.destroy(), ms);
    socket.on("close", () => resolve());
  });
}

/** Frames before anything is known of who sends them. */
function frames({ url }: Ground): Promise<void> {
  const text = JSON.stringify({ type: "subscribe", room_id: "x".repeat(197_000) });
  return new Promise((resolve) => {
    const socket = new WebSocket(`${url.replace("http", "ws")}/ws`);
    socket.onopen = () => times(99, () => socket.send(text));
    socket.onclose = socket.onerror = () => resolve();
    setTimeout(() => socket.close(), 5_000);
  });
}

async function edits({ url, key }: Ground): Promise<void> {
  const api = apiOf(url, "", key);
  const send_at = new Date(Date.now() + 3_600_000).toISOString();
  const about = { type: "websocket", user_ids: ["ann"], content: "Later", send_at };
  const { id } = await api.call<{ id: string }>("POST", "/notifications", about);
  const edit = (n: number) =>
    send(url, `/notifications/${id}`, key, JSON.stringify({ content: `Later ${n}` }), "PATCH");
  for (let n = 0; n < 240; n += 1) await edit(n);
  await Promise.all(times(60, edit));
}

export const attacks: readonly Attack[] = [
  {
    name: "20 requests with a content type of 15 KB",
    run: ({ url, token, room }) => {
      const type = `application/merge-patch+json${" ".repeat(15_000)}x`;
      return Promise.all(times(20, () => send(url, `/rooms/${room}/messages`, token, "{}", "POST", type)));
    },
  },
  {
    name: "20 requests of 68 addresses of 5,000 ideographs",
    run: (ground) => {
      const recipients = times(68, () => `a@${IDEOGRAPH.repeat(5_000)}`);
      return Promise.all(
        times(20, () => notify(ground, { type: "email", recipients, subject: "Hello", content: "Hello" })),
      );
    },
  },
  {
    name: "20 requests of 170 URLs of 2,040 ideographs",
    run: (ground) => {
      const urls = times(170, () => `http://${IDEOGRAPH.repeat(2_040)}`);
      return Promise.all(times(20, () => notify(ground, { type: "webhook", urls, content: {} })));
    },
  },
  {
    name: "66 uploads that stall at the last byte",
    run: (ground) => Promise.all(times(66, () => stall(ground, 5_000))),
  },
  {
    name: "1,200 webhooks to a host that never answers",
    run: (ground) =>
      Promise.all(
        times(4, (n) =>
          notify(ground, {
            ...{ type: "webhook", content: {} },
            urls: times(300, (m) => `${ground.hanging}/${n}/${m}`),
          }),
        ),
      ).then(() => new Promise((resolve) => setTimeout(resolve, 5_000))),
  },
  { name: "300 edits of a scheduled notification", run: edits },
  { name: "99 frames of 197 KB before the welcome", run: frames },
  {
    name: "20 mails of 10,000 nested lists",
    run: (ground) => {
      const content = "<ul><li>".repeat(10_000);
      return Promise.all(
        times(20, (n) => notify(ground, { type: "email", to_email: `jane${n}@example.com`, subject: "Deep", content })),
      );
    },
  },
  {
    name: "200 acknowledgements of deliveries that do not exist",
    run: ({ url, token }) =>
      Promise.all(times(200, (n) => send(url, `/deliveries/dlv_${String(n).padStart(26, "0")}/ack`, token, "{}"))),
  },
  {
    name: "500 new users by one user's token",
    run: ({ url, token, room }) =>
      Promise.all(times(500, (n) => send(url, `/rooms/${room}/members/stranger-${n}`, token, "{}", "PUT"))),
  },
];
