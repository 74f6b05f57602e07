// An email provider: what sets it, and as answers show it: its settings, never its secrets.
import { z } from "zod";
import { input, orNull, refuse, text } from "../../contract/fields.ts";
import type { ProviderData } from "../../domain/client.ts";
import { reveal } from "../../domain/event.ts";
import { mailAddress } from "../notifications/input.ts";

/** Text of one line: it stands in headers, or in a dialogue of lines. */
const line = (max: number) =>
  text(1, max).superRefine((value, context) => {
    if (/\p{Cc}/u.test(value)) refuse(context, "invalid_format", "must not contain control characters");
  });

const Config = input({
  host: line(255),
  port: z.int().min(1).max(65_535),
  username: orNull(line(255)),
  password: orNull(line(1_024)),
  security: z.enum(["starttls", "tls", "none"]).default("starttls"),
});

const useFor = z
  .array(z.enum(["single", "bulk"]))
  .min(1)
  .max(2)
  .transform((given) => [...new Set(given)]);

export const ProviderInput = input({
  type: z.literal("smtp"),
  config: Config,
  from_email: mailAddress,
  from_name: orNull(line(200)),
  reply_to: orNull(mailAddress),
  use_for: orNull(useFor),
  order: z.int().min(0).max(1_000).default(0),
  options: orNull(
    input({
      rate_per_second: orNull(z.number().min(0.01).max(1_000)),
      timeout_seconds: orNull(z.int().min(1).max(45)),
    }),
  ),
});
export type ProviderInput = z.output<typeof ProviderInput>;

const SecretBody = z.object({ set: z.literal(true) });

export const ProviderBody = z
  .object({
    name: z.string(),
    type: z.literal("smtp"),
    config: z.object({
      host: z.string().nullable(),
      port: z.int().nullable(),
      username: z.string().nullable(),
      password: SecretBody.nullable().describe("Whether there is one; never the password"),
      security: z.enum(["starttls", "tls", "none"]).nullable(),
    }),
    from_email: z.string(),
    from_name: z.string().nullable(),
    reply_to: z.string().nullable(),
    use_for: z.array(z.enum(["single", "bulk"])),
    order: z.int(),
    options: z.object({ rate_per_second: z.number().nullable(), timeout_seconds: z.number().nullable() }),
  })
  .meta({ id: "EmailProvider" });
export type ProviderBody = z.infer<typeof ProviderBody>;

export function providerBody(provider: ProviderData): ProviderBody {
  const { name, type, fromEmail, fromName, replyTo, useFor, order, options } = provider;
  const config = reveal(provider.config);
  return {
    name,
    type,
    config: {
      host: config?.host ?? null,
      port: config?.port ?? null,
      username: config?.username ?? null,
      password: config === null || config.password === null ? null : { set: true },
      security: config?.security ?? null,
    },
    from_email: fromEmail,
    from_name: fromName,
    reply_to: replyTo,
    use_for: useFor,
    order,
    options: { rate_per_second: options.ratePerSecond, timeout_seconds: options.timeoutSeconds },
  };
}

export const VerdictBody = z
  .object({
    ok: z.boolean(),
    stage: z
      .enum(["resolve", "connect", "tls", "auth", "send"])
      .describe("The last one passed, or the one that failed"),
    code: z.string().nullable(),
    message: z.string().nullable().describe("At most 200 characters"),
  })
  .meta({ id: "ProviderVerdict" });
