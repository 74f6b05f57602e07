// Finds the markers of fences in source text and changes what they mark.
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Comment, parseSync } from "oxc-parser";
import type { Change, Marked } from "./mutation.ts";

const MARKER = /(?:\/\/|\/\*) fence: ([a-z0-9-]+)(?: \*\/|$)/gm;
const SQL_END = "/* end */";

type Node = { readonly type: string; readonly start: number; readonly end: number };
/** A node with the nodes around it, the nearest first. */
type Found = { readonly node: Node; readonly around: readonly Node[]; readonly isLink?: boolean };

const isNode = (value: unknown): value is Node =>
  typeof value === "object" && value !== null && "type" in value && "start" in value && "end" in value;

/** A node's child of this name, or `undefined`. */
function child(node: Node, name: string): Node | undefined {
  const value: unknown = Reflect.get(node, name);
  return isNode(value) ? value : undefined;
}

function* walk(node: Node, around: readonly Node[] = []): Generator<Found> {
  yield { node, around };
  for (const value of Object.values(node)) {
    for (const inner of Array.isArray(value) ? value : [value])
      if (isNode(inner)) yield* walk(inner, [node, ...around]);
  }
}

const MEMBERS = ["Property", "PropertyDefinition", "MethodDefinition", "SwitchCase", "SpreadElement"];
const isStatement = ({ type }: Node) =>
  (type.endsWith("Statement") || type.endsWith("Declaration")) && type !== "EmptyStatement";
/** What is looked through for the expression that a marker means. */
const isLookedThrough = ({ type }: Node) => type === "LogicalExpression" || type === "ConditionalExpression";

/** The position of the code behind a marker: comments between them are part of the marker. */
function codeAfter(text: string, comments: readonly Comment[], from: number): number {
  const at = from + (/\S/.exec(text.slice(from))?.index ?? 0);
  const comment = comments.find(({ start }) => start === at);
  return comment === undefined ? at : codeAfter(text, comments, comment.end);
}

/** What a marker before this position marks. */
function markedAt(program: Node, text: string, at: number): Found {
  const all = [...walk(program)];
  if (text[at] === "." || text.startsWith("?.", at)) {
    // A link of a chain: the call, or the member itself, whose object ends before the dot.
    const link = all.find(
      ({ node }) => node.type === "MemberExpression" && (child(node, "object")?.end ?? at) <= at && node.end > at,
    );
    const [widest] = all.filter(({ node }) => node === link?.node || child(node, "callee") === link?.node);
    if (widest !== undefined) return { ...widest, isLink: true };
  }
  const starting = all.filter(({ node }) => node.start === at && node.type !== "Program");
  const found =
    starting.find(({ node }) => isStatement(node) || MEMBERS.includes(node.type)) ??
    starting.find(({ node }) => !isLookedThrough(node));
  if (found === undefined) throw new Error("marks no code");
  return found;
}

type Edit = { readonly from: number; readonly to: number; readonly code: string };

function dropped(text: string, { node, around, isLink = false }: Found): Edit {
  const [parent] = around;
  const object = child(child(node, "callee") ?? node, "object");
  if (isLink && object !== undefined) return { from: object.end, to: node.end, code: "" };
  if (parent?.type === "LogicalExpression") {
    const other = child(parent, child(parent, "left") === node ? "right" : "left");
    if (other !== undefined) return { from: parent.start, to: parent.end, code: text.slice(other.start, other.end) };
  }
  if (node.type === "PropertyDefinition" || node.type === "MethodDefinition" || node.type === "SwitchCase") {
    return { from: node.start, to: node.end, code: "" };
  }
  if (isStatement(node)) return { from: node.start, to: node.end, code: ";" };
  const lists = ["ObjectExpression", "ArrayExpression", "CallExpression", "NewExpression"];
  if (parent !== undefined && lists.includes(parent.type) && child(parent, "callee") !== node) {
    const comma = /^\s*,/.exec(text.slice(node.end))?.[0].length ?? 0;
    return { from: node.start, to: node.end + comma, code: "" };
  }
  throw new Error(`a ${node.type} in a ${parent?.type} cannot be dropped`);
}

/** Where the value is that a statement or member computes; an expression is its own. */
function computedBy(node: Node): Node {
  const declarators: unknown = Reflect.get(node, "declarations");
  const [declarator] = Array.isArray(declarators) ? declarators.filter(isNode) : [];
  const inner =
    declarator ??
    child(node, "declaration") ??
    child(node, "expression") ??
    child(node, "init") ??
    child(node, "value");
  switch (node.type) {
    case "ExportNamedDeclaration":
    case "VariableDeclaration":
    case "ExpressionStatement":
    case "VariableDeclarator":
    case "Property":
    case "PropertyDefinition":
      return inner === undefined ? node : computedBy(inner);
    case "ReturnStatement":
    case "ThrowStatement":
      return child(node, "argument") ?? node;
    case "AssignmentExpression":
      return child(node, "right") ?? node;
    default:
      if (isStatement(node)) throw new Error(`a ${node.type} computes no value`);
      return node;
  }
}

function editOf(text: string, found: Found, change: Change): Edit {
  const { node } = found;
  switch (change.kind) {
    case "drop":
      return dropped(text, found);
    case "condition": {
      const { start, end } = child(node, "test") ?? child(computedBy(node), "test") ?? computedBy(node);
      return { from: start, to: end, code: String(change.value) };
    }
    case "replaceWith": {
      const { start, end } = computedBy(node);
      const key = Reflect.get(node, "shorthand") === true ? `${text.slice(start, end)}: ` : "";
      return { from: start, to: end, code: key + change.code };
    }
    case "substitute":
      return { from: node.start, to: node.end, code: substituted(text.slice(node.start, node.end), change) };
  }
}

function substituted(text: string, { find, replace }: { readonly find: string; readonly replace: string }): string {
  const times = text.split(find).length - 1;
  if (times !== 1) throw new Error(`stands ${times} times in it, not once: ${find}`);
  return text.replace(find, () => replace);
}

/** The same within a text, as of SQL. */
function editOfText(text: string, from: number, to: number, change: Change): Edit {
  switch (change.kind) {
    case "drop":
      return { from, to, code: "" };
    case "condition":
      return { from, to, code: String(change.value) };
    case "replaceWith":
      return { from, to, code: change.code };
    case "substitute":
      return { from, to, code: substituted(text.slice(from, to), change) };
  }
}

/**
 * The end of what a marker within a text marks, before the end of the text itself: its `/* end *\/`, on whichever line, or
 * that of its own line where the next marker comes first.
 */
function endOfText(text: string, from: number, end: number): number {
  const rest = text.slice(from, end);
  const next = rest.search(MARKER);
  const close = rest.slice(0, next < 0 ? undefined : next).indexOf(SQL_END);
  if (close >= 0) return from + close;
  const [line = ""] = rest.split("\n", 1);
  if (line.trim() === "") throw new Error(`nothing before ${SQL_END}`);
  return from + line.length;
}

/** The text with what the marker of `fence` marks changed. Throws when the marker is not there exactly once. */
export function withoutFence(path: string, text: string, { fence, mutate }: Marked): string {
  const markers = [...text.matchAll(MARKER)].filter(([, id]) => id === fence);
  const [marker] = markers;
  if (marker === undefined || markers.length > 1)
    throw new Error(`${fence}: marked ${markers.length} times in ${path}`);
  const { program, comments } = parseSync(path, text);
  const behind = marker.index + marker[0].length;
  let edit: Edit;
  try {
    if (comments.some(({ start }) => start === marker.index)) {
      edit = editOf(text, markedAt(program, text, codeAfter(text, comments, behind)), mutate);
    } else {
      const literals = [...walk(program)].filter(({ node }) => /Literal$/.test(node.type));
      const literal = literals.findLast(({ node }) => node.start < marker.index && node.end > marker.index);
      if (literal === undefined) throw new Error("neither a comment nor in a text");
      edit = editOfText(text, behind, endOfText(text, behind, literal.node.end - 1), mutate);
    }
  } catch (error) {
    throw new Error(`${fence} (${path}): ${error instanceof Error ? error.message : error}`);
  }
  const changed = text.slice(0, edit.from) + edit.code + text.slice(edit.to);
  const [broken] = parseSync(path, changed).errors;
  if (broken !== undefined) throw new Error(`${fence} (${path}): does not parse once changed: ${broken.message}`);
  return changed;
}

/** The ids of all markers below `src`, each with the files that it is in, one for each time. */
export async function readFences(root: string): Promise<ReadonlyMap<string, readonly string[]>> {
  const fences = new Map<string, string[]>();
  for (const entry of await readdir(join(root, "src"), { recursive: true })) {
    if (!entry.endsWith(".ts")) continue;
    const path = join("src", entry);
    for (const [, id = ""] of (await readFile(join(root, path), "utf8")).matchAll(MARKER)) {
      fences.set(id, [...(fences.get(id) ?? []), path]);
    }
  }
  return fences;
}
