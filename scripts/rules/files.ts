// Rules on single files: how long they may be, and that what is left for later says why.

import type { Finding, Rule } from "./rule.ts";
import { lineAt } from "./tree.ts";

/** Above this many lines a file is worth a look. */
export const WARN_LINES = 400;

/** Above this many lines a file must be split. */
export const MAX_LINES = 500;

/** No file grows past what one can hold in mind. */
export const size: Rule = {
  name: "size",
  check(tree) {
    const failures: Finding[] = [];
    const warnings: Finding[] = [];
    for (const { path, text } of tree.files.values()) {
      const lines = lineAt(text, text.length - 1);
      const finding = {
        file: path,
        message: `has ${lines} lines (worth a look above ${WARN_LINES}, at most ${MAX_LINES})`,
      };
      if (lines > MAX_LINES) failures.push(finding);
      else if (lines > WARN_LINES) warnings.push(finding);
    }
    return { read: tree.files.size, failures, warnings };
  },
};

/**
 * As many files src may have: those that there are, each of which holds one idea, and few more. Whoever raises it has looked
 * for a file that the new one belongs into.
 */
export const MAX_FILES = 320;
/** A file with fewer lines is a fragment when one file alone imports it. */
export const FRAGMENT_LINES = 60;
/** As many fragments src may have. */
export const MAX_FRAGMENTS = 20;

/** Few files that each hold one idea: what only makes sense beside another file belongs into it. */
export const fragments: Rule = {
  name: "fragments",
  check(tree) {
    const files = [...tree.files.values()].filter(({ path }) => path.startsWith("src/"));
    const importers = new Map<string, Set<string>>();
    for (const { path, imports } of files) {
      for (const { target } of imports) {
        if (target !== null) importers.set(target, (importers.get(target) ?? new Set()).add(path));
      }
    }
    const small = files.flatMap(({ path, text }) => {
      const [importer, ...others] = importers.get(path) ?? [];
      const lines = lineAt(text, text.length - 1);
      if (lines >= FRAGMENT_LINES || importer === undefined || others.length > 0) return [];
      return [{ file: path, message: `has ${lines} lines and one importer, ${importer}` }];
    });
    const failures: Finding[] = [];
    if (files.length > MAX_FILES)
      failures.push({ file: "src", message: `has ${files.length} files, at most ${MAX_FILES}` });
    if (small.length > MAX_FRAGMENTS) {
      const message = `has ${small.length} files under ${FRAGMENT_LINES} lines with one importer, at most ${MAX_FRAGMENTS}`;
      failures.push({ file: "src", message }, ...small);
    }
    return { read: files.length, failures };
  },
};

const OPEN_MARK = /\b(TODO|FIXME|XXX|HACK)\b(?!\([^)\s][^)]*\):? ?\S)/g;

/** What is left for later says why: `TODO(why it waits): what`. */
export const reasons: Rule = {
  name: "reasons",
  check(tree) {
    const failures: Finding[] = [];
    for (const { path, text, comments } of tree.files.values()) {
      for (const comment of comments) {
        for (const match of comment.value.matchAll(OPEN_MARK)) {
          // A mark in backquotes speaks of marks, it does not leave one.
          if (comment.value[match.index - 1] === "`") continue;
          const line = lineAt(text, comment.start + 2 + match.index);
          failures.push({
            file: path,
            line,
            message: `${match[1]} without a reason: write \`${match[1]}(why): what\``,
          });
        }
      }
    }
    return { read: tree.files.size, failures };
  },
};
