// The command line: one program for the server and for those who operate it.
import { resolve } from "node:path";
import { Command } from "commander";
import packageJson from "../../package.json" with { type: "json" };
import type { Position } from "../event-store/event-store.ts";
import { EXIT, fail, print } from "./command.ts";

// What a command does is loaded when it runs: help and wrong usage are answered without it.
type Shared = typeof import("./command.ts");
const run: Shared["run"] = async (command) => (await import("./command.ts")).run(command);
const withStorage: Shared["withStorage"] = async (...use) => (await import("./command.ts")).withStorage(...use);
const progress: Shared["progress"] = async (...shown) => (await import("./command.ts")).progress(...shown);

/** Resolves a file argument against the caller's directory, also under `npm run`. */
const fromCaller = (file: string): string => resolve(process.env.INIT_CWD ?? process.cwd(), file);

// The reader of the output may close it early (`| head`).
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
  .action(() => run(async () => (await import("../main.ts")).serve(process.env)));

const projections = program.command("projections").description("list and rebuild the read models");
projections
  .command("list")
  .description("list each projection with its rows, and the checkpoint")
  .option("--json", "for scripts")
  .action((options: { json?: true }) =>
    run(async () => {
      const { listProjections } = await import("./projections.ts");
      return withStorage((storage) => listProjections(storage, options));
    }),
  );
projections
  .command("rebuild")
  .description("rebuild beside the live tables while writes go on, then swap atomically")
  .argument("[name]", "a projection")
  .option("--all", "all of them")
  .option("--verify", "compare row by row with the live tables and print what differs")
  .option("--json", "for scripts")
  .action((name: string | undefined, options: { all?: true; verify?: true; json?: true }) => {
    if ((name === undefined) === (options.all === undefined)) {
      process.exitCode = fail("name one projection, or say --all");
      return;
    }
    return run(async () => {
      const { rebuildCommand } = await import("./projections.ts");
      return withStorage((storage) => rebuildCommand(storage, name, options));
    });
  });

const events = program.command("events").description("show, follow, export and import the log");
events
  .command("show")
  .description("show the events of a stream, oldest first; sealed fields stay sealed")
  .argument("<stream>", "as the audit shows it, such as room-room_...")
  .option("--json", "one JSON object a line")
  .action((stream: string, options: { json?: true }) =>
    run(async () => {
      const { eventsOfStream, lineFor } = await import("./events-show.ts");
      return withStorage(async ({ store }) => {
        let count = 0;
        for await (const event of eventsOfStream(store, stream)) {
          print(options.json ? JSON.stringify(event) : lineFor(event));
          count += 1;
        }
        return count === 0 ? fail(`there is no stream ${stream}`, EXIT.notFound) : EXIT.ok;
      });
    }),
  );
events
  .command("tail")
  .description("follow new events until interrupted")
  .option("--after <position>", "from just after a position; `start`: from the first event")
  .option("--json", "one JSON object a line")
  .action((options: { after?: string; json?: true }) =>
    run(async () => {
      const { followEvents, lineFor } = await import("./events-show.ts");
      const { parsePosition } = await import("../event-store/event-store.ts");
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
  .description("export the log and its wrapped data keys as NDJSON")
  .argument("<file>", "where to; - is standard output")
  .option("--json", "print the counts as JSON")
  .action((file: string, options: { json?: true }) =>
    run(async () => {
      const { exportEvents, exportToFile } = await import("./events-export.ts");
      return withStorage(async (storage) => {
        const bar = await progress("events", options.json === true || file === "-");
        const show = (done: number) => bar.update(done);
        const moved = await (file === "-"
          ? exportEvents(storage, process.stdout, new Date(), show)
          : exportToFile(storage, fromCaller(file), new Date(), show)
        ).finally(bar.stop);
        if (file !== "-")
          print(options.json ? JSON.stringify(moved) : `exported ${moved.events} events and ${moved.keys} keys`);
        return EXIT.ok;
      });
    }),
  );
events
  .command("import")
  .description("import an export into this log; keeps revisions and ids, and may be run again after an interruption")
  .argument("<file>", "an export")
  .option("--json", "print the counts as JSON")
  .action((file: string, options: { json?: true }) =>
    run(async () => {
      const { importEvents } = await import("./events-import.ts");
      return withStorage(
        async (storage) => {
          const bar = await progress("events", options.json === true);
          const show = (done: number, total: number) => bar.update(done, total);
          const moved = await importEvents(storage, fromCaller(file), show).finally(bar.stop);
          print(options.json ? JSON.stringify(moved) : `imported ${moved.events} events and ${moved.keys} keys`);
          return EXIT.ok;
        },
        { importing: true },
      );
    }),
  );

const keys = program.command("keys").description("data keys");
keys
  .command("rewrap")
  .description("wrap every data key with the first key of ENCRYPTION_KEYS, so that the others can be taken out")
  .option("--json", "print the count as JSON")
  .action((options: { json?: true }) =>
    run(() =>
      withStorage(async ({ keyring }) => {
        const rewrapped = await keyring.rewrap();
        print(options.json ? JSON.stringify({ rewrapped }) : `rewrapped ${rewrapped} data keys`);
        return EXIT.ok;
      }),
    ),
  );
keys
  .command("rotate-token-secret")
  .description("sign user tokens with a new secret from now on; older ones hold until their last token has ended")
  .option("--at-once", "drop the older ones: every token minted until now ends")
  .option("--json", "print the new secret's id and the count as JSON")
  .action((options: { atOnce?: true; json?: true }) =>
    run(async () => {
      const { rotateTokenSecret } = await import("../app/credentials.ts");
      return withStorage(async ({ keyring }) => {
        const rotated = await rotateTokenSecret(keyring, { at: new Date(), atOnce: options.atOnce });
        const said = `user tokens are signed with the secret ${rotated.id}; dropped ${rotated.dropped} older ones`;
        print(options.json ? JSON.stringify(rotated) : said);
        return EXIT.ok;
      });
    }),
  );

const [first] = process.argv.slice(2);
const commands = program.commands.map((command) => command.name());
if (first !== undefined && !first.startsWith("-") && ![...commands, "help"].includes(first)) {
  process.exit(fail(`unknown command '${first}'; there are ${commands.join(", ")} (see --help)`));
}
await program.parseAsync();
