// The schemas of a document that describes the interface: made from those that validate, each with a name once.
import { z } from "zod";

type Json = Record<string, unknown>;

/** Schemas with a name stand once, under `components`. `target`: the JSON Schema that the document's format takes. */
export class Components {
  readonly schemas: Record<string, unknown> = {};
  readonly #target: "draft-2020-12" | "draft-7";

  constructor(target: "draft-2020-12" | "draft-7") {
    this.#target = target;
  }

  /** The schema of what is sent to the server (`input`), or of what it sends. */
  of(schema: z.ZodType, io: "input" | "output"): Json {
    const made = z.toJSONSchema(schema, {
      ...{ io, unrepresentable: "any", target: this.#target },
      override: ({ jsonSchema }) => {
        delete jsonSchema.id;
        // Fields are only added within v1, and clients ignore what they do not know.
        if (io === "output" && jsonSchema.additionalProperties === false) delete jsonSchema.additionalProperties;
      },
    });
    const text = JSON.stringify(made).replaceAll(/"#\/(\$defs|definitions)\//g, '"#/components/schemas/');
    const { $defs, definitions, $schema: _dialect, ...own } = JSON.parse(text) as Json;
    Object.assign(this.schemas, $defs, definitions);
    return own;
  }
}
