// The image's recipe: what goes in, who runs it, and that its health check tells a ready node from one that is not.
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import manifest from "../../package.json" with { type: "json" };
import { startTestServer, type TestServer } from "../support/server.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const recipe = readFileSync(`${ROOT}Dockerfile`, "utf8");
/** The instructions, each on one line, comments left out. */
const lines = recipe
  .replaceAll(/^#.*\n/gm, "")
  .replaceAll(/\\\n\s*/g, " ")
  .split("\n")
  .filter((line) => line !== "");
const [, ...stages] = lines
  .join("\n")
  .split(/^(?=FROM )/m)
  .map((stage) => stage.split("\n"));
const last = stages.at(-1) ?? [];
const json = (name: string): string[] => {
  const line = last.find((one) => new RegExp(`^${name}\\b`).test(one)) ?? "";
  return z.array(z.string()).parse(JSON.parse(line.slice(line.indexOf("["))));
};

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server[Symbol.asyncDispose]());

/** Runs the image's health check, as its container would, against a port of this machine; the exit code. */
function healthOf(url: string): Promise<number | null> {
  const line = last.find((one) => one.startsWith("HEALTHCHECK")) ?? "";
  const [program, ...args] = z.array(z.string()).parse(JSON.parse(line.slice(line.indexOf("CMD [") + 4)));
  expect(program).toBe("node");
  const child = spawn(process.execPath, args, { env: { PORT: new URL(url).port }, stdio: "ignore" });
  return new Promise((resolve, reject) => child.on("error", reject).on("exit", resolve));
}

test("has the Node that the project pins, and the project's version", () => {
  expect(recipe).toContain(`ARG NODE_VERSION=${manifest.dependencies.node}\n`);
  expect(recipe).toContain(`ARG VERSION=${manifest.version}\n`);
  for (const [from] of stages) expect(from).toMatch(/^FROM node:\$\{NODE_VERSION\}-\w+-slim\b/);
});

test("holds only what runs: production packages, without PostgreSQL's programs, without what installs packages", () => {
  expect(stages).toHaveLength(2);
  const install = stages[0]?.find((line) => line.includes("npm ci")) ?? "";
  for (const flag of ["--omit=dev", "--omit=optional", "--ignore-scripts"]) expect(install).toContain(flag);
  const copied = last.filter((line) => line.startsWith("COPY ")).map((line) => line.split(" ").slice(1, -1));
  expect(copied).toEqual([["--from=packages", "/app/node_modules"], ["package.json", "LICENSE"], ["bin"], ["src"]]);
  const ignored = readFileSync(`${ROOT}.dockerignore`, "utf8").split("\n");
  expect(ignored).toContain("*");
  const sent = ignored.filter((line) => line.startsWith("!")).map((line) => line.slice(1));
  expect(sent.sort()).toEqual(["LICENSE", "bin", "package-lock.json", "package.json", "src"]);
  for (const path of sent) expect(existsSync(`${ROOT}${path}`), path).toBe(true);
});

test("runs as somebody who is not root, under an init that passes signals on", () => {
  const user = last.findLastIndex((line) => line.startsWith("USER "));
  expect(last[user]).toBe("USER node");
  expect(last.slice(user).some((line) => /^(RUN|COPY|ADD) /.test(line))).toBe(false);
  expect(json("ENTRYPOINT")).toEqual(["tini", "--", "chatapi"]);
  expect(json("CMD")).toEqual(["serve"]);
});

test("is healthy when the node is ready", async () => {
  expect(await healthOf(server.url)).toBe(0);
});

test("is not healthy when the node is not ready, or not there", async () => {
  const http = createServer((_request, response) => response.writeHead(503).end());
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  expect(await healthOf(url)).toBe(1);
  await new Promise((resolve) => http.close(resolve));
  expect(await healthOf(url)).toBe(1);
});
