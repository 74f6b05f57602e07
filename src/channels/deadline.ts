// channels/deadline.ts: the time that an attempt has, together with whatever else may end it.

/** `signal` aborts when the time is up or `other` aborts. Disposing forgets both. */
type Deadline = Disposable & { readonly signal: AbortSignal; readonly isUp: boolean };

/** Unlike `AbortSignal.timeout` and `any` it leaves nothing behind that waits for its time once the attempt is over. */
export function deadline(ms: number, other: AbortSignal | undefined): Deadline {
  const controller = new AbortController();
  let isUp = false;
  const timer = setTimeout(() => {
    isUp = true;
    controller.abort();
  }, ms);
  const end = () => controller.abort();
  if (other?.aborted === true) end();
  else other?.addEventListener("abort", end, { once: true });
  return {
    signal: controller.signal,
    get isUp() {
      return isUp;
    },
    [Symbol.dispose]() {
      clearTimeout(timer);
      other?.removeEventListener("abort", end);
    },
  };
}
