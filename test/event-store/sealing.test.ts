// Sealed fields: readable with the key, nowhere without it, and never changed unnoticed.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { beforeEach, describe, expect, test } from "vitest";
import type { KeyRef } from "../../src/contract/ids.ts";
import type { JsonObject } from "../../src/contract/json.ts";
import { catalogue } from "../../src/domain/catalogue.ts";
import type { EventDefinition } from "../../src/domain/event.ts";
import { type CommandContext, decode, decodeMetadata, decodeRaw, encode } from "../../src/event-store/envelope.ts";
import type { RecordedEvent } from "../../src/event-store/event-store.ts";
import { blobsOf, SEALED } from "../../src/event-store/sealing.ts";
import { wildJson, wildObject } from "../support/arbitraries.ts";
import { dataOf, nodeOf, type Sources, schemaAt, sealedPaths, WILD } from "../support/arbitraries-events.ts";
import { NOW } from "../support/given.ts";
import { type MemoryKeyring, memoryKeyring } from "../support/memory-keyring.ts";
import { recorded } from "../support/recorded.ts";
import fc from "../support/seed.ts";

const STREAM = "room-room_a";
const context: CommandContext = {
  client: "cli_a",
  actor: { type: "system", id: "test" },
  commandId: "command-1",
  correlation: "request-1",
  causation: "command-1",
};
const types: [string, EventDefinition][] = Object.entries(catalogue);
const sealing = types.filter(([, definition]) => Object.keys(definition.seals).length > 0);

let keyring: MemoryKeyring;
beforeEach(() => {
  keyring = memoryKeyring();
});
const stored = async (type: string, data: unknown): Promise<RecordedEvent> => {
  const [one] = await encode(keyring, { stream: STREAM, events: [{ type, data }], context, at: NOW, firstRevision: 0 });
  if (one === undefined) throw new Error("nothing was encoded");
  return recorded(one, STREAM);
};
const opened = async (one: RecordedEvent): Promise<unknown> => (await decode(keyring, [one]))[0]?.data;

describe("what is declared sealed", () => {
  test.each(types)("is exactly what the schema calls sealed, for a key that is there: %s", (_type, definition) => {
    expect(Object.keys(definition.seals).toSorted()).toEqual([...sealedPaths(definition.data)].toSorted());
    for (const refPath of Object.values(definition.seals)) {
      const schema = schemaAt(definition, refPath);
      expect(schema === undefined ? "no field" : nodeOf(schema).kind).toBe("id");
    }
  });

  test.each(sealing)("stands nowhere in the bytes: %s", async (type, definition) => {
    const text = fc.nat().map((n) => `t0p-secret-${n}`);
    const object = text.map((one) => ({ [one]: [one] }));
    const secret: Sources = { text, json: object, object };
    await fc.assert(
      fc.asyncProperty(dataOf(definition.data, WILD, secret), async (data) => {
        const one = await stored(type, data);
        const said = `${Buffer.from(one.data)}${Buffer.from(one.metadata)}`;
        expect(said).not.toContain("t0p-secret");
        // It is in there all the same.
        const found = JSON.stringify(await opened(one)).includes("t0p-secret");
        expect(found).toBe(JSON.stringify(data).includes("t0p-secret"));
      }),
      { numRuns: 30 },
    );
  });

  test("is sealed anew each time: the same text twice gives other bytes", async () => {
    const data = { subject: "sub_a", user: { open: "ada" }, reason: "left" };
    const [one, two] = [await stored("MemberLeft", data), await stored("MemberLeft", data)];
    expect(one.id).toBe(two.id);
    expect(Buffer.from(one.data).equals(Buffer.from(two.data))).toBe(false);
  });
});

describe("a user's own JSON that looks like ours", () => {
  const looks: JsonObject[] = [
    { [SEALED]: [0, 0] },
    { [SEALED]: [{ key: "k", iv: "", ct: "", tag: "" }] },
    { open: "x", erased: true },
    { erased: true },
    JSON.parse('{"__proto__": {"open": 1}, "constructor": {"$sealed": [0, 1]}}'),
    { deep: [{ [SEALED]: [0, 0], open: { [SEALED]: [0, 0] } }] },
  ];
  const post = (meta: JsonObject) => ({
    id: "msg_a",
    sender: "sub_a",
    user: { open: "ada" },
    senderName: { open: '{"$sealed":[0,0]}' },
    type: "text",
    content: { open: "hello" },
    meta: { open: meta },
    mentions: [],
    everyone: false,
    replyTo: null,
    thread: null,
    ordinal: 1,
    growing: false,
  });
  const settings = (meta: JsonObject) => ({
    name: "Room",
    description: null,
    kind: "private",
    joinRole: "member",
    maxMembers: null,
    posting: "everyone",
    history: "all",
    meta,
  });

  test.each(looks)("comes back unchanged, sealed or open: %j", async (meta) => {
    for (const [type, data] of [["MessagePosted", post(meta)] as const, ["RoomUpdated", settings(meta)] as const]) {
      expect(JSON.stringify(await opened(await stored(type, data)))).toBe(JSON.stringify(data));
    }
    expect(Object.hasOwn(Object.prototype, "open")).toBe(false);
  });

  test("comes back unchanged, whatever it is", async () => {
    await fc.assert(
      fc.asyncProperty(wildObject(), wildJson(), async (meta, content) => {
        expect(JSON.stringify(await opened(await stored("RoomUpdated", settings(meta))))).toBe(
          JSON.stringify(settings(meta)),
        );
        const edited = {
          contentKey: "ntf_a",
          subject: null,
          content: { open: content },
          text: null,
          meta: { open: meta },
          priority: "low",
          sendAt: null,
          expiresAt: 1,
        };
        expect(JSON.stringify(await opened(await stored("NotificationEdited", edited)))).toBe(JSON.stringify(edited));
      }),
    );
  });
});

describe("an erased key", () => {
  const member = (subject: string) => ({
    subject,
    user: { open: `user of ${subject}` },
    role: "member",
    name: null,
    meta: { open: { of: subject } },
  });
  const created = {
    name: "Room",
    description: null,
    kind: "private",
    meta: {},
    externalId: null,
    joinRole: "member",
    maxMembers: null,
    posting: "everyone",
    history: "all",
    members: [member("sub_a"), member("sub_b")],
  };
  const ERASED = { erased: true };
  const word = fc.constantFrom("one", "two");
  const PLAIN: Sources = { text: word, json: word, object: fc.constant({}) };

  test("erases what it sealed, and nothing else", async () => {
    const one = await stored("RoomCreated", created);
    keyring.destroy("sub_a");
    expect(await opened(one)).toEqual({
      ...created,
      members: [{ ...member("sub_a"), user: ERASED, meta: ERASED }, member("sub_b")],
    });
  });

  test("stays erased when the person comes back under a new key", async () => {
    const one = await stored("RoomCreated", created);
    keyring.destroy("sub_a");
    await stored("RoomCreated", created);
    expect(await opened(one)).toMatchObject({ members: [{ user: ERASED }, { user: { open: "user of sub_b" } }] });
  });

  test.each(sealing)("leaves an event that can be read, and written again: %s", async (type, definition) => {
    await fc.assert(
      fc.asyncProperty(dataOf(definition.data, PLAIN, WILD), async (data) => {
        const one = await stored(type, data);
        for (const ref of ["sub_a", "sub_b", "sub_c", "cli_a", "ntf_a"] satisfies KeyRef[]) keyring.destroy(ref);
        const left = await opened(one);
        expect(JSON.stringify(left)).not.toContain('{"open":');
        expect(await opened(await stored(type, left))).toEqual(left);
      }),
      { numRuns: 20 },
    );
  });

  test("leaves the people it concerned in the metadata", async () => {
    expect(decodeMetadata(await stored("RoomCreated", created)).subjects).toEqual(["sub_a", "sub_b"]);
  });
});

describe("tampering", () => {
  const left = { subject: "sub_a", user: { open: "ada" }, reason: "left" };
  const withBlob = (one: RecordedEvent, change: (blob: Record<string, string>) => Record<string, string>) => {
    const data = decodeRaw(one);
    const blobs = blobsOf(data).map((blob) => change({ ...blob }));
    return { ...one, data: Buffer.from(JSON.stringify({ ...data, [SEALED]: blobs })) };
  };
  /** The same bytes with one bit another. */
  const flipped = (text: string, bit: number): string => {
    const bytes = Buffer.from(text, "base64");
    const at = Math.floor(bit / 8) % bytes.length;
    bytes[at] = (bytes[at] ?? 0) ^ (1 << (bit % 8));
    return bytes.toString("base64");
  };

  const FORGED = { forged: true, type: "MemberLeft" };

  test("with one bit of text, tag or nonce is noticed", async () => {
    const one = await stored("MemberLeft", left);
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: 400 }), async (bit) => {
        const changed = withBlob(one, (blob) => ({ ...blob, box: flipped(blob.box ?? "", bit) }));
        expect(await opened(changed)).toEqual(FORGED);
      }),
    );
  });

  test.each([4, 8, 12, 15])("with a tag cut to %i bytes is noticed, in blobs as they were before", async (length) => {
    const file = new URL("./golden/MemberLeft.json", import.meta.url);
    const { id, data, metadata }: Record<"id" | "data" | "metadata", string> = JSON.parse(readFileSync(file, "utf8"));
    const golden = memoryKeyring((owner) => createHash("sha256").update(`golden ${owner}`).digest());
    await golden.keysFor("cli_a", new Set<KeyRef>(["sub_a"]));
    const bytes = { data: Buffer.from(data), metadata: Buffer.from(metadata) };
    const old = recorded({ id, type: "MemberLeft", ...bytes }, "golden-stream");
    const cut = (tag = "") => Buffer.from(tag, "base64").subarray(0, length).toString("base64");
    const changed = withBlob(old, (blob) => ({ ...blob, tag: cut(blob.tag) }));
    const [asItWas, now] = await decode(golden, [old, changed]);
    expect(asItWas?.type).toBe("MemberLeft");
    expect(now?.data).toEqual(FORGED);
  });

  test.each([
    ["event", { id: "00000000-0000-5000-8000-000000000000" }],
    ["stream", { stream: "room-room_b" }],
    ["revision", { revision: 1 }],
    ["type", { type: "MemberJoined" }],
  ])("by moving a blob to another %s is noticed", async (_what, place) => {
    const one = await stored("MemberLeft", left);
    const moved = { ...one, ...place };
    expect(await opened(moved)).toEqual({ forged: true, type: moved.type });
  });

  test("by exchanging two marks is noticed", async () => {
    const joined = {
      subject: "sub_a",
      user: { open: "ada" },
      role: "member",
      name: { open: "Ada" },
      meta: { open: {} },
    };
    const one = await stored("MemberJoined", joined);
    const { user, name, ...rest } = decodeRaw(one);
    const swapped = { ...one, data: Buffer.from(JSON.stringify({ ...rest, user: name, name: user })) };
    expect(await opened(swapped)).toEqual({ forged: true, type: "MemberJoined" });
  });

  test.each([{ open: "eve" }, "eve", {}, { [SEALED]: [1, 0] }, { [SEALED]: [0, 0, "open"], open: "eve" }])(
    "by storing a sealed field in the open is noticed: %j",
    async (user) => {
      const one = await stored("MemberLeft", { ...left, user: { erased: true } });
      const changed = { ...one, data: Buffer.from(JSON.stringify({ ...left, user })) };
      expect(await opened(changed)).toEqual(FORGED);
    },
  );

  test("by naming another's key is noticed", async () => {
    const one = await stored("MemberLeft", left);
    const other = (await keyring.keysFor("cli_a", new Set<KeyRef>(["sub_b"]))).get("sub_b")?.id ?? "";
    const changed = withBlob(one, (blob) => ({ ...blob, key: other }));
    expect(await opened(changed)).toEqual(FORGED);
  });

  test("by naming a key that never was is no erasure", async () => {
    const one = await stored("MemberLeft", left);
    const changed = withBlob(one, (blob) => ({ ...blob, key: "never-was" }));
    await expect(decode(keyring, [changed])).rejects.toMatchObject({ name: "MissingDataKey" });
  });

  test.each([{ [SEALED]: 7 }, { [SEALED]: [{ key: 1 }] }, { [SEALED]: [null] }])(
    "with no blobs at all: %j",
    async (data) => {
      const one = await stored("MemberLeft", left);
      const changed = { ...one, data: Buffer.from(JSON.stringify({ ...decodeRaw(one), ...data })) };
      await expect(decode(keyring, [changed])).rejects.toMatchObject({ name: "UnreadableEvent" });
    },
  );
});
