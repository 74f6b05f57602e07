// Markdown as our guides use it, to markup: headings, paragraphs, lists, tables, code, links, emphasis.
import { escapeHtml, type Html } from "./markup.ts";

/** Where a link of a guide leads on the server. */
type LinkTarget = (href: string) => string;

const FENCE = "```";

/** A guide as markup. Lines that begin an HTML comment are left out. */
export function markdown(text: string, linkTarget: LinkTarget): Html {
  const lines = text.split("\n").filter((line) => !line.startsWith("<!--"));
  const inline = (source: string) => inlineOf(source, linkTarget);
  const blocks: string[] = [];
  let at = 0;
  const takeWhile = (wanted: (line: string) => boolean): readonly string[] => {
    const from = at;
    while (at < lines.length && wanted(lines[at] ?? "")) at += 1;
    return lines.slice(from, at);
  };
  while (at < lines.length) {
    const line = lines[at] ?? "";
    const heading = /^(#{1,4}) (.+)$/.exec(line);
    if (line.trim() === "") at += 1;
    else if (line.startsWith(FENCE)) {
      at += 1;
      const code = takeWhile((one) => !one.startsWith(FENCE));
      at += 1;
      blocks.push(`<pre tabindex="0"><code>${escapeHtml(code.map(indented).join("\n"))}</code></pre>`);
    } else if (heading !== null) {
      const [, marks = "", title = ""] = heading;
      at += 1;
      blocks.push(`<h${marks.length} id="${anchorOf(title)}">${inline(title)}</h${marks.length}>`);
    } else if (line.startsWith("|"))
      blocks.push(
        tableOf(
          takeWhile((one) => one.startsWith("|")),
          inline,
        ),
      );
    else if (ITEM.test(line))
      blocks.push(
        listOf(
          takeWhile((one) => ITEM.test(one) || /^\s+\S/.test(one)),
          inline,
        ),
      );
    else blocks.push(`<p>${inline(takeWhile(isText).join("\n"))}</p>`);
  }
  return { html: blocks.join("\n") };
}

const LONG_LINE = 80;

/** A long line of JSON over several lines, so that it is read without scrolling. */
function indented(line: string): string {
  if (line.length <= LONG_LINE || !line.startsWith("{")) return line;
  try {
    return JSON.stringify(JSON.parse(line), null, 2);
  } catch {
    return line;
  }
}

const ITEM = /^(?:-|\d+\.) /;
const isText = (line: string): boolean =>
  line.trim() !== "" && !line.startsWith(FENCE) && !line.startsWith("|") && !line.startsWith("#") && !ITEM.test(line);

/** As GitHub names its anchors. */
const anchorOf = (title: string): string =>
  title
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");

function tableOf(lines: readonly string[], inline: (text: string) => string): string {
  const [head = [], , ...rows] = lines.map((line) =>
    line
      .trim()
      .replace(/^\|/, "")
      .replace(/\|$/, "")
      .split(/(?<!\\)\|/)
      .map((cell) => inline(cell.trim().replaceAll("\\|", "|"))),
  );
  const row = (cells: readonly string[], tag: string) => cells.map((cell) => `<${tag}>${cell}</${tag}>`).join("");
  const body = rows.map((cells) => `<tr>${row(cells, "td")}</tr>`).join("\n");
  return `<div class="scroll" tabindex="0"><table><thead><tr>${row(head, "th")}</tr></thead><tbody>\n${body}\n</tbody></table></div>`;
}

function listOf(lines: readonly string[], inline: (text: string) => string): string {
  const tag = lines[0]?.startsWith("-") ? "ul" : "ol";
  const items: string[] = [];
  for (const line of lines) {
    if (ITEM.test(line)) items.push(line.replace(ITEM, ""));
    else items.push(`${items.pop() ?? ""}\n${line.trim()}`);
  }
  return `<${tag}>${items.map((item) => `<li>${inline(item)}</li>`).join("\n")}</${tag}>`;
}

/** Code first: nothing inside it means anything else. */
function inlineOf(text: string, linkTarget: LinkTarget): string {
  return text
    .split(/(`[^`]*`)/)
    .map((part) => {
      if (part.length > 1 && part.startsWith("`")) return `<code>${escapeHtml(part.slice(1, -1))}</code>`;
      return escapeHtml(part)
        .replaceAll(/!\[[^[\]]*\]\([^()\s]*\)/g, "")
        .replaceAll(
          /\[([^[\]]*)\]\(([^()\s]*)\)/g,
          (_, name: string, to: string) => `<a href="${linkTarget(to)}">${name}</a>`,
        )
        .replaceAll(/&lt;(https?:\/\/[^\s&]*)&gt;/g, '<a href="$1">$1</a>')
        .replaceAll(/\*\*([^*]*)\*\*/g, "<strong>$1</strong>")
        .replaceAll(/(?<![\w*])\*([^*\n]*)\*(?![\w*])/g, "<em>$1</em>");
    })
    .join("");
}
