// channels/email/html-text.ts: the plain part of a mail, made from its HTML in one pass, however deep or broken it is.

import { decodeHTML } from "entities";
import { LRUCache } from "lru-cache";
import { Slices } from "../../platform/bounded.ts";

// Elements of mails, without attributes or with at least one that has a value. "<3", "<jane@example.com>" and "if a<b
// and b>c" in plain text are not HTML.
const ELEMENTS = new Set(
  (
    "a abbr address article aside b big blockquote body br button caption center cite code col colgroup dd del details " +
    "div dl dt em figcaption figure font footer form h1 h2 h3 h4 h5 h6 head header hr html i iframe img input ins kbd " +
    "li link main mark meta nav ol p picture pre q s samp section small span strike strong style sub summary sup svg " +
    "table tbody td tfoot th thead time title tr tt u ul var video wbr"
  ).split(" "),
);
const TAG = /<!doctype\s|<!--|<\/?([a-z][a-z0-9]*)(?:\s[^<>=]*=[^<>]*|\s*\/?)>/gi;

/** True when the content has at least one element, comment or doctype of HTML. */
export function looksLikeHtml(content: string): boolean {
  for (const [, name] of content.matchAll(TAG)) if (name === undefined || ELEMENTS.has(name.toLowerCase())) return true;
  return false;
}

// A thousand recipients get the same content.
const MAX_CACHED_CHARACTERS = 8_388_608;
const texts = new LRUCache<string, Promise<string>>({
  maxSize: MAX_CACHED_CHARACTERS,
  sizeCalculation: (_text, html) => html.length + 1,
  memoMethod: convert,
});

/**
 * The text of a mail for readers without HTML: links with their addresses, pictures by their alternative text, lists with
 * bullets, cells of a table apart. It takes time in proportion to the length, and lets others run meanwhile.
 */
export const textFromHtml = (html: string): Promise<string> => texts.memo(html);

const WIDTH = 78;
/** Deeper lists and quotes are indented no further. */
const MAX_INDENTED = 8;
const MAX_BREAKS = 3;
const MAX_TAG_READ = 8_192;
const MAX_TEXT_PIECE = 4_096;
const MAX_REFERENCE = 40;
/** How long a conversion goes on before others run. */
const SLICE_MS = 5;

/** Line breaks before and after an element. */
const BREAKS: ReadonlyMap<string, number> = new Map([
  ..."p h1 h2 h3 h4 h5 h6 ul ol dl table blockquote pre hr figure form".split(" ").map((name) => [name, 2] as const),
  ..."address article aside body caption center dd details div dt fieldset figcaption footer header html li main nav section summary tr"
    .split(" ")
    .map((name) => [name, 1] as const),
]);
/** Elements whose content is no text, each with what ends it. */
const SKIPPED: ReadonlyMap<string, RegExp> = new Map(
  ["head", "script", "style", "template", "title"].map((name) => [name, new RegExp(`</${name}`, "gi")]),
);

const attributeNamed = (name: string): RegExp =>
  new RegExp(`\\s${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)'|([^\\s"'>]+))`, "i");
const ALT = attributeNamed("alt");
const HREF = attributeNamed("href");
const START = attributeNamed("start");

/** Lines of text, wrapped, with the marks of lists and quotes before them. */
class Lines {
  readonly #done: string[] = [];
  #line = "";
  #breaks = 0;
  #space = false;
  #prefix = "";
  /** The mark before the line that is open. */
  #before = "";
  /** Of the next line alone: a list's bullet. */
  #bullet = "";

  /** The next text begins at least so many lines further down. */
  block(breaks: number): void {
    if (breaks === 0) return;
    this.#breaks = Math.max(this.#breaks, breaks);
    this.#space = false;
  }

  break(): void {
    this.#breaks = Math.min(this.#breaks + 1, MAX_BREAKS);
    this.#space = false;
  }

  /** The mark before each line from now on, and another one before the next. */
  mark(prefix: string, bullet = ""): void {
    this.#prefix = prefix;
    this.#bullet = bullet;
  }

  /** Separates what follows from what precedes on the same line. */
  gap(): void {
    if (this.#breaks === 0) this.#add("", "  ");
  }

  text(text: string): void {
    const parts = text.split(/[ \t\r\n\f]+/);
    for (const [index, part] of parts.entries()) {
      if (index > 0) this.#space = true;
      if (part === "") continue;
      this.#add(part, this.#space ? " " : "");
      this.#space = false;
    }
  }

  /** As it is, with its spaces and line breaks. */
  preformatted(text: string): void {
    for (const [index, line] of text.split(/\r?\n/).entries()) {
      if (index > 0) this.break();
      if (line !== "") this.#add(line, "");
    }
  }

  #add(text: string, space: string): void {
    const { length } = this.#line;
    if (length > 0 && this.#breaks === 0 && space !== "" && length + space.length + text.length > WIDTH)
      this.#breaks = 1;
    if (this.#breaks > 0 || length === 0) {
      this.#begin();
      this.#line += text;
    } else this.#line += space + text;
  }

  #begin(): void {
    if (this.#line !== "") {
      this.#done.push(this.#line.trimEnd());
      // Between a quote and what is none the blank line is not quoted.
      const isQuoted = this.#prefix.startsWith(">") && this.#before.startsWith(">");
      const blankLine = isQuoted
        ? (this.#prefix.length < this.#before.length ? this.#prefix : this.#before).trimEnd()
        : "";
      for (let blank = 1; blank < this.#breaks; blank += 1) this.#done.push(blankLine);
    }
    this.#line = this.#bullet === "" ? this.#prefix : this.#bullet;
    this.#before = this.#prefix;
    this.#bullet = "";
    this.#breaks = 0;
  }

  toString(): string {
    const lines = [...this.#done, this.#line.trimEnd()];
    return lines.some((line) => line.trim() !== "") ? lines.join("\n") : "";
  }
}

type List = { readonly ordered: boolean; next: number };

/** What the open elements mean for the text. */
class Writer {
  readonly lines = new Lines();
  readonly #lists: List[] = [];
  #quotes = 0;
  #preformatted = 0;
  /** Cells of the row so far. */
  #cells = 0;
  #link: { readonly href: string; text: string } | undefined;

  text(source: string): void {
    const text = decodeHTML(source);
    if (this.#link !== undefined && this.#link.text.length <= MAX_TAG_READ) this.#link.text += text;
    if (this.#preformatted > 0) this.lines.preformatted(text);
    else this.lines.text(text);
  }

  open(name: string, tag: string): void {
    if (name === "br") this.lines.break();
    else this.lines.block(this.#breaksOf(name));
    if (name === "img") this.text(attribute(tag, ALT));
    if (name === "hr") this.lines.text("-".repeat(WIDTH / 2));
    if (name === "hr") this.lines.block(2);
    if (name === "pre") this.#preformatted += 1;
    if (name === "tr") this.#cells = 0;
    if (name === "td" || name === "th") {
      if (this.#cells > 0) this.lines.gap();
      this.#cells += 1;
    }
    if (name === "a") this.#openLink(attribute(tag, HREF));
    if (name === "ul" || name === "ol") {
      this.#lists.push({ ordered: name === "ol", next: Number.parseInt(attribute(tag, START), 10) || 1 });
    }
    if (name === "blockquote") this.#quotes += 1;
    if (name === "li") this.#bullet();
    else if (name === "blockquote") this.#mark();
  }

  close(name: string): void {
    if (name === "a") this.#closeLink();
    if (name === "pre") this.#preformatted = Math.max(0, this.#preformatted - 1);
    if (name === "ul" || name === "ol") this.#lists.pop();
    if (name === "blockquote") this.#quotes = Math.max(0, this.#quotes - 1);
    this.lines.block(this.#breaksOf(name));
    if (["ul", "ol", "li", "blockquote"].includes(name)) this.#mark();
  }

  /** A list inside a list has no blank lines around it. */
  #breaksOf(name: string): number {
    const inner = (name === "ul" || name === "ol") && this.#lists.length > 0;
    return inner ? 1 : (BREAKS.get(name) ?? 0);
  }

  #openLink(href: string): void {
    this.#closeLink();
    this.#link = { href: decodeHTML(href).trim(), text: "" };
  }

  #closeLink(): void {
    const link = this.#link;
    this.#link = undefined;
    if (link === undefined || !/^(?:https?|mailto|tel):./i.test(link.href)) return;
    const text = link.text.trim();
    if (text !== link.href && `mailto:${text}` !== link.href) this.lines.text(` [${link.href}]`);
  }

  #indent(levels: number): string {
    return "> ".repeat(Math.min(this.#quotes, MAX_INDENTED)) + "   ".repeat(Math.min(levels, MAX_INDENTED));
  }

  #mark(): void {
    this.lines.mark(this.#indent(this.#lists.length));
  }

  #bullet(): void {
    const list = this.#lists.at(-1);
    const number = list?.ordered === true ? list.next : undefined;
    if (list !== undefined) list.next += 1;
    const levels = Math.max(1, this.#lists.length);
    const bullet = number === undefined ? " * " : ` ${number}. `;
    this.lines.mark(this.#indent(levels), this.#indent(levels - 1) + bullet);
  }
}

/** The value of an attribute in a tag, as it was written; empty when there is none. */
function attribute(tag: string, named: RegExp): string {
  const [, ...values] = named.exec(tag.slice(0, MAX_TAG_READ)) ?? [];
  return values.find((value) => value !== undefined) ?? "";
}

/** Where a tag ends: behind its `>`, which does not count inside a quoted value. The end of all when there is none. */
function endOfTag(html: string, from: number): number {
  const mark = /=\s*["']|>/g;
  mark.lastIndex = from;
  for (let found = mark.exec(html); found !== null; found = mark.exec(html)) {
    if (found[0] === ">") return mark.lastIndex;
    const closing = html.indexOf(found[0].slice(-1), mark.lastIndex);
    if (closing < 0) break;
    mark.lastIndex = closing + 1;
  }
  return html.length;
}

/** Where a piece of text ends: at the next tag, or after so much that others should run, not inside a character's name. */
function endOfText(html: string, from: number): number {
  // No more than the piece is looked at: looking further each time would take time that grows with the square of the text.
  const piece = html.slice(from, from + MAX_TEXT_PIECE + 1);
  const tag = piece.indexOf("<");
  if (tag >= 0) return from + tag;
  if (piece.length <= MAX_TEXT_PIECE) return from + piece.length;
  const reference = piece.lastIndexOf("&");
  return from + (reference > MAX_TEXT_PIECE - MAX_REFERENCE ? reference : MAX_TEXT_PIECE);
}

/** Where the content of an element that is no text ends. */
function endOfContent(html: string, from: number, end: RegExp): number {
  end.lastIndex = from;
  return end.exec(html)?.index ?? html.length;
}

async function convert(html: string): Promise<string> {
  const writer = new Writer();
  const slices = new Slices(SLICE_MS);
  for (let at = 0; at < html.length; ) {
    at = step(html, at, writer);
    if (slices.over) await slices.next();
  }
  return writer.lines.toString();
}

/** Takes the text or the tag that begins here. Returns where the next one does. */
function step(html: string, at: number, writer: Writer): number {
  if (html[at] !== "<") {
    const end = endOfText(html, at);
    writer.text(html.slice(at, end));
    return end;
  }
  if (html.startsWith("<!--", at)) {
    const end = html.indexOf("-->", at + 4);
    return end < 0 ? html.length : end + 3;
  }
  const [opening, slash, written] = /^<(\/?)([a-z][a-z0-9]{0,20})?/i.exec(html.slice(at, at + 24)) ?? [];
  if (written === undefined && slash === "" && !/[!?]/.test(html[at + 1] ?? "")) {
    writer.text("<");
    return at + 1;
  }
  const end = endOfTag(html, at + (opening?.length ?? 1));
  const name = written?.toLowerCase() ?? "";
  if (slash === "/") writer.close(name);
  else if (written !== undefined) {
    const skippedTo = SKIPPED.get(name);
    if (skippedTo !== undefined) return endOfContent(html, end, skippedTo);
    writer.open(name, html.slice(at, Math.min(end, at + MAX_TAG_READ)));
  }
  return end;
}
