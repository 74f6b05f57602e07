// Runs of a log on the move: the operator's command dies on its way, and is given again.
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { content } from "../../cli/moving.ts";
import { deathFault, type Run } from "./failpoint-runs.ts";
import { openScene, type Scene, type SetupName } from "./failpoint-scene.ts";

/** A log of another place, which opens the same keys. */
const openTarget = (setup: SetupName, ring: string): Promise<Scene> => openScene(setup, { ENCRYPTION_KEYS: ring });

/** An export that dies leaves nothing that could be taken for a whole one; another is whole. */
export async function exportDies(scene: Scene, { point }: Run, ring: string): Promise<readonly string[]> {
  await using files = temporaryFiles();
  const [partial, whole] = [files.next(), files.next()];
  const died = deathFault(await scene.command(["events", "export", partial], point), point);
  if (died !== undefined) return [died];
  await using target = await openTarget(scene.setup, ring);
  const refused = await target.command(["events", "import", partial]);
  const faults =
    refused.code === 1 && /cut short/.test(refused.output) ? [] : [`a part was imported: ${refused.output}`];
  return [...faults, ...(await moved(scene, target, whole))];
}

/** An import that dies goes on when it is given again, and brings every event once, in order. */
export async function importDies(scene: Scene, { point }: Run, ring: string): Promise<readonly string[]> {
  await using files = temporaryFiles();
  const file = files.next();
  const exported = await scene.command(["events", "export", file]);
  if (exported.code !== 0) return [`no export: ${exported.output}`];
  await using target = await openTarget(scene.setup, ring);
  const died = deathFault(await target.command(["events", "import", file], point), point);
  return died === undefined ? await moved(scene, target, file) : [died];
}

/** Brings a log into another place and compares the two; the file is made when it is not there. */
async function moved(scene: Scene, target: Scene, file: string): Promise<readonly string[]> {
  const exported = await scene.command(["events", "export", file]);
  const isThere = /EEXIST|exists/.test(exported.output);
  if (exported.code !== 0 && !isThere) return [`no export: ${exported.output}`];
  const imported = await target.command(["events", "import", file]);
  if (imported.code !== 0) return [`no import: ${imported.output}`];
  const node = target.launch();
  const faults: string[] = [];
  if ((await node.ready) === undefined) return [`no start: ${(await node.ended).output}`];
  const [from, to] = await Promise.all([scene.events(), target.events()]);
  const textOf = (events: typeof from) => events.map((one) => JSON.stringify({ ...content(one), origin: null }));
  const [wanted, there] = [textOf(from), textOf(to).slice(0, from.length)];
  const at = wanted.findIndex((text, index) => text !== there[index]);
  if (at !== -1) faults.push(`event ${at} of ${wanted.length} is another one: ${wanted[at]} became ${there[at]}`);
  const verified = await target.command(["projections", "rebuild", "--all", "--verify"]);
  if (verified.code !== 0) faults.push(`the read models differ from the log: ${verified.output}`);
  await node.stop();
  return faults;
}

function temporaryFiles(): AsyncDisposable & { next(): string } {
  const made: string[] = [];
  return {
    next() {
      const file = join(tmpdir(), `chatapi-moving-${process.pid}-${performance.now()}.ndjson`);
      made.push(file);
      return file;
    },
    async [Symbol.asyncDispose]() {
      for (const file of made) await rm(file, { force: true });
    },
  };
}
