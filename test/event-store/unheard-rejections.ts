// Rejections that nobody handles, as the product meets them: the test runner's own listeners would fail the run.

/** Takes the runner's listeners away until disposed; whatever else listens goes on. */
export function withoutRunnersListeners(): Disposable {
  const runners = process.listeners("unhandledRejection");
  for (const listener of runners) process.off("unhandledRejection", listener);
  return {
    [Symbol.dispose]() {
      for (const listener of runners) process.on("unhandledRejection", listener);
    },
  };
}
