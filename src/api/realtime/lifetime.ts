// Whether something goes on or is over, for what there are thousands of: a signal costs memory, and is made when it is waited for.
export class Lifetime {
  #over = false;
  #controller: AbortController | undefined;

  /** Over for good. */
  get aborted(): boolean {
    return this.#over;
  }

  /** For waits that its end cuts short. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#over) this.#controller.abort();
    return this.#controller.signal;
  }

  abort(): void {
    this.#over = true;
    this.#controller?.abort();
  }
}
