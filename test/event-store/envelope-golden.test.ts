// The storage format, byte by byte: an event of each type as it was once written, kept in golden/.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { JsonObject } from "../../src/contract/json.ts";
import { catalogue } from "../../src/domain/catalogue.ts";
import type { EventDefinition } from "../../src/domain/event.ts";
import { type CommandContext, decode, encode } from "../../src/event-store/envelope.ts";
import { type NewEvent, positionOf } from "../../src/event-store/event-store.ts";
import { blobsOf, SEALED } from "../../src/event-store/sealing.ts";
import { exampleOf } from "../support/arbitraries-events.ts";
import { NOW } from "../support/given.ts";
import { memoryKeyring } from "../support/memory-keyring.ts";

/*
 * When one of these fails, logs that exist can no longer be read, or what is written now differs from what was written
 * before. Take the change back, or make it a new version with an upcaster and keep the old file under `<type>.v<n>`.
 * A new type needs a file: run this once with WRITE_GOLDEN=1, which writes those that are missing and changes none.
 */
const FOLDER = new URL("./golden/", import.meta.url);
const STREAM = "golden-stream";
const CONTEXT: CommandContext = {
  client: "cli_a",
  actor: { type: "user", id: "sub_a" },
  commandId: "f3a5c1de-0000-5000-8000-000000000001",
  fingerprint: "fingerprint",
  correlation: "request-1",
  causation: "f3a5c1de-0000-5000-8000-000000000001",
};

type Golden = { readonly given: JsonObject; readonly id: string; readonly data: string; readonly metadata: string };

const keyOf = (owner: string): Uint8Array => createHash("sha256").update(`golden ${owner}`).digest();
/** Gives the keys that the files were written with: the id of each ends with its owner. */
async function goldenKeyring(ids: readonly string[]) {
  const keyring = memoryKeyring(keyOf);
  const owners = ids.map((id) => id.replace(/^k\d+-/, ""));
  await keyring.keysFor("cli_a", new Set(owners as ("sub_a" | "cli_a")[]));
  return keyring;
}

async function written(type: string, given: unknown): Promise<NewEvent> {
  const request = { stream: STREAM, events: [{ type, data: given }], context: CONTEXT, at: NOW, firstRevision: 0 };
  const [event] = await encode(memoryKeyring(keyOf), request);
  if (event === undefined) throw new Error("nothing was encoded");
  return event;
}

/** Stored data, with the keys that seal it in place of the blobs, whose bytes are random. */
function openPart(data: string): JsonObject {
  const parsed: JsonObject = JSON.parse(data);
  return SEALED in parsed ? { ...parsed, [SEALED]: blobsOf(parsed).map(({ key }) => key) } : parsed;
}

async function golden(type: string, definition: EventDefinition): Promise<Golden> {
  const file = new URL(`${type}.json`, FOLDER);
  if (!existsSync(file) && process.env.WRITE_GOLDEN === "1") {
    const given = exampleOf(definition.data);
    const { id, data, metadata } = await written(type, given);
    const text = { given, id, data: Buffer.from(data).toString(), metadata: Buffer.from(metadata).toString() };
    writeFileSync(file, `${JSON.stringify(text, null, 2)}\n`);
  }
  return JSON.parse(readFileSync(file, "utf8"));
}

/** The event of these stored bytes, as it is read now. */
async function read(type: string, { id, data, metadata }: Omit<Golden, "given">) {
  const keyring = await goldenKeyring(blobsOf(JSON.parse(data)).map((blob) => blob.key));
  const bytes = { data: Buffer.from(data), metadata: Buffer.from(metadata) };
  const where = { stream: STREAM, revision: 0, position: positionOf("log1", 1), recordedAt: NOW };
  const [event] = await decode(keyring, [{ id, type, ...bytes, ...where }]);
  return event;
}

const OLDER = readdirSync(FOLDER).filter((name) => /\.v\d+\.json$/.test(name));
test.each(OLDER)("%s of an earlier version is read as the version of now", async (name) => {
  const { upcast, ...stored } = JSON.parse(readFileSync(new URL(name, FOLDER), "utf8"));
  expect((await read(name.replace(/\.v\d+\.json$/, ""), stored))?.data).toEqual(upcast);
});

describe.each(Object.entries<EventDefinition>(catalogue))("%s", (type, definition) => {
  test("that was written once is still read", async () => {
    const { given, ...stored } = await golden(type, definition);
    const event = await read(type, stored);
    expect(event?.data).toEqual(given);
    expect(event?.meta).toMatchObject({ command: CONTEXT.commandId, at: NOW });
  });

  test("is written now as it was then, with a MAC", async () => {
    const { given, id, data, metadata } = await golden(type, definition);
    const now = await written(type, given);
    expect(now.id).toBe(id);
    const unsigned = (text: string) => text.replace(/,"mac":"[\w-]{22}"}$/, "}");
    expect(Buffer.from(now.metadata).toString()).not.toBe(unsigned(Buffer.from(now.metadata).toString()));
    expect(unsigned(Buffer.from(now.metadata).toString())).toBe(unsigned(metadata));
    expect(openPart(Buffer.from(now.data).toString())).toEqual(openPart(data));
  });

  test("has the fields it had then: each that its schema names is in the golden one", async () => {
    const { given } = await golden(type, definition);
    expect(shapeOf(exampleOf(definition.data))).toEqual(shapeOf(given));
  });
});

/** The names in a value, without what stands there. */
const shapeOf = (value: unknown): unknown =>
  Array.isArray(value)
    ? value.slice(0, 1).map(shapeOf)
    : typeof value === "object" && value !== null
      ? Object.fromEntries(Object.entries(value).map(([name, member]) => [name, shapeOf(member)]))
      : typeof value;

test.each(["ClientRegistered", "MessagePosted", "RoomCreated"] as const)(
  "%s with its MAC, and sealed for its position, is still genuine and read",
  async (type) => {
    const file = new URL(`signed/${type}.json`, FOLDER);
    if (!existsSync(file) && process.env.WRITE_GOLDEN === "1") {
      const given = exampleOf(catalogue[type].data);
      const { id, data, metadata } = await written(type, given);
      const text = { given, id, data: Buffer.from(data).toString(), metadata: Buffer.from(metadata).toString() };
      writeFileSync(file, `${JSON.stringify(text, null, 2)}\n`);
    }
    // Of an earlier version: `upcast` is how it is read now.
    const parsed: Golden & { upcast?: JsonObject } = JSON.parse(readFileSync(file, "utf8"));
    const { given, upcast = given, id, data, metadata } = parsed;
    const stored = { id, type, data: Buffer.from(data), metadata: Buffer.from(metadata) };
    const recorded = { ...stored, stream: STREAM, revision: 0, position: positionOf("log1", 1), recordedAt: NOW };
    const keyring = await goldenKeyring(blobsOf(JSON.parse(data)).map(({ key }) => key));
    expect(keyring.macs.check(recorded)).toBe(recorded);
    expect((await decode(keyring, [recorded]))[0]?.data).toEqual(upcast);
  },
);

test("every golden file is of a type that there is", () => {
  const known = readdirSync(FOLDER)
    .filter((name) => name.endsWith(".json"))
    .map((name) => name.replace(/(\.v\d+)?\.json$/, ""));
  expect(known.filter((type) => !Object.hasOwn(catalogue, type))).toEqual([]);
  expect(new Set(known).size).toBe(Object.keys(catalogue).length);
});
