// Checks the frames of a socket, in both directions, against the AsyncAPI document and the schemas that it is made from.
import { Ajv, type ValidateFunction } from "ajv";
import { asyncApiDocument } from "../../src/api/http/asyncapi.ts";
import { ServerFrameSchema } from "../../src/contract/frames.ts";
import { isObject } from "../../src/contract/json.ts";
import { violations } from "./frame-violations.ts";

type Frame = Readonly<Record<string, unknown>>;

const NAME = "asyncapi.json";
const SHOWN_CHARACTERS = 1_000;

/** Validators of the document's messages, each made when it is first needed. */
const validators = new Map<string, ValidateFunction | undefined>();
let made: { readonly ajv: Ajv; readonly ids: ReadonlySet<string> } | undefined;

function validatorOf(id: string): ValidateFunction | undefined {
  if (!validators.has(id)) {
    made ??= readDocument();
    const $ref = `${NAME}#/components/messages/${id}/payload`;
    validators.set(id, made.ids.has(id) ? made.ajv.compile({ $ref }) : undefined);
  }
  return validators.get(id);
}

function readDocument() {
  const document = asyncApiDocument(undefined);
  const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
  ajv.addSchema({ ...document, $id: NAME });
  const { messages } = document.components as { messages: Record<string, unknown> };
  return { ajv, ids: new Set(Object.keys(messages)) };
}

/** What is wrong with a frame of the server; undefined: it is as the document and its schema say. */
function faultOf(frame: Frame): string | undefined {
  const validate = validatorOf(frame.type === "event" ? `event.${frame.event}` : `server.${frame.type}`);
  if (validate === undefined) return "the document has no such message";
  if (!validate(frame)) return JSON.stringify(validate.errors);
  // The document allows members that come later; what is sent today has none.
  return ServerFrameSchema.safeParse(frame).error?.message;
}

const isAllowed = (frame: Frame): boolean => validatorOf(`client.${frame.type}`)?.(frame) === true;

function parsed(text: string): Frame | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? (value as Frame) : undefined;
  } catch {
    return undefined;
  }
}

/** The check of one socket. What it finds fails the test that runs. */
export class FrameCheck {
  /** Whether the document allows a frame that was sent, by its `ref`. */
  readonly #allowed = new Map<unknown, boolean>();

  /** A frame of the client. It may be wrong, when the test wants that: then its answer must be an error. */
  sent(text: string): void {
    const frame = parsed(text);
    if (frame?.ref !== undefined) this.#allowed.set(frame.ref, isAllowed(frame));
  }

  received(text: string): void {
    const frame = parsed(text);
    const fault = frame === undefined ? "not a JSON object" : (faultOf(frame) ?? this.#answerFault(frame));
    if (fault !== undefined) violations.push(`${text.slice(0, SHOWN_CHARACTERS)}: ${fault}`);
  }

  #answerFault({ type, ref, code }: Frame): string | undefined {
    const allowed = ref === undefined ? undefined : this.#allowed.get(ref);
    if (allowed === false && type !== "error") return "the server took a frame that the document does not allow";
    if (allowed === true && code === "unknown_type") return "the server does not know a frame that the document has";
    return undefined;
  }
}
