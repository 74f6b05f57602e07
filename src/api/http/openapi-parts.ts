// What the OpenAPI document says once for all routes: header parameters, headers of answers, the shape of a problem.
import { FAULT_CODES, PROBLEMS } from "../../contract/errors.ts";

export const STRING = { type: "string" };

export const PARAMETERS = {
  IdempotencyKey: {
    name: "Idempotency-Key",
    in: "header",
    required: false,
    description: "The same key with the same body has one effect, and gives the first answer again.",
    schema: { type: "string", minLength: 1, maxLength: 255, pattern: "^[\\x21-\\x7e]+$" },
  },
  ReadAfter: {
    name: "Read-After",
    in: "header",
    required: false,
    description: "A `Position`: waits up to 5 s until it can be read. `none` waits for nothing.",
    schema: STRING,
  },
  IfMatch: {
    name: "If-Match",
    in: "header",
    required: false,
    description: "The `ETag` that the change rests on.",
    schema: STRING,
  },
  XRequestId: {
    name: "X-Request-Id",
    in: "header",
    required: false,
    description: "Taken over into logs and events, and echoed.",
    schema: { type: "string", pattern: "^[A-Za-z0-9._-]{1,128}$" },
  },
} as const;

const header = (description: string) => ({ description, schema: STRING });
export const HEADERS = {
  Position: header("The place in the log that the write reached, for `Read-After`. Opaque."),
  ETag: header("The seq of the last change, for `If-Match`."),
  Location: header("The path of what was made."),
  IdempotentReplayed: header("`true` when this is the answer to an earlier request with the same `Idempotency-Key`."),
  XRequestId: header("The request's id."),
};

export const PROBLEM_SCHEMA = {
  type: "object",
  required: ["type", "title", "status", "detail", "code", "request_id"],
  properties: {
    type: { type: "string", format: "uri" },
    title: STRING,
    status: { type: "integer" },
    detail: STRING,
    code: { type: "string", enum: Object.keys(PROBLEMS) },
    request_id: STRING,
    errors: {
      type: "array",
      description: "With `validation_failed`: every fault.",
      items: {
        type: "object",
        required: ["path", "code", "message"],
        properties: { path: STRING, code: { type: "string", enum: FAULT_CODES }, message: STRING },
      },
    },
  },
};
