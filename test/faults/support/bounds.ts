// A server whose bounds are tried: who goes too far, who must not notice, and what each is answered in words.
import { expect, test } from "vitest";
import { createLimits, type Limits } from "../../../src/app/rate-limit.ts";
import { type Api, apiOf } from "../../e2e/support/api.ts";
import { ADMIN_KEY, production, startTestServer, type TestServer } from "../../support/server.ts";
import { SocketClient } from "../../support/socket-client.ts";
import { upgrade } from "../../support/upgrade.ts";

export type Bound = {
  readonly what: string;
  readonly bound: string;
  /** To the first one beyond. */
  readonly answer: string;
  /** Goes up to the bound and beyond; what it uses is given back before `well` is asked for. */
  readonly past: (bounded: BoundedServer, using: DisposableStack) => Promise<string>;
  /** What is answered afterwards, and who is asked. */
  readonly after: string;
  readonly well: (bounded: BoundedServer, using: DisposableStack) => Promise<string>;
};

/** Each bound with its answer; then whoever went too far goes on, and another tenant has not noticed. */
export function tryEach(bounds: readonly Bound[], bounded: () => BoundedServer): void {
  test.each(bounds)("$what: $bound, past it $answer", async ({ answer, past, after, well }) => {
    {
      using open = new DisposableStack();
      expect(await past(bounded(), open)).toBe(answer);
      expect(said(await bounded().other.put("/users/ann", { name: answer }))).toMatch(/^20[01]$/);
    }
    using open = new DisposableStack();
    await expect.poll(() => well(bounded(), open), { timeout: 30_000 }).toBe(after);
  });
}

type Tenant = Api & { readonly id: `cli_${string}`; readonly key: string };
export type Headers = Readonly<Record<string, string>>;

export type BoundedServer = AsyncDisposable & {
  readonly server: TestServer;
  readonly limits: Limits;
  readonly port: number;
  readonly client: Tenant;
  readonly other: Tenant;
  register(name: string): Promise<Tenant>;
  /** A socket with a credential. */
  open(credential: string, headers?: Headers, path?: string): SocketClient;
  /** What an upgrade is answered with, in words. */
  upgraded(headers: Headers, path?: string): Promise<string>;
};

/** Outside development mode, where loopback is exempt from nothing. */
export async function openBoundedServer(): Promise<BoundedServer> {
  const limits = createLimits({ rateLimits: {} });
  const config = { ...production, trustProxy: ["127.0.0.1"] };
  const server = await startTestServer({ config, bounds: { limits } });
  const port = Number(new URL(server.url).port);
  const register = async (name: string): Promise<Tenant> => {
    const { body } = await apiOf(server.url, ADMIN_KEY).post("/clients", { name });
    return { ...apiOf(server.url, body.api_key), id: body.id, key: body.api_key };
  };
  return {
    ...{ server, limits, port, register, client: await register("Greedy"), other: await register("Modest") },
    open: (credential, headers = {}, path = "/ws") =>
      new SocketClient(`ws://127.0.0.1:${port}${path}`, { ...bearer(credential), ...headers }),
    upgraded: async (headers, path) => {
      const { status, body } = await upgrade(port, headers, path);
      return said({ status, body: body === "" ? {} : JSON.parse(body) });
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

export const from = (address: string): Headers => ({ "x-forwarded-for": address });
export const bearer = (credential: string): Headers => ({ authorization: `Bearer ${credential}` });

type Answer = { readonly status: number; readonly body?: { code?: string; errors?: readonly { code: string }[] } };

/** An answer in words: its status and its codes. */
export const said = ({ status, body }: Answer): string =>
  [status, body?.code, body?.errors?.[0]?.code].filter((word) => word !== undefined).join(" ");

/** What becomes of a socket. */
export const fateOf = (socket: SocketClient): Promise<string> =>
  Promise.race([socket.next("welcome").then(() => "welcome"), closing(socket)]);

export const closing = async (socket: SocketClient): Promise<string> => `closed with ${await socket.closed()}`;

/** Takes all places of a name but one: as if so many were there. */
export function almostAll(limiter: Limits["socketsByUser"], name: string, limit: number, using: DisposableStack): void {
  for (let n = 1; n < limit; n += 1) {
    const bounded = limiter.take(name);
    if (bounded === undefined) throw new Error(`only ${n - 1} of ${limit} places were free`);
    using.use(bounded);
  }
}
