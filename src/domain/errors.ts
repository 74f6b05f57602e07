// Refusals: what a decision says when the rules forbid a command.
import type { FieldFault, ProblemCode } from "../contract/errors.ts";

/** The rules refuse the command; nothing is written. */
export class DomainError extends Error {
  override readonly name = "DomainError";
  readonly code: ProblemCode;
  /** Members added to the problem, such as `existing_id`. */
  readonly extra: Readonly<Record<string, string | number>>;
  constructor(code: ProblemCode, detail?: string, extra: Readonly<Record<string, string | number>> = {}) {
    super(detail ?? code);
    this.code = code;
    this.extra = extra;
  }
}

/** A field's value is against a rule that only the state can check; nothing is written. */
export class InvalidInput extends Error {
  override readonly name = "InvalidInput";
  readonly faults: readonly FieldFault[];
  constructor(faults: readonly FieldFault[]) {
    super(faults.map((fault) => `${fault.path}: ${fault.message}`).join("; "));
    this.faults = faults;
  }
}
