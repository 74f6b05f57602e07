// Waiting for what comes to hold.

/** Waits until `look` gives something that satisfies (by default: true); throws with the last thing seen after `timeoutMs`. */
export async function until<T>(
  look: () => Promise<T> | T,
  satisfied: (value: T) => boolean = Boolean,
  timeoutMs = 30_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await look();
    if (satisfied(value)) return value;
    if (Date.now() > deadline) throw new Error(`never came to hold; last seen: ${JSON.stringify(value)}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
