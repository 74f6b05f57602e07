// How long a supervised loop waits after a failure, and a wait that a closing loop can cut short.

const FIRST_BACKOFF_MS = 100;
/** The longest wait between two attempts. */
const MAX_BACKOFF_MS = 5_000;

/** Milliseconds to wait after so many failures in a row (1, 2, …): doubling, capped, with jitter over the upper half. */
export function backoffMs(failures: number): number {
  const full = Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** Math.min(failures - 1, 16));
  return full / 2 + (Math.random() * full) / 2;
}

/** Waits, or returns early when the signal aborts; never throws. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done, { once: true });
  });
}

/** What went wrong, in one line. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Where a background loop says what it is struggling with. */
export type WarnLogger = { warn(fields: object, message: string): void };
