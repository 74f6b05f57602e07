// One set-up that was used, and what lies in each of its places afterwards.
import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { ADMIN_KEY } from "../../e2e/support/setups.ts";
import { openScene, type Scene, type SetupName } from "./failpoint-scene.ts";
import { type Kept, tag } from "./secrets-kept.ts";
import { secretReceivers } from "./secrets-receivers.ts";
import { useEverything } from "./secrets-run.ts";
import { commandLines, filesBelow, filesOfTable, openedKeys, statementsOf, tablesOf } from "./secrets-stores.ts";
import { Talk } from "./secrets-talk.ts";
import { makeTrouble } from "./secrets-trouble.ts";

export type SecretStores = Map<string, readonly Buffer[]>;
export type Used = {
  readonly places: SecretStores;
  /** What is open by design: each place has some of it, or it was not looked at. */
  readonly open: readonly string[];
};

/** The database's schemas, as places. */
const SCHEMAS: Readonly<Record<string, string>> = { log: "log", keys: "data keys", read: "read models", jobs: "jobs" };
const RING_FILE = "encryption-keys";
const PASSWORD_FILE = join("postgres", "password");

/** Starts a server that prints all it can, uses everything on it, stops it, and collects. */
export async function useSetup(setup: SetupName, kept: Kept): Promise<Used> {
  await using open = new AsyncDisposableStack();
  const metricsToken = kept.plain("operator's key");
  const adminKey = kept.keep("operator's key", ADMIN_KEY);
  const receivers = open.use(await secretReceivers(kept));
  const scene = open.use(await openScene(setup, { METRICS_TOKEN: metricsToken, LOG_LEVEL: "trace" }));
  const node = open.use(scene.launch());
  const url = await node.ready;
  if (url === undefined) throw new Error(`the server did not start:\n${node.output()}`);
  const talk = new Talk(url);
  const databaseUrl = await scene.databaseUrl();
  const ring = kept.keep("encryption key", scene.env.ENCRYPTION_KEYS ?? (await ownRing(scene.dataDir)));
  kept.keep("database password", decodeURIComponent(new URL(databaseUrl).password));

  const [requestId, name] = [tag(), tag()];
  const used = await useEverything({ talk, kept, receivers, adminKey, metricsToken, requestId });
  await makeTrouble({ talk, kept, used, databaseUrl, name, output: node.output });
  for (const key of await openedKeys(databaseUrl, [ring])) kept.keep("data key", key);

  const places: SecretStores = talk.heard;
  places.set("sent", receivers.received());
  for (const [schema, bytes] of await tablesOf(databaseUrl)) places.set(SCHEMAS[schema] ?? schema, [bytes]);
  places.set("statements", [await statementsOf(databaseUrl, name)]);
  places.set("command lines", [await commandLines()]);
  places.set("export", [Buffer.from((await scene.command(["events", "export", "-"])).output)]);
  const ofLog = scene.setup === "embedded" ? await filesOfTable(databaseUrl, "log.events") : [];
  // Stopped, everything that was to be written has been.
  places.set("printed", [Buffer.from((await node.stop()).output)]);
  await collectFiles(places, scene, ofLog);
  const { client, room, delivery } = used;
  return { places, open: [requestId, name, client, room, delivery, "chatapi_http", process.execPath, scene.dataDir] };
}

const ownRing = async (dataDir: string): Promise<string> => (await readFile(join(dataDir, RING_FILE), "utf8")).trim();

async function collectFiles(places: SecretStores, scene: Scene, ofLog: readonly string[]): Promise<void> {
  if (scene.eventStoreFolder !== undefined) {
    const files = await filesBelow(join(scene.eventStoreFolder, "db"));
    places.set("EventStoreDB's files", [...files.values()]);
  }
  if (scene.setup !== "embedded") return;
  const logFiles = new Set(ofLog.map((path) => join("postgres", "cluster", path)));
  for (const [path, bytes] of await filesBelow(scene.dataDir)) {
    const place = placeOfFile(path, logFiles);
    places.set(place, [...(places.get(place) ?? []), bytes]);
  }
}

function placeOfFile(path: string, ofLog: ReadonlySet<string>): string {
  if (path === RING_FILE || path === PASSWORD_FILE) return basename(path);
  if (ofLog.has(path)) return "files of the log";
  return path.startsWith(join("postgres", "log")) ? "PostgreSQL's log" : "files of the database";
}
