// An event as the audit shows it: what was stored, opened where a person is concerned, closed where it is a secret.

import { isObject, type JsonObject, type JsonValue } from "../../contract/json.ts";
import type { AuditEventResource } from "../../contract/resources.ts";
import { rfc3339 } from "../../contract/time.ts";
import { catalogue } from "../../domain/catalogue.ts";
import type { EventDefinition } from "../../domain/event.ts";
import type { StoredEvent } from "../../event-store/envelope.ts";

const definitions: Readonly<Record<string, EventDefinition>> = catalogue;

/** `userIds` shows people who acted by their ids. */
export function auditEventBody(event: StoredEvent, userIds: ReadonlyMap<string, string>): AuditEventResource {
  const { actor, at, correlation, causation } = event.meta;
  return {
    id: event.id,
    type: event.type,
    stream: event.stream,
    revision: event.revision,
    position: event.position,
    at: rfc3339(at),
    actor: { type: actor.type, id: actor.type === "user" ? (userIds.get(actor.id) ?? actor.id) : actor.id },
    correlation_id: correlation,
    causation_id: causation,
    data: shownData(event),
  };
}

const SECRET: JsonObject = { sealed: true };
const ERASED: JsonObject = { erased: true };

/** The data in the words of the interface: snake_case, times as text. */
function shownData(event: StoredEvent): JsonObject {
  const seals = definitions[event.type]?.seals ?? {};
  // Parsed JSON, checked against its schema when it was decoded.
  const data = event.data as JsonObject;
  const sealed = new Map(Object.entries(seals).map(([path, ref]) => [path, isSecret(data, ref)]));
  return fields(data, [], sealed);
}

/** What is sealed for a client is its secret; all else is sealed for a person, or for a notification's content. */
const isSecret = (data: JsonObject, ref: string): boolean => String(data[ref] ?? "").startsWith("cli_");

/** By path, whether a sealed field is a secret. */
type SealedPaths = ReadonlyMap<string, boolean>;

const fields = (data: JsonObject, path: readonly string[], sealed: SealedPaths): JsonObject =>
  Object.fromEntries(
    Object.entries(data).map(([name, value]) => [snakeCase(name), field(name, value, [...path, name], sealed)]),
  );

function field(name: string, value: JsonValue, path: readonly string[], sealed: SealedPaths): JsonValue {
  const secret = sealed.get(path.join("."));
  if (secret !== undefined && isObject(value)) return secret ? SECRET : "open" in value ? (value.open ?? null) : ERASED;
  // What a key is recognised by is of no use to anybody else.
  if (name === "hash") return SECRET;
  if (typeof value === "number" && isTime(name)) return rfc3339(value);
  // A client's own JSON stays as it is.
  if (name === "meta") return value;
  if (Array.isArray(value)) return value.map((item) => (isObject(item) ? fields(item, [...path, "*"], sealed) : item));
  return isObject(value) ? fields(value, path, sealed) : value;
}

const isTime = (name: string): boolean => name === "at" || /(?:At|Until)$/.test(name);
const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
