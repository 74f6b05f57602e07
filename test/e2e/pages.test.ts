// The pages in a real browser, wide and narrow, light and dark: nothing overflows, axe finds nothing serious, no error on the
// console, no request to anywhere else. BROWSER_PICTURES=<folder> keeps a picture of each.
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createTransport } from "nodemailer";
import puppeteer, { type Browser, type Page } from "puppeteer-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestServer, type TestServer } from "../support/server.ts";
import { isLong } from "../support/size.ts";
import { newClient } from "./support/api.ts";

const COMMANDS = ["chromium", "chromium-browser", "google-chrome"];
const executablePath = COMMANDS.map((name) =>
  spawnSync("sh", ["-c", `command -v ${name}`])
    .stdout.toString()
    .trim(),
).find((path) => path !== "");
if (executablePath === undefined) console.log(`skipped: no browser (put ${COMMANDS.join(", ")} on the PATH)`);

const PICTURES = process.env.BROWSER_PICTURES;
const WIDTHS = { wide: 1280, narrow: 380 } as const;
const SCHEMES = ["light", "dark"] as const;
/** In the gate one of each; with `npm run test:faults`, or for pictures, all four. */
const LOOKS = Object.entries(WIDTHS)
  .flatMap(([name, width]) => SCHEMES.map((scheme) => ({ name, width, scheme })))
  .filter(({ name, scheme }) => isLong || PICTURES !== undefined || (name === "wide") === (scheme === "light"));

describe.runIf(executablePath !== undefined)("in a browser", { timeout: 180_000 }, () => {
  const stack = new AsyncDisposableStack();
  let server: TestServer;
  let browser: Browser;
  let axe: string;
  let mailId: string;

  beforeAll(async () => {
    server = stack.use(await startTestServer());
    browser = await puppeteer.launch({ executablePath: executablePath ?? "", args: ["--no-sandbox", "--disable-gpu"] });
    stack.defer(() => browser.close());
    axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
    const api = await newClient(server.url);
    const cc = ["copy@example.com"];
    const mail = { type: "email", to_email: "user@example.com", subject: "Welcome!", reply_to: "help@example.com", cc };
    await api.post("/notifications", {
      ...mail,
      bcc: ["quiet@example.com"],
      content: "<h1>Welcome to our platform!</h1>",
    });
    const answer = await fetch(`${server.url}/dev/mailbox?wait_seconds=20`);
    const found = (await answer.json()) as { data: { id: string }[] };
    mailId = found.data[0]?.id ?? "";
  }, 180_000);
  afterAll(() => stack.disposeAsync());

  type Looked = { readonly page: Page; readonly troubles: readonly string[] } & AsyncDisposable;

  async function open(path: string, width: number, scheme: string): Promise<Looked> {
    const page = await browser.newPage();
    const troubles: string[] = [];
    const own = new URL(path, server.url);
    await page.setViewport({ width, height: 900 });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    page.on("console", (message) => {
      // The address itself answers 404 or 401: the browser says so, whatever the page does.
      const isItself = message.location().url === own.href;
      if (message.type() === "error" && !isItself)
        troubles.push(`console: ${message.text()} ${message.location().url}`);
    });
    page.on("pageerror", (error) => troubles.push(`error: ${error instanceof Error ? error.message : String(error)}`));
    page.on("request", (request) => {
      const { origin, protocol } = new URL(request.url());
      if (origin !== server.url && !["data:", "blob:"].includes(protocol)) troubles.push(`request: ${request.url()}`);
    });
    await page.goto(own.href, { waitUntil: "load" });
    return { page, troubles, [Symbol.asyncDispose]: () => page.close() };
  }

  async function picture(page: Page, name: string): Promise<void> {
    if (PICTURES !== undefined) await page.screenshot({ path: join(PICTURES, `${name}.png`) });
  }

  /** How many pixels the page is wider than its window. */
  const overflow = (page: Page) =>
    page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");

  /** Serious and critical findings of axe, in one line each. */
  async function findings(page: Page): Promise<readonly string[]> {
    await page.evaluate(axe);
    return (await page.evaluate(`axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => violations
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, nodes }) => id + ": " + nodes.slice(0, 5).map(({ target, any }) => target.join(" ") + " " + (any[0]?.message ?? "")).join(" | ")))`)) as string[];
  }

  const PAGES: readonly (readonly [name: string, path: () => string, ready: string])[] = [
    ["errors", () => "/docs/errors#last_owner", "dl.codes"],
    ["guides", () => "/docs/guides", "dl.codes"],
    ["guide", () => "/docs/guides/http", "main h2"],
    ["running", () => "/docs/guides/running", "main table"],
    ["mailbox", () => "/dev/mailbox", "ul.mails li"],
    ["mail", () => `/dev/mailbox/${mailId}`, "iframe"],
    ["404", () => "/nothing/here", "main h1"],
    ["401", () => "/api/v1/rooms", "main h1"],
    ["reference", () => "/docs", "h1"],
  ];

  for (const { name, width, scheme } of LOOKS) {
    test.each(PAGES)(`%s, ${name} and ${scheme}`, async (title, path, ready) => {
      await using opened = await open(path(), width, scheme);
      const { page, troubles } = opened;
      await page.waitForSelector(ready, { timeout: 120_000 });
      if (title === "reference")
        await page.waitForFunction("document.body.innerText.includes('/api/v1/clients')", { timeout: 120_000 });
      await picture(page, `${title}-${name}-${scheme}`);
      expect(await overflow(page), "pixels beyond the window").toBe(0);
      expect(await findings(page)).toEqual([]);
      expect(troubles).toEqual([]);
    });
  }

  test("new mail appears by itself, is found by its text, and can be deleted", async () => {
    await using opened = await open("/dev/mailbox", WIDTHS.wide, "light");
    const { page, troubles } = opened;
    const { host, port } = server.mailbox ?? { host: "", port: 0 };
    const transport = createTransport({ host, port, ignoreTLS: true });
    await transport.sendMail({ from: "a@example.com", to: "b@example.com", subject: "Second", text: "hippopotamus" });
    transport.close();
    await page.waitForFunction("document.querySelector('ul.mails li')?.textContent.includes('Second')");
    await page.type("input[type=search]", "hippopotamus");
    expect(await page.evaluate("document.querySelectorAll('ul.mails li:not([hidden])').length")).toBe(1);
    await page.click("ul.mails li:not([hidden]) a");
    await page.waitForSelector("#delete");
    await page.click("#delete");
    await page.waitForSelector("ul.mails");
    expect(await page.evaluate("document.querySelector('ul.mails').textContent.includes('Second')")).toBe(false);
    expect(troubles).toEqual([]);
  });

  test("a mail shows who gets it openly and hidden, where answers go, and its notification", async () => {
    await using opened = await open(`/dev/mailbox/${mailId}`, WIDTHS.wide, "light");
    const text = String(await opened.page.evaluate("document.querySelector('main').innerText"));
    for (const part of [/Bcc\s+quiet@example.com/, /Cc\s+copy@example.com/, /Reply-To\s+help@example.com/, /ntf_\w+/]) {
      expect(text).toMatch(part);
    }
  });
});
