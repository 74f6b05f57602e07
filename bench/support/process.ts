// Processes of a benchmark's own: what serves and what loads it must not share a thread. Calls go over Node's channel.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";

type Request = { readonly id: number; readonly name: string; readonly argument: unknown };
type Response = { readonly id: number; readonly result?: unknown; readonly error?: string };
type Handlers = Readonly<Record<string, (argument: never) => unknown>>;

export type BenchProcess = AsyncDisposable & {
  readonly child: ChildProcess;
  /** Calls one of its functions; what comes back is what the caller says. Rejects when it throws or the process ends. */
  call<T>(name: string, argument?: unknown): Promise<T>;
};

/** Starts a program of `bench/processes`, which serves calls. Disposing kills it. */
export function startProcess(program: URL, flags: readonly string[] = []): BenchProcess {
  // Node's own flags of this process (a profiler's) are not the child's.
  const profiling = process.env.BENCH_PROFILE?.split(" ") ?? [];
  const child = fork(program, [], { execArgv: [...flags, ...profiling], serialization: "advanced" });
  const waiting = new Map<number, { resolve: (result: never) => void; reject: (error: Error) => void }>();
  let calls = 0;
  child.on("message", ({ id, result, error }: Response) => {
    const caller = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) caller?.resolve(result as never);
    else caller?.reject(new Error(error));
  });
  let ended: Error | undefined;
  child.on("exit", (code, signal) => {
    ended = new Error(`${program.pathname} ended: ${signal ?? code}`);
    for (const { reject } of waiting.values()) reject(ended);
    waiting.clear();
  });
  return {
    child,
    call(name, argument) {
      calls += 1;
      const request: Request = { id: calls, name, argument };
      return new Promise((resolve, reject) => {
        waiting.set(request.id, { resolve, reject });
        child.send(request, (error) => {
          if (error !== null) reject(ended ?? error);
        });
      });
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, "exit");
      // A profile is written only by a process that ends by itself.
      child.kill(profiling.length > 0 ? "SIGTERM" : "SIGKILL");
      await exited;
    },
  };
}

/** In the process: answers calls for as long as whoever started it lives. */
export function serveCalls(handlers: Handlers): void {
  process.on("message", async ({ id, name, argument }: Request) => {
    const answer = (response: Omit<Response, "id">) => void process.send?.({ id, ...response });
    try {
      const handler = handlers[name] as ((argument: unknown) => unknown) | undefined;
      if (handler === undefined) throw new Error(`no such call: ${name}`);
      answer({ result: await handler(argument) });
    } catch (error) {
      answer({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
    }
  });
  process.on("disconnect", () => process.exit(0));
  process.on("SIGTERM", () => process.exit(0));
}
