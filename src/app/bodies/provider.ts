// An email provider: what sets it, and as answers show it: its settings, never its secrets.
import { z } from "zod";
import { input, orNull, refuse, text } from "../../contract/fields.ts";
import { type ProviderResource, ProviderUseSchema, SmtpSecuritySchema } from "../../contract/resources.ts";
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
  security: SmtpSecuritySchema.default("starttls"),
});

const useFor = z
  .array(ProviderUseSchema)
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

export function providerBody(provider: ProviderData): ProviderResource {
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
