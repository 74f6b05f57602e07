// Whatever a client sends: it gets its problem, naming every fault; no fault of the server's, no hang, no crash, and nothing
// in the log of what was refused.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { mapBounded } from "../../src/platform/bounded.ts";
import type { Body } from "../e2e/support/api.ts";
import { seed } from "../support/seed.ts";
import { sized, sizedTimeout } from "../support/size.ts";
import type { Refused } from "./hostile/answers.ts";
import { sendRaw, sendSlowly, sendUpgrades } from "./hostile/connections.ts";
import { sendFrames, sendMessages } from "./hostile/frames.ts";
import { sendMails } from "./hostile/mail.ts";
import { BAD_VALUES, queryOf } from "./hostile/queries.ts";
import { type HostileRun, openRun, refuse, sendRequests } from "./hostile/run.ts";
import { admitted, type Operation } from "./hostile/scene.ts";
import { badBodies, type Expected, exampleText } from "./hostile/schemas.ts";
import { othersHostsAndOrigins, wrongCredentials } from "./hostile/strangers.ts";

/** The first random request: a failure names the one that it came of. */
const from = Number(process.env.FAULTS_FROM ?? 0);
const timeout = sizedTimeout(60_000, 7_200_000);
const MIB = 1024 * 1024;
const json = { "content-type": "application/json" };

let run: HostileRun;
let operations: readonly Operation[];
let key: Readonly<Record<string, string>>;
beforeAll(async () => {
  run = await openRun();
  operations = run.operations;
  key = { authorization: `Bearer ${run.scene.api.key}` };
}, 120_000);
afterEach(() => {
  run.faults.length = 0;
});
afterAll(async () => {
  console.log(
    `${run.kinds.total} inputs: ${run.kinds}\nanswers: ${run.answers}\nevents of what was taken: ${run.log.events}`,
  );
  await run[Symbol.asyncDispose]();
});

const by = (one: Operation) => admitted(one, run.scene);
/** Whether its template matches the path: a name in one template can be an id in another. */
const isPathOf = ({ template }: Operation, path: string): boolean => {
  const steps = path.split("/");
  const own = template.split("/");
  return own.length === steps.length && own.every((step, index) => step.startsWith("{") || step === steps[index]);
};
/** A request of it that holds all that it needs, and nothing wrong. */
function sound(one: Operation): Pick<Refused, "headers" | "body"> {
  if (one.schema === undefined) return { headers: by(one) };
  return { headers: { ...by(one), ...json }, body: exampleText(one.schema) };
}
/** As many bytes as its body may have that holds no files. */
const maxBytesOf = (one: Operation): number => (isBatch(one) ? 10 * MIB : MIB);
const isBatch = ({ template }: Operation): boolean => template.endsWith("/notifications/batch");
/** Where the faults of a batch's first item are. */
const ITEM = "notifications.0";
const check = async (all: readonly Refused[]) => expect(await refuse(run, all)).toEqual([]);
const fault = (path: string, ...codes: string[]): Expected => ({ path, codes });
const invalid = (...faults: Expected[]) => ({ status: 422, code: "validation_failed", faults });

describe("is refused", () => {
  test("fields of bodies: wrong types, bounds, formats, unknown, missing, twice, of prototypes", async () => {
    const all = operations.flatMap((one) =>
      one.schema === undefined
        ? []
        : [...badBodies(one.schema)].flatMap(({ text, faults }): readonly Refused[] => {
            if (isBatch(one) && faults.every(({ path }) => path.startsWith(ITEM))) return [];
            const headers = { ...by(one), ...json };
            return [{ method: one.method, path: one.path, headers, body: text, ...invalid(...faults) }];
          }),
    );
    expect(all.length).toBeGreaterThan(500);
    await check(all);
  });

  test("fields of a batch's items, each item by itself", async () => {
    const batch = operations.find(isBatch);
    if (batch?.schema === undefined) throw new Error("no batch");
    const items = [...badBodies(batch.schema)].filter(({ faults }) =>
      faults.every(({ path }) => path.startsWith(ITEM)),
    );
    expect(items.length).toBeGreaterThan(100);
    const wrong: string[] = [];
    await mapBounded(items, 8, async ({ text, faults }) => {
      const headers = { ...by(batch), ...json };
      const answer = await fetch(run.url + batch.path, { method: "POST", headers, body: text });
      const { data } = (await answer.json()) as { data?: readonly Body[] };
      const [item] = data ?? [];
      const told = (item?.body.errors ?? []).map(({ path, code }: Body) => ({ path, code }));
      const fits = faults.every(({ path, codes }) =>
        told.some((one: Body) => one.path === path.slice(ITEM.length).replace(/^\./, "") && codes.includes(one.code)),
      );
      const seen = [answer.status, item?.index, item?.status, item?.body.code, told.length];
      if (seen.join() !== [200, 0, 422, "validation_failed", faults.length].join() || !fits)
        wrong.push(`${text.slice(0, 300)}\n  ${seen}: ${JSON.stringify(told)}`);
    });
    expect([...wrong, ...(await run.log.faults())]).toEqual([]);
  });

  test("bodies: not JSON, no object, too deep, too large, of another type or coding", async () => {
    const deep = (levels: number) => `{"a":${"[".repeat(levels - 1)}${"]".repeat(levels - 1)}}`;
    const bytes = (...list: number[]) => Buffer.concat([Buffer.from('{"a":"'), Buffer.from(list), Buffer.from('"}')]);
    const malformed = ["{", "nope", "{}{}", '{"a":1,}', '{"a":NaN}', "{'a':1}", '"\0"', deep(33), "[".repeat(50_000)];
    const garbled = [bytes(0xff), bytes(0xc3, 0x28), bytes(0xed, 0xa0, 0x80), Buffer.from("{}", "utf16le")];
    const types = ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"];
    const codings = ["gzip", "br", "x".repeat(1_000)].map((coding) => ({ ...json, "content-encoding": coding }));
    const others = ["[]", "null", "5", '"text"', "true", "[{}]"];
    const all = operations.flatMap((one): Refused[] => {
      if (one.schema === undefined) return [];
      const { method, path } = one;
      const credential = by(one);
      const whole = { method, path, headers: { ...credential, ...json } };
      const kinds = [...types.map((type) => ({ "content-type": type })), ...codings];
      return [
        ...[...malformed, ...garbled].map((body): Refused => ({ ...whole, body, status: 400, code: "malformed_json" })),
        ...others.map((body): Refused => ({ ...whole, body, ...invalid(fault("", "wrong_type")) })),
        { ...whole, body: " ".repeat(maxBytesOf(one) + 1), status: 413, code: "body_too_large" },
        ...kinds.map((kind): Refused => {
          return {
            ...whole,
            headers: { ...credential, ...kind },
            body: "{}",
            status: 415,
            code: "unsupported_media_type",
          };
        }),
      ];
    });
    await check(all);
  });

  const ANY = ["wrong_type", "too_short", "too_long", "too_small", "too_large", "invalid_format", "not_allowed"];

  test("queries: every parameter's bad values, unknown ones, cursors", async () => {
    const all = operations.flatMap((one): Refused[] => {
      const { method, path, query } = one;
      const asked = { method, ...sound(one) };
      const unknown = ["bogus=1", "__proto__=1", "constructor", "=x", "%zz=1", `api_key=${run.scene.api.key}`];
      return [
        ...unknown.map((text): Refused => {
          const [name] = new URLSearchParams(text).keys();
          return { ...asked, path: path + queryOf(one.template, text), ...invalid(fault(`?${name}`, "unknown_field")) };
        }),
        ...[...query.keys()].flatMap((name): Refused[] => {
          if (name === "cursor") {
            const bad = ["", "x", "AAAAAAAAAAAAAAAAAAAAAAAA", "%00", "a,b", "x".repeat(5_000)];
            return bad.map((cursor) => ({
              ...{ ...asked, path: `${path}?cursor=${cursor}`, status: 400, code: "invalid_cursor" },
            }));
          }
          if (name === "after") {
            const bad = ["", "x", "%00", "0000000000000000.0000000000000001"];
            return bad.map((after) => ({
              ...{ ...asked, path: `${path}?after=${after}`, status: [400, 406, 422] },
              code: ["invalid_position", "not_acceptable", "validation_failed"],
            }));
          }
          const bad = BAD_VALUES[`${one.template}?${name}`] ?? BAD_VALUES[name];
          expect(bad, `bad values for ?${name}`).toBeDefined();
          return (bad ?? []).map((value) => ({
            ...{ ...asked, path: path + queryOf(one.template, `${name}=${value}`, name) },
            ...invalid(fault(`?${name}`, ...ANY)),
          }));
        }),
      ];
    });
    const worst = `/api/v1/rooms?limit=0&sort=size&active=1&from=x&bogus=1`;
    const paths = ["?limit", "?sort", "?active", "?from", "?bogus"];
    const each = paths.map((path) => fault(path, "unknown_field", ...ANY));
    await check([...all, { method: "GET", path: worst, headers: key, ...invalid(...each) }]);
  });

  test("streams: cursors, ids of messages, other parameters, and tickets that are none", async () => {
    const streams = operations.filter(({ headers }) => headers.includes("LastEventId"));
    expect(streams.map(({ template }) => template.replace("/api/v1", "")).toSorted()).toEqual([
      ...["/events", "/rooms/{room_id}/events", "/users/{user_id}/events"],
    ]);
    const codes = ["invalid_cursor", "invalid_position", "validation_failed"];
    const all = streams.flatMap((one): Refused[] => {
      const { method, path, query } = one;
      const accept = { accept: "text/event-stream" };
      const asked = { method, headers: { ...by(one), ...accept }, status: [400, 422], code: codes };
      const cursors = ["x", "x.1", ".1", "-1", "1, 1", "1e1", "99999999999999999999", "\u00ff", "x".repeat(7_000)];
      const unknown = ["bogus=1", "__proto__=1", "token=x", "limit=0", "limit=101"];
      return [
        ...cursors.map((id) => ({ ...asked, path, headers: { ...asked.headers, "last-event-id": id } })),
        ...cursors.flatMap((value) =>
          ["after", "after_seq", "cursor"].map((name) => ({
            ...{ ...asked, path: `${path}?${name}=${encodeURIComponent(value)}` },
          })),
        ),
        ...unknown.map((text) => ({ ...asked, path: `${path}?${text}` })),
        ...[...query.keys()].flatMap((name) =>
          (BAD_VALUES[name] ?? []).map((value) => ({ ...asked, path: `${path}?${name}=${value}` })),
        ),
        ...["tkt_", "x", `tkt_${"A".repeat(43)}`, String(run.scene.api.key), run.scene.token].map((ticket) => ({
          ...{ method, path: `${path}?ticket=${ticket}`, headers: accept },
          ...{ status: 401, code: "unauthenticated" },
        })),
      ];
    });
    await check(all);
  });

  test("headers: preconditions, positions, idempotency keys", async () => {
    const all = operations.flatMap((one): Refused[] => {
      const { method, path, headers: known } = one;
      const { headers: credential, ...rest } = sound(one);
      const asked = { method, path, ...rest };
      const refuse = (name: string, values: readonly string[], ...codes: string[]) =>
        values.map((value): Refused => {
          const headers = { ...credential, [name.toLowerCase()]: value };
          return { ...asked, headers, ...invalid(fault(`Header: ${name}`, ...codes)) };
        });
      // Where anybody may register, nobody's key is remembered.
      const isKeyed = known.includes("IdempotencyKey") && path !== "/api/v1/clients";
      const tags = ["17", '"17', '"1";"2"', "nonsense", '"a"b"'];
      const keys = ["a b", "x".repeat(256), '""', "é", `"${"x".repeat(256)}"`, "a\tb"];
      const positions = ["x", "0", "0000000000000000.0000000000000001", "NONE", "x".repeat(1_000)];
      return [
        ...(known.includes("IfMatch") ? refuse("If-Match", tags, "invalid_format") : []),
        ...(isKeyed ? refuse("Idempotency-Key", keys, "too_short", "too_long", "invalid_format") : []),
        ...positions.flatMap((position): Refused[] => {
          const headers = { ...credential, "read-after": position };
          return known.includes("ReadAfter") ? [{ ...asked, headers, status: 400, code: "invalid_position" }] : [];
        }),
      ];
    });
    const worst = { ...key, ...json, "idempotency-key": "a b" };
    const faults = [fault("Header: Idempotency-Key", "invalid_format"), fault("?x", "unknown_field")];
    const body = '{"name":5,"nmae":"x"}';
    await check([
      ...all,
      {
        ...{ method: "POST", path: "/api/v1/rooms?x=1", headers: worst, body },
        ...invalid(...faults, fault("name", "wrong_type"), { ...fault("nmae", "unknown_field"), near: "name" }),
      },
    ]);
  });

  /** What stands for no id, whatever it is asked for. */
  const ODD_IDS = [
    ...["%00", "a%00b", "%ff", "%zz", "%", "%E0%A4", "%ED%A0%80", "%20", "%0d%0a", "a%2Fb", "%2e%2e%2f", "%5c"],
    ...["%F0%9F%98%80", "'%20or%201=1--", "$all", "{id}", "*", "%252e%252e", "x".repeat(5_000)],
  ];
  /** A user may be called so. */
  const ODD_NAMES = ["%2e%2e", "__proto__", "constructor", "-1", "0", "null"];

  test("ids that are none", async () => {
    const all = operations.flatMap((one): Refused[] => {
      const { method, template, path } = one;
      const headers = { ...by(one), ...json };
      const steps = template.split("/");
      const needed = one.schema?.required ?? one.schema?.oneOf ?? [];
      return steps.flatMap((step, index) => {
        if (!step.startsWith("{")) return [];
        // Whoever was never heard of has an empty inbox: notifications may come before the user does.
        const isInbox = method === "GET" && template === "/api/v1/users/{user_id}/notifications";
        const makes = step === "{user_id}" && (isInbox || ["PUT", "POST", "DELETE"].includes(method));
        return [...ODD_IDS, ...(makes ? [] : ODD_NAMES)].flatMap((odd): Refused[] => {
          const odder = path.split("/").with(index, odd).join("/");
          const asked = { method, path: odder, headers };
          const whole = { ...asked, status: [404, 422], code: ["not_found", "validation_failed"] };
          // A body that lacks what it needs is told first.
          return needed.length > 0 ? [whole] : [whole, { ...whole, path: `${odder}/` }];
        });
      });
    });
    expect(all.length).toBeGreaterThan(500);
    await check(all);
  });

  test("paths that are none, and methods that a path has not", async () => {
    const paths = ["", "/", "/nope", "/Rooms", "/rooms//", "//rooms", "/rooms/x/nope", "/clients/me/nope"];
    const unknown = paths.flatMap((path) =>
      ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"].map((method): Refused => {
        return { method, path: `/api/v1${path}`, headers: key, status: 404, code: "not_found" };
      }),
    );
    const outside = [
      "/nope",
      "/api",
      "/api/v2/rooms",
      "/livez/x",
      "/docs/nope",
      "/hooks/nope",
      "/dev",
      "/dev/mailbox/x",
    ];
    const elsewhere = outside.map((path): Refused => {
      return { method: "GET", path, headers: {}, status: 404, code: "not_found" };
    });
    const wrong = [...new Set(operations.map(({ template }) => template))].flatMap((template) => {
      const first = operations.find((one) => one.template === template);
      const there = operations.filter((one) => isPathOf(one, first?.path ?? ""));
      const has = new Set(there.flatMap(({ method }) => (method === "GET" ? ["GET", "HEAD"] : [method])));
      return ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"].flatMap((method): Refused[] => {
        if (first === undefined || has.has(method)) return [];
        const refused = { status: 405, code: "method_not_allowed", allow: [...has] };
        const other = { status: 404, code: "not_found" };
        const slash = method === "GET" || method === "HEAD" ? refused : other;
        return [
          { method, path: first.path, headers: key, ...refused },
          { method, path: `${first.path}/`, headers: key, ...slash },
        ];
      });
    });
    const fixed = ["/livez", "/readyz", "/metrics", "/openapi.json", "/asyncapi.json", "/docs", "/docs/errors"].map(
      (path): Refused => {
        const refused = { status: 405, code: "method_not_allowed", allow: ["GET", "HEAD"] };
        return { method: "POST", path, headers: {}, ...refused };
      },
    );
    await check([...unknown, ...elsewhere, ...wrong, ...fixed]);
  });

  test("credentials: none, wrong, in the wrong place, of a user where a key is needed", () =>
    check(wrongCredentials(run.scene, operations)));

  test("hosts and origins of others", () => check(othersHostsAndOrigins(key)));
});

test("HEAD and a slash at the end answer as GET does", async () => {
  for (const one of operations.filter(({ method }) => method === "GET")) {
    const headers = by(one);
    const query = queryOf(one.template, "");
    const [get, slash, head] = await Promise.all([
      fetch(run.url + one.path + query, { headers }),
      fetch(`${run.url}${one.path}/${query}`, { headers }),
      fetch(run.url + one.path + query, { headers, method: "HEAD" }),
    ]);
    // Of some there is a stream alone.
    const wanted = one.answers.has(406) ? 406 : 200;
    expect([get.status, slash.status, head.status], one.path).toEqual([wanted, wanted, wanted]);
    if (wanted !== 200) continue;
    // Where an endpoint is reads differently each time: it would tell of other clients' events.
    const positions = one.template.startsWith("/api/v1/webhooks") ? /(?<="position":")[^"]+/g : /$^/g;
    const [text, same, nothing] = [await get.text(), await slash.text(), await head.text()];
    expect([same.replaceAll(positions, ""), nothing], one.path).toEqual([text.replaceAll(positions, ""), ""]);
    expect(head.headers.get("content-length"), one.path).toBe(get.headers.get("content-length"));
  }
});

describe("at random", () => {
  const inputs = [
    ["requests of every operation", sized(500, 90_000), (count: number) => sendRequests(run, seed, from, count)],
    ["connections that speak HTTP oddly", sized(60, 6_000), (count: number) => sendRaw(run, seed, count)],
    ["bodies that are slow or break off", sized(16, 500), (count: number) => sendSlowly(run, seed, count)],
    ["upgrades", sized(40, 3_000), (count: number) => sendUpgrades(run, seed, count)],
    ["messages on sockets, of every type", sized(320, 20_000), (count: number) => sendMessages(run, seed, count)],
    ["frames that are odd as bytes", sized(50, 2_000), (count: number) => sendFrames(run, seed, count)],
    ["mails whose fields try to end their header", sized(25, 2_000), (count: number) => sendMails(run, seed, count)],
  ] as const;

  test.each(inputs)(`%s (%i of seed ${seed})`, { timeout }, async (_what, count, send) => {
    await send(count);
    expect(run.faults.join("\n")).toBe("");
  });
});
