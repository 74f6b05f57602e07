// What the handlers of jobs work with, in tests that give them a part of it.
import { randomUUID } from "node:crypto";
import { pino } from "pino";
import { DEFAULT_RETRY_POLICY } from "../../src/domain/retry-policy.ts";
import { MemoryBudget } from "../../src/workers/attachments.ts";
import { HostLimiter } from "../../src/workers/fairness.ts";
import type { JobServices } from "../../src/workers/job-services.ts";

type Given = Pick<JobServices, "store" | "keyring" | "commands"> & Partial<JobServices>;

/** Everything that is not given and does something fails when it is used. */
export function jobServices(given: Given): JobServices {
  const unused = <T extends object>(name: string): T =>
    new Proxy({} as T, {
      get: () => {
        throw new Error(`the test gives no ${name}`);
      },
    });
  return {
    ...{ readSide: unused("readSide"), webhook: unused("webhook"), email: unused("email"), mailbox: null },
    positions: unused("positions"),
    ...{
      retryPolicy: DEFAULT_RETRY_POLICY,
      hostLimiter: new HostLimiter(Date.now),
      providerUse: unused("providerUse"),
      memoryBudget: new MemoryBudget(),
    },
    ...{ maxOpenDeliveries: 1_000, logger: pino({ level: "silent" }) },
    ...{ now: Date.now, random: Math.random, newId: randomUUID },
    ...given,
  };
}
