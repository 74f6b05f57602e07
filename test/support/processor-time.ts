// What a piece of work costs, however busy the machine is: for bounds on work that must not grow faster than its input.

/** Milliseconds of this process's processor time, in its own code and all that runs in it meanwhile, until `work` ends. */
export async function processorMs(work: () => unknown): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}
