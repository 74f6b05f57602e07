// Refusals: what a decision says when the rules forbid a command. Codes are part of the interface.

/** The codes that deciders refuse with; the interface gives each one status. */
export type RefusalCode =
  | "not_found"
  | "not_a_member"
  | "read_only"
  | "role_required"
  | "sender_mismatch"
  | "forbidden"
  | "precondition_failed"
  | "room_inactive"
  | "last_owner"
  | "direct_room_fixed"
  | "external_id_taken"
  | "message_deleted"
  | "too_many_members"
  | "not_cancellable"
  | "not_editable"
  | "nothing_to_retry"
  | "last_key"
  | "provider_limit"
  | "key_limit"
  | "idempotency_key_reused";

/** A fault of one field, as the interface reports it. */
export type FieldFault = {
  /** Dotted path into the body; `?name` for a query, `Header: Name` for a header. */
  readonly path: string;
  readonly code:
    | "required"
    | "unknown_field"
    | "wrong_type"
    | "too_short"
    | "too_long"
    | "too_small"
    | "too_large"
    | "invalid_format"
    | "not_allowed";
  readonly message: string;
};

/** The rules refuse the command; nothing is written. */
export class DomainError extends Error {
  override readonly name = "DomainError";
  readonly code: RefusalCode;
  /** Members added to the problem, such as `existing_id`. */
  readonly extra: Readonly<Record<string, string | number>>;
  constructor(code: RefusalCode, detail?: string, extra: Readonly<Record<string, string | number>> = {}) {
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
