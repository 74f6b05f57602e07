// What tests of `follow` share: users and rooms of their own on one node, and what a socket was told of rooms, in short.
import { randomUUID } from "node:crypto";
import { expect } from "vitest";
import type { ClientId } from "../../src/contract/ids.ts";
import { type Api, type Body, newClient, tokenOf } from "../e2e/support/api.ts";
import { startTestServer, type TestServer } from "./server.ts";
import { type Received, SocketClient } from "./socket-client.ts";

/** A client of a node. */
export class FollowClient {
  readonly url: string;
  readonly api: Api;

  /** `url`: the node's. */
  constructor(url: string, api: Api) {
    this.url = url.replace("http", "ws");
    this.api = api;
  }

  async newRoom(members: readonly string[], more: object = {}): Promise<string> {
    const about = { name: "Room", members: members.map((user_id) => ({ user_id })), ...more };
    const made = await this.api.post("/rooms", about);
    expect(made.status).toBe(201);
    return made.body.id;
  }

  async say(room: string, content: string, sender_id: string): Promise<Body> {
    return (await this.api.post(`/rooms/${room}/messages`, { sender_id, content })).body;
  }

  async connect(user: string): Promise<SocketClient> {
    return SocketClient.connect(this.url, await tokenOf(this.api, user));
  }

  async list(user: string): Promise<Body> {
    return (await this.api.get(`/users/${encodeURIComponent(user)}/rooms?limit=100`)).body;
  }
}

export type Following = AsyncDisposable & {
  readonly server: TestServer;
  readonly client: FollowClient;
  /** The client's id. */
  readonly tenant: ClientId;
};

/** A server with a client. */
export async function startFollowing(): Promise<Following> {
  const server = await startTestServer();
  const api = await newClient(server.url);
  const client = new FollowClient(server.url, api);
  return { server, client, tenant: api.id as ClientId, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

/** A user of its own for each test. */
export const newUser = (): string => `user-${randomUUID()}@example.com`;

export const cursorOf = (frames: readonly Received[]): string =>
  String(frames.findLast((frame) => typeof frame.cursor === "string")?.cursor);

/** What happened in rooms, in short. */
export const inShort = (socket: SocketClient) =>
  socket.frames.flatMap((frame) => {
    const { type, room_id: room, seq, event, reason } = frame;
    if (type === "event") return [[event, room, seq]];
    if (type === "room") return [["room", (frame.room as Body).room.id, (frame.room as Body).seq]];
    return type === "unsubscribed" ? [["unsubscribed", room, reason]] : [];
  });
