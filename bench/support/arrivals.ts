// What a receiver counts: how many came since it was last asked, and how late each was.
export class Arrivals {
  #count = 0;
  #wanted = Number.POSITIVE_INFINITY;
  #reached: () => void = () => {};
  #latencies: number[] | undefined;

  /** `madeAt`: when what came was made, in ms since 1970. */
  add(madeAt?: number): void {
    this.#count += 1;
    if (madeAt !== undefined) this.#latencies?.push(Date.now() - madeAt);
    if (this.#count === this.#wanted) this.#reached();
  }

  /** Whether the ages of what comes are looked at. */
  get timed(): boolean {
    return this.#latencies !== undefined;
  }

  /** From now on how late each is, in ms, is kept for `latencies`. */
  time(): void {
    this.#latencies = [];
  }

  latencies(): readonly number[] {
    return this.#latencies ?? [];
  }

  /** Resolves when so many have come since the last call of this or `taken`. */
  async receive({ count, timeoutMs }: { count: number; timeoutMs: number }): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${this.#count} of ${count} came`)), timeoutMs);
      this.#reached = () => {
        clearTimeout(timer);
        resolve();
      };
      this.#wanted = count;
      if (this.#count >= count) this.#reached();
    });
    this.taken();
  }

  /** How many have come since the last call of this or `receive`. */
  taken(): number {
    const count = this.#count;
    this.#count = 0;
    this.#wanted = Number.POSITIVE_INFINITY;
    return count;
  }
}
