// Email providers: what requests send and answers show.
import { z } from "zod";
import { input, line, mailAddress, orNull, pattern, time } from "./fields.ts";

export const SmtpSecuritySchema = z.enum(["starttls", "tls", "none"]);
export const ProviderUseSchema = z.enum(["single", "bulk"]);

const ProviderHealth = z.object({
  state: z
    .enum(["up", "down", "paused"])
    .describe("`down`: it refused the account, or could not be reached; it gets no mail until a probe succeeds"),
  since: time,
  last_error: z.object({ code: z.string(), message: z.string() }).nullable(),
});

export const ProviderResource = z
  .object({
    name: z.string(),
    type: z.literal("smtp"),
    config: z.object({
      host: z.string().nullable(),
      port: z.int().nullable(),
      username: z.string().nullable(),
      password: z
        .object({ set: z.literal(true) })
        .nullable()
        .describe("Whether there is one; never the password"),
      security: SmtpSecuritySchema.nullable(),
    }),
    from_email: z.string(),
    from_name: z.string().nullable(),
    reply_to: z.string().nullable(),
    use_for: z.array(ProviderUseSchema),
    order: z.int(),
    options: z.object({ rate_per_second: z.number().nullable(), timeout_seconds: z.number().nullable() }),
    health: ProviderHealth,
  })
  .meta({ id: "EmailProvider" });
export type ProviderResource = z.infer<typeof ProviderResource>;

export const ProviderVerdict = z
  .object({
    ok: z.boolean(),
    stage: z
      .enum(["resolve", "connect", "tls", "auth", "send"])
      .describe("The last one passed, or the one that failed"),
    code: z.string().nullable(),
    message: z.string().nullable().describe("At most 200 characters"),
  })
  .meta({ id: "ProviderVerdict" });
export type ProviderVerdict = z.infer<typeof ProviderVerdict>;

export const ProviderParams = z.object({
  name: pattern(/^[a-z0-9][a-z0-9_-]{0,63}$/, "of a-z 0-9 _ - and begin with a-z 0-9", 1, 64),
});
export const VerifiedProviderParams = z.object({ name: z.string() });
/** Text that stands in headers, or in a dialogue of lines. */
const headerLine = (max: number) => line(max, /\p{Cc}/u, "must not contain control characters");
export const ProviderInput = input({
  type: z.literal("smtp"),
  config: input({
    host: headerLine(255),
    port: z.int().min(1).max(65_535),
    username: orNull(headerLine(255)),
    password: orNull(headerLine(1_024)),
    security: SmtpSecuritySchema.default("starttls"),
  }),
  from_email: mailAddress,
  from_name: orNull(headerLine(200)),
  reply_to: orNull(mailAddress),
  use_for: orNull(
    z
      .array(ProviderUseSchema)
      .min(1)
      .max(2)
      .transform((given) => [...new Set(given)]),
  ),
  order: z.int().min(0).max(1_000).default(0),
  options: orNull(
    input({
      rate_per_second: orNull(z.number().min(0.01).max(1_000)),
      timeout_seconds: orNull(z.int().min(1).max(45)),
    }),
  ),
});
export type ProviderInput = z.output<typeof ProviderInput>;
export const Verification = input({ to_email: orNull(mailAddress) });
