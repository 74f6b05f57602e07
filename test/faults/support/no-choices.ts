// The read side of a system in which nobody has chosen anything: all that is asked of it has no rows.

import type pg from "pg";
import { preferences } from "../../../src/projections/models/preferences.ts";
import { users } from "../../../src/projections/models/users.ts";
import { readAs } from "../../../src/projections/read-as.ts";
import type { ReadSide } from "../../../src/projections/read-side.ts";

const ASKED: ReadonlySet<unknown> = new Set([preferences, users]);

/** It is never behind. A query over anything but preferences and users fails: its answer could not be known here. */
export function noChoices(): ReadSide {
  const nobody = {
    waitFor: async () => true,
    readAs: (client: Parameters<ReadSide["readAs"]>[0]): ReturnType<ReadSide["readAs"]> => {
      const read = readAs({} as pg.Pool, client);
      const over: typeof read.over = (tables) => {
        for (const one of Object.values(tables)) if (!ASKED.has(one)) throw new Error(`nobody knows ${one.name} here`);
        return read.over(tables);
      };
      return { ...read, over, rows: async () => [] };
    },
  };
  return nobody as unknown as ReadSide;
}
