// Sends what is meant to stop others.
import { attacks, type Ground } from "../support/attacks.ts";
import { serveCalls } from "../support/process.ts";

serveCalls({
  async attack({ index, ground }: { index: number; ground: Ground }): Promise<void> {
    await attacks[index]?.run(ground);
  },
});
