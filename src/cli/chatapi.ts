// The command line: one program for the server and for those who operate it.
import { resolve } from "node:path";
import { Command } from "commander";
import packageJson from "../../package.json" with { type: "json" };
import type { Position } from "../event-store/event-store.ts";
import { parsePosition } from "../event-store/event-store.ts";
import { serve } from "../main.ts";
import { exportEvents, exportToFile } from "./events-export.ts";
import { importEvents } from "./events-import.ts";
import { eventsOfStream, followEvents, lineFor } from "./events-show.ts";
import { withStorage } from "./operator.ts";
import { EXIT, fail, print, progress, run } from "./output.ts";
import { listProjections, rebuildCommand } from "./projections.ts";

/** Files on the command line are meant from where the caller stands, also under `npm run`. */
const fromCaller = (file: string): string => resolve(process.env.INIT_CWD ?? process.cwd(), file);

// Whoever reads the output may have had enough of it (`| head`).
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(EXIT.ok);
  throw error;
});

const program = new Command("chatapi")
  .exitOverride((error) => process.exit(error.exitCode === 0 ? EXIT.ok : EXIT.usage))
  .description(packageJson.description)
  .version(packageJson.version)
  .showHelpAfterError();

program
  .command("serve", { isDefault: true })
  .description("run the server; the environment configures it (see docs/running.md)")
  .action(() => run(() => serve(process.env)));

const projections = program.command("projections").description("the read models, which can be rebuilt from the log");
projections
  .command("list")
  .description("each projection with its rows, and how far the group has come")
  .option("--json", "for scripts")
  .action((options: { json?: true }) => run(() => withStorage((storage) => listProjections(storage, options))));
projections
  .command("rebuild")
  .description("build beside the live tables, while writes go on, and swap in one moment")
  .argument("[name]", "a projection")
  .option("--all", "all of them")
  .option("--verify", "compare row by row with the live tables and print what differs")
  .option("--json", "for scripts")
  .action((name: string | undefined, options: { all?: true; verify?: true; json?: true }) =>
    run(() => withStorage((storage) => rebuildCommand(storage, name, options))),
  );

const events = program.command("events").description("the log itself");
events
  .command("show")
  .description("the events of a stream, oldest first; what is sealed stays so")
  .argument("<stream>", "as the audit shows it, such as room-room_...")
  .option("--json", "one JSON object a line")
  .action((stream: string, options: { json?: true }) =>
    run(() =>
      withStorage(async ({ store }) => {
        let count = 0;
        for await (const event of eventsOfStream(store, stream)) {
          print(options.json ? JSON.stringify(event) : lineFor(event));
          count += 1;
        }
        return count === 0 ? fail(`there is no stream ${stream}`, EXIT.notFound) : EXIT.ok;
      }),
    ),
  );
events
  .command("tail")
  .description("events as they come, until interrupted")
  .option("--after <position>", "from just after a position; `start`: from the first event")
  .option("--json", "one JSON object a line")
  .action((options: { after?: string; json?: true }) =>
    run(() => {
      const after = options.after;
      if (after !== undefined && after !== "start" && parsePosition(after) === undefined)
        return fail(`--after: ${after} is no position`);
      return withStorage(async ({ store }) => {
        const stop = new AbortController();
        for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.abort());
        const show = (event: Parameters<typeof lineFor>[0]) =>
          print(options.json ? JSON.stringify(event) : lineFor(event));
        await followEvents(store, after as Position | "start" | undefined, show, stop.signal);
        return EXIT.ok;
      });
    }),
  );
events
  .command("export")
  .description("the whole log and its data keys, wrapped, as NDJSON")
  .argument("<file>", "where to; - is standard output")
  .option("--json", "print the counts as JSON")
  .action((file: string, options: { json?: true }) =>
    run(() =>
      withStorage(async (storage) => {
        const bar = progress("events", options.json === true || file === "-");
        const show = (done: number) => bar.update(done);
        const moved = await (file === "-"
          ? exportEvents(storage, process.stdout, new Date(), show)
          : exportToFile(storage, fromCaller(file), new Date(), show)
        ).finally(bar.stop);
        if (file !== "-")
          print(options.json ? JSON.stringify(moved) : `exported ${moved.events} events and ${moved.keys} keys`);
        return EXIT.ok;
      }),
    ),
  );
events
  .command("import")
  .description("an export into this log; revisions and ids stay. May be run again when it was cut short")
  .argument("<file>", "an export")
  .option("--json", "print the counts as JSON")
  .action((file: string, options: { json?: true }) =>
    run(() =>
      withStorage(async (storage) => {
        const bar = progress("events", options.json === true);
        const show = (done: number, total: number) => bar.update(done, total);
        const moved = await importEvents(storage, fromCaller(file), show).finally(bar.stop);
        print(options.json ? JSON.stringify(moved) : `imported ${moved.events} events and ${moved.keys} keys`);
        return EXIT.ok;
      }),
    ),
  );

await program.parseAsync();
