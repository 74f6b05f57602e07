// Requests that no client should send: of every operation, odd in body, query, path, method, headers or credentials.
import { exampleText, type Schema, variants } from "../../e2e/support/bad-bodies.ts";
import type { Operation } from "../../e2e/support/stage.ts";
import { type Good, oddBody } from "./hostile-bodies.ts";
import { oddHeaders } from "./hostile-headers.ts";
import type { Scene } from "./hostile-scene.ts";
import { oddQuery, oddStep, oddTarget } from "./hostile-targets.ts";
import type { Header, Request } from "./hostile-wire.ts";
import { pick, type Random, seeded } from "./random.ts";

export type Hostile = {
  readonly kind: string;
  /** The operation that it is for, when its method and path still are that operation's. */
  readonly operation: Operation | undefined;
  readonly request: Request;
};

const METHODS = [
  "OPTIONS",
  "TRACE",
  "PROPFIND",
  "QUERY",
  "PURGE",
  "M-SEARCH",
  "LINK",
  "GET",
  "HEAD",
  "POST",
  "PUT",
  "DELETE",
];
/** The one field for recipients that a notification of each kind is given, so that more than that can be wrong with it. */
const TARGETS: Readonly<Record<string, string>> = { email: "to_email", websocket: "user_ids", webhook: "url" };
const OTHER_TARGETS = ["to", "recipients", "urls"];

function ofOneTarget(schema: Schema): Schema {
  const oneOf = variants(schema).map((one): Schema => {
    const { type, ...properties } = one.properties ?? {};
    const target = TARGETS[type?.const ?? ""];
    if (type === undefined || target === undefined) return one;
    const kept = Object.entries(properties).filter(([name]) => !OTHER_TARGETS.includes(name));
    return { ...one, properties: { type, ...Object.fromEntries(kept) }, required: [...(one.required ?? []), target] };
  });
  return { oneOf };
}

const goodOf = ({ ids }: Scene, { template }: Operation, nth: number): Good => ({
  ...{ sender_id: '"alice"', user_id: '"alice"', user_ids: '["alice"]', content: '"Hello"', seq: "1" },
  ...{ room_id: JSON.stringify(ids.room_id), external_id: `"e${nth}"`, members: '[{"user_id":"alice"}]' },
  ...{ config: '{"host":"127.0.0.1","port":1,"security":"none"}', email_fallback: "true", grace_seconds: "0" },
  ...(template.endsWith("/messages") ? { reply_to: JSON.stringify(ids.message_id) } : {}),
});

const JSON_TYPE: Header = ["Content-Type", "application/json"];

/** The credential that an operation lets in; now and then a user's where that will do, or one that will not. */
function credential(random: Random, scene: Scene, { template }: Operation): readonly Header[] {
  if (template === "/api/v1/clients") return [];
  const needsToken = template.startsWith("/api/v1/deliveries/");
  const dice = random.below(20);
  const isToken = dice === 0 ? !needsToken : needsToken || dice < 4;
  return [["Authorization", `Bearer ${isToken ? scene.token : scene.api.key}`]];
}

/** The nth input of a seed, always the same one but for its ids. */
export function hostileRequest(seed: number, nth: number, operation: Operation, scene: Scene): Hostile {
  const random = seeded(seed + nth * 7_919);
  const { schema, method, template } = operation;
  const path = template.replaceAll(/\{([a-z_]+)\}/g, (_whole, name: string) => scene.ids[name] ?? "missing");
  const by = credential(random, scene, operation);
  const id: Header = ["X-Request-Id", `f${seed}-${nth}`];
  const host: Header = ["Host", scene.host];
  const good = goodOf(scene, operation, nth);
  const plain = schema === undefined ? undefined : Buffer.from(exampleText(schema));
  const made = (kind: string, more: Partial<Request>, isElsewhere = false): Hostile => ({
    kind,
    operation: isElsewhere ? undefined : operation,
    request: { method, target: path, headers: [host, id, ...by, JSON_TYPE], body: plain, ...more },
  });
  const dice = random.below(100);
  if (schema !== undefined && dice < 75) {
    const { kind, bytes } = oddBody(random, random.below(4) === 0 ? schema : ofOneTarget(schema), good);
    return made(`body: ${kind}`, { body: bytes, isChunked: random.below(8) === 0 });
  }
  const rest = schema === undefined ? dice : dice * 4 - 300;
  if (rest < 35) return made("query", { target: path + oddQuery(random, operation) });
  if (rest < 60 && template.includes("{")) {
    const steps = template.split("/");
    const at = pick(
      random,
      [...steps.keys()].filter((index) => steps[index]?.startsWith("{")),
    );
    return made("id in the path", { target: path.split("/").with(at, oddStep(random)).join("/") });
  }
  if (rest < 68) return made("path", { target: oddTarget(random, path) }, true);
  if (rest < 73) return made("method", { method: pick(random, METHODS) }, true);
  const headers = oddHeaders(random, [host, id, ...by, JSON_TYPE]);
  return made("headers", { headers, isChunked: schema !== undefined && random.below(8) === 0 });
}
