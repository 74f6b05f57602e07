// Everything that goes out of this process on behalf of a tenant, tried on one target, and every connection counted.
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { createServer, type Server } from "node:net";
import type { AttemptResult } from "../../../src/channels/attempt-result.ts";
import { createSmtpChannel } from "../../../src/channels/email/smtp.ts";
import { type AddressGuard, createAddressGuard } from "../../../src/channels/guard.ts";
import type { ResolveName } from "../../../src/channels/resolver.ts";
import { createWebhookChannel } from "../../../src/channels/webhook.ts";

/** A server on every loopback address of the machine, under one port. */
export type Inside = AsyncDisposable & { readonly port: number; readonly connections: () => number };

/** Listens on all addresses of IPv4 and IPv6, so that whatever reaches this machine is counted. */
export async function inside(): Promise<Inside> {
  let connections = 0;
  const server: Server = createServer((socket) => {
    connections += 1;
    socket.on("error", () => {});
    socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen({ host: "::", port: 0, ipv6Only: false }, resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the server has no port");
  return {
    port: address.port,
    connections: () => connections,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

/** Counts each TCP socket that this process begins to open, wherever it leads: also where nobody could listen. */
export function countSockets(): Disposable & { readonly opened: () => number } {
  let opened = 0;
  const count = () => {
    opened += 1;
  };
  subscribe("net.client.socket", count);
  return { opened: () => opened, [Symbol.dispose]: () => void unsubscribe("net.client.socket", count) };
}

/** The names that were asked for, in order. */
export type Resolver = ResolveName & { readonly asked: readonly string[] };

/** A resolver whose names have the answers of each look-up after the other, the last one for ever; others have none. */
export function resolver(names: Readonly<Record<string, readonly (readonly string[])[]>> = {}): Resolver {
  const asked: string[] = [];
  const resolve: ResolveName = async (name) => {
    const before = asked.filter((one) => one === name).length;
    asked.push(name);
    const answers = names[name];
    const answer = answers?.[Math.min(before, answers.length - 1)];
    if (answer === undefined) throw Object.assign(new Error(`no such name: ${name}`), { code: "ENOTFOUND" });
    return answer.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));
  };
  return Object.assign(resolve, { asked });
}

/** A guard as it is outside development mode. */
export const strictGuard = (resolve: ResolveName, allow: readonly string[] = []): AddressGuard =>
  createAddressGuard({ allow, allowLoopback: false, resolve });

const secrets = [`whsec_${Buffer.alloc(32, 7).toString("base64")}`];
const timeouts = { connectTimeoutMs: 500, greetingTimeoutMs: 500, silenceTimeoutMs: 500, attemptTimeoutMs: 1_000 };

export type Outward = AsyncDisposable & {
  webhook(url: string): Promise<AttemptResult>;
  mail(host: string, port: number): Promise<AttemptResult>;
  /** Whether the settings were found to work. */
  verify(host: string, port: number): Promise<boolean>;
};

/** Both channels under one guard. */
export function outward(guard: AddressGuard): Outward {
  const webhooks = createWebhookChannel({ guard, ...timeouts });
  const smtp = createSmtpChannel({ guard, ...timeouts, verifyTimeoutMs: 1_000 });
  const provider = (host: string, port: number) =>
    ({ name: "main", host, port, security: "none", fromEmail: "noreply@app.example" }) as const;
  const mail = { deliveryId: "dlv_1", to: { email: "user@example.com" }, subject: "Hi", content: "Hello", at: 0 };
  return {
    webhook: (url) => webhooks.send({ url, id: "dlv_1", timestamp: Date.now(), body: "{}", secrets }),
    mail: (host, port) => smtp.send(provider(host, port), mail),
    verify: async (host, port) => (await smtp.verify(provider(host, port))).ok,
    async [Symbol.asyncDispose]() {
      await webhooks[Symbol.asyncDispose]();
      await smtp[Symbol.asyncDispose]();
    },
  };
}

/** A host as it stands in a URL: an IPv6 address in brackets. */
export const inUrl = (host: string): string =>
  host.includes(":") && !host.startsWith("[") && !host.startsWith("%5b") ? `[${host}]` : host;
