// `projections list` and `projections rebuild`.

import { readGroup } from "../projections/group.ts";
import { storedProjections } from "../projections/models/all.ts";
import { RebuildRunning, rebuild, SwapFailed, UnknownProjection } from "../projections/rebuild.ts";
import { tableSize } from "../projections/tables.ts";
import type { Storage } from "../storage.ts";
import { EXIT, fail, print, progress } from "./command.ts";

/** Prints each read model with its rows and bytes, and the checkpoint of the group. */
export async function listProjections({ pool, store }: Storage, options: { json?: true }): Promise<number> {
  const group = await readGroup(pool);
  const sizes = await Promise.all(
    storedProjections.map(async (one) => ({ name: one.name, version: one.version, ...(await tableSize(pool, one)) })),
  );
  const report = { checkpoint: group?.checkpoint ?? null, tail: await store.tail(), projections: sizes };
  if (options.json) print(JSON.stringify(report));
  else {
    for (const { name, version, rows, bytes } of sizes) {
      print(
        `${name.padEnd(16)} v${version}  ${String(rows).padStart(10)} rows  ${(bytes / 1_048_576).toFixed(1).padStart(8)} MiB`,
      );
    }
    print(`at ${report.checkpoint ?? "nothing yet"}; the log ends at ${report.tail}`);
  }
  return EXIT.ok;
}

type RebuildFlags = { readonly all?: true; readonly verify?: true; readonly json?: true };

/** Rebuilds one or all; with `verify` the exit code says whether anything differed. */
export async function rebuildCommand(storage: Storage, name: string | undefined, flags: RebuildFlags): Promise<number> {
  const bar = await progress("positions", flags.json === true);
  try {
    const result = await rebuild(
      {
        ...storage,
        projections: storedProjections,
        logger: { warn: (fields, message) => void fail(`${message} ${JSON.stringify(fields)}`) },
      },
      {
        names: name === undefined ? "all" : [name],
        verify: flags.verify === true,
        onProgress: ({ done, total }) => bar.update(done, total),
      },
    );
    bar.stop();
    if (flags.json) print(JSON.stringify(result));
    else {
      print(`rebuilt ${result.tables.join(", ")} from ${result.events} events, up to ${result.position}`);
      for (const { table, rows, differing } of result.compared)
        print(`${table}: ${rows} rows compared, ${differing} differ`);
      for (const { table, key, kind, columns } of result.differences)
        print(`${table} ${JSON.stringify(key)}: ${kind} ${columns.join(", ")}`);
    }
    return result.differences.length > 0 ? EXIT.different : EXIT.ok;
  } catch (error) {
    bar.stop();
    if (error instanceof UnknownProjection) return fail(error.message, EXIT.notFound);
    if (error instanceof RebuildRunning || error instanceof SwapFailed) return fail(error.message, EXIT.failed);
    throw error;
  }
}
