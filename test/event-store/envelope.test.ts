// Events on their way to bytes and back: every type, whatever is in it, and nothing that is not as it should be.
import { beforeEach, describe, expect, test } from "vitest";
import { z } from "zod";
import { catalogue } from "../../src/domain/catalogue.ts";
import { type EventDefinition, event, sealed, upcast } from "../../src/domain/event.ts";
import { decode, decodeMetadata, decodeRaw, encode } from "../../src/event-store/envelope.ts";
import { positionOf, type RecordedEvent } from "../../src/event-store/event-store.ts";
import { dataOf } from "../support/arbitraries-events.ts";
import { NOW } from "../support/given.ts";
import { type MemoryKeyring, memoryKeyring } from "../support/memory-keyring.ts";
import { context, recorded } from "../support/recorded.ts";
import fc from "../support/seed.ts";

const STREAM = "room-room_a";
const bytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
const types: [string, EventDefinition][] = Object.entries(catalogue);

let keyring: MemoryKeyring;
beforeEach(() => {
  keyring = memoryKeyring();
});
const stored = async (type: string, data: unknown): Promise<RecordedEvent> => {
  const [one] = await encode(keyring, { stream: STREAM, events: [{ type, data }], context, at: NOW, firstRevision: 0 });
  if (one === undefined) throw new Error("nothing was encoded");
  return recorded(one, STREAM);
};

describe("encoding and decoding give back", () => {
  test.each(types)("%s", async (type, definition) => {
    await fc.assert(
      fc.asyncProperty(dataOf(definition.data), async (data) => {
        const [back] = await decode(keyring, [await stored(type, data)]);
        expect(back?.type).toBe(type);
        expect(JSON.stringify(back?.data)).toBe(JSON.stringify(data));
      }),
      { numRuns: 50 },
    );
  });

  test("many events at once, each with its own keys, in order", async () => {
    const posted = fc.array(dataOf(catalogue.MessagePosted.data), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(posted, async (all) => {
        const events = all.map((data) => ({ type: "MessagePosted", data }));
        const encoded = await encode(keyring, { stream: STREAM, events, context, at: NOW, firstRevision: 0 });
        const back = await decode(
          keyring,
          encoded.map((one, index) => recorded(one, STREAM, index)),
        );
        expect(JSON.stringify(back.map((one) => one.data))).toBe(JSON.stringify(all));
      }),
      { numRuns: 30 },
    );
  });

  test("an event with its stream, revision, position and metadata", async () => {
    const withFingerprint = { ...context, fingerprint: "f1" };
    const events = [
      { type: "MemberLeft", data: { subject: "sub_a", user: { open: "ada" }, reason: "left" } },
      { type: "RoomDeleted", data: {} },
    ];
    const encoded = await encode(keyring, {
      stream: STREAM,
      events,
      context: withFingerprint,
      at: NOW,
      firstRevision: 0,
    });
    const back = await decode(
      keyring,
      encoded.map((one, index) => recorded(one, STREAM, index)),
    );
    const meta = {
      v: 1,
      at: NOW,
      client: "cli_a",
      actor: { type: "key", id: "key_a" },
      command: "command-1",
      fingerprint: "f1",
      correlation: "request-1",
      causation: "command-1",
    };
    expect(back).toMatchObject([
      { stream: STREAM, revision: 0, position: positionOf("log1", 1), meta: { ...meta, subjects: ["sub_a"] } },
      { stream: STREAM, revision: 1, position: positionOf("log1", 2), meta: { ...meta, subjects: [] } },
    ]);
    expect(back[0]?.meta).toEqual(decodeMetadata(recorded(encoded[0] ?? fail(), STREAM)));
  });
});

const fail = (): never => {
  throw new Error("there should be an event");
};

describe("event ids", () => {
  const left = { type: "MemberLeft", data: { subject: "sub_a", user: { open: "ada" }, reason: "left" } };
  const idsOf = async (stream: string, commandId: string) =>
    (
      await encode(keyring, {
        stream,
        events: [left, left],
        context: { ...context, commandId },
        at: NOW,
        firstRevision: 0,
      })
    ).map((e) => e.id);

  test("follow from stream, command and index alone", async () => {
    expect(await idsOf("room-a", "c1")).toEqual(await idsOf("room-a", "c1"));
    const all = [...(await idsOf("room-a", "c1")), ...(await idsOf("room-b", "c1")), ...(await idsOf("room-a", "c2"))];
    expect(new Set(all).size).toBe(6);
    for (const id of all) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });
});

describe("decoding throws UnreadableEvent for", () => {
  const good = () =>
    stored("RoomUpdated", { name: "Room", description: null, kind: "private", joinRole: "member", meta: {} });
  const refused = async (change: (one: RecordedEvent) => Partial<RecordedEvent>) => {
    const one = await good();
    await expect(decode(keyring, [one, { ...one, ...change(one) }])).rejects.toMatchObject({ name: "UnreadableEvent" });
  };
  const resigned = (one: RecordedEvent, metadata: Uint8Array) => keyring.macs.sign({ ...one, metadata }, one);
  const meta = (one: RecordedEvent, changes: object) => resigned(one, bytes({ ...decodeMetadata(one), ...changes }));

  test("an unknown type", () => refused(() => ({ type: "RoomPainted" })));
  test.each(["constructor", "__proto__", "toString"])("the type %s", (type) => refused(() => ({ type })));
  test("a version newer than this code", () => refused((one) => meta(one, { v: 99 })));
  test("an older version without an upcaster", () => refused((one) => meta(one, { v: 0 })));
  test("data that its schema does not know", () => refused(() => ({ data: bytes({ name: 7 }) })));
  test.each([[1], "text", null, 7])("data that is no object: %j", (data) => refused(() => ({ data: bytes(data) })));
  test("data that is no JSON", () => refused(() => ({ data: Buffer.from("{") })));
  test("data that is no UTF-8", () => refused(() => ({ data: Buffer.from([0x22, 0xff, 0x22]) })));
  test("metadata without its fields", () => refused((one) => resigned(one, bytes({ v: 1 }))));
  test("metadata with an actor of no kind", () => refused((one) => meta(one, { actor: { type: "ghost", id: "1" } })));

  test.each<[string, Partial<RecordedEvent>]>([
    ["type", { type: "RoomPainted" }],
    ["data", { data: Buffer.from("{") }],
    ["metadata", { metadata: bytes({ v: 1 }) }],
    ["metadata at all", { metadata: new Uint8Array() }],
  ])("nothing where an event without a MAC has no %s of ours: it is forged", async (_what, change) => {
    const one = await good();
    const unsigned = { ...one, metadata: bytes(decodeMetadata(one)), ...change };
    expect(await decode(keyring, [unsigned])).toMatchObject([
      { type: "EventForged", data: { forged: true, type: unsigned.type }, revision: one.revision },
    ]);
  });

  test("an unknown type, which is not encoded either", async () => {
    await expect(stored("RoomPainted", {})).rejects.toMatchObject({ name: "UnreadableEvent" });
  });

  test("raw data that is no object, and for no unknown type", async () => {
    const one = await good();
    expect(decodeRaw({ ...one, type: "RoomPainted" })).toMatchObject({ name: "Room" });
    expect(() => decodeRaw({ ...one, data: bytes([]) })).toThrow(expect.objectContaining({ name: "UnreadableEvent" }));
  });
});

describe("data of an older version", () => {
  // Version 1 said "size: 3", 2 said "dimensions: [3]", 3 says "dimensions: [3], unit".
  const definition = event({
    v: 3,
    data: z.object({ dimensions: z.array(z.number()), unit: z.string(), note: sealed(z.string()).nullable() }),
    seals: { note: "owner" },
    upcasts: {
      1: ({ size, ...rest }) => ({ ...rest, dimensions: [size ?? null] }),
      2: (data) => ({ ...data, unit: "cm" }),
    },
  });

  test("is upcast to the current version, step by step", () => {
    const now = { dimensions: [3], unit: "cm", note: { open: "x" } };
    expect(upcast(definition, 1, { size: 3, note: { open: "x" } })).toEqual(now);
    expect(upcast(definition, 2, { dimensions: [3], note: { open: "x" } })).toEqual(now);
    expect(upcast(definition, 3, { dimensions: [3], unit: "m", note: null })).toEqual({
      dimensions: [3],
      unit: "m",
      note: null,
    });
  });

  test("keeps its erased fields", () =>
    expect(upcast(definition, 1, { size: 3, note: { erased: true } })).toEqual({
      dimensions: [3],
      unit: "cm",
      note: { erased: true },
    }));

  test("is checked against the schema after upcasting", () => {
    expect(() => upcast(definition, 2, { size: 3, note: null })).toThrow(/dimensions/);
    expect(() => upcast(definition, 0, { size: 3, note: null })).toThrow("no upcaster from version 0");
    expect(() => upcast(definition, 4, {})).toThrow("newer than this code");
  });
});
