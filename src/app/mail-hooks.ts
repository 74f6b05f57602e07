// What comes back of mails: what the vendors post to a provider's path, checked as each documents it, and what receiving
// servers mail to return paths.
import { bounceReports } from "../channels/email/events/bounce-mail.ts";
import { mailgunEvent } from "../channels/email/events/mailgun.ts";
import { postmarkEvents } from "../channels/email/events/postmark.ts";
import { sendgridEvents } from "../channels/email/events/sendgrid.ts";
import { sesEvents } from "../channels/email/events/ses.ts";
import { HookRefused, type HookRequest } from "../channels/email/events/vendor.ts";
import type { ProblemCode } from "../contract/errors.ts";
import type { DeliveryId } from "../contract/ids.ts";
import { clientDecider, clientStream } from "../domain/client.ts";
import { DomainError } from "../domain/decider.ts";
import { deliveryDecider } from "../domain/delivery.ts";
import type { MailReport } from "../domain/delivery-reports.ts";
import { deliveryStream } from "../domain/delivery-state.ts";
import { hookTokenDecider, hookTokenStream } from "../domain/hook-token.ts";
import { type ProviderSettings, settingsOf } from "../domain/provider.ts";
import { deriveSecretTail, deriveUuid } from "../event-store/derived-ids.ts";
import { isReported, recordReport } from "./delivery-reports.ts";
import { AppError } from "./errors.ts";
import type { HookOwner } from "./mail-links.ts";
import type { Services } from "./services.ts";
import { streamOwner } from "./stream-owner.ts";

const CODES: Readonly<Record<HookRefused["reason"], ProblemCode>> = {
  forged: "unauthenticated",
  unconfigured: "forbidden",
  unreadable: "malformed_json",
  unavailable: "unavailable",
};

type Checked = { readonly reports: readonly MailReport[]; readonly token?: string; readonly fingerprint?: string };

/** How many reports of a request were recorded, and how many are of mails that are not this client's. */
type HookOutcome = { readonly recorded: number; readonly unknown: number };

/**
 * Takes what was posted to the path of a provider. Throws not_found (no such provider), unauthenticated, forbidden,
 * malformed_json, unavailable, and what commands throw: then nothing counts, and the vendor tries again.
 */
export async function receiveHook(
  services: Services,
  { client, provider }: HookOwner,
  request: HookRequest,
): Promise<HookOutcome> {
  const { state } = await services.commands.load(clientDecider, clientStream(client));
  const data = state.status === "live" ? state.providers.find((one) => one.name === provider) : undefined;
  const settings = data === undefined ? null : settingsOf(data);
  if (settings === null) throw new DomainError("not_found");
  const source = { client, provider };
  const checked = await check(services, settings, request);
  await useToken(services, source, checked);
  let recorded = 0;
  // In order: of one mail the vendor names what happened first before what came of it.
  for (const report of checked.reports) {
    if ((await recordReport(services, source, report)) === "recorded") recorded += 1;
  }
  const unknown = checked.reports.length - recorded;
  services.onReports?.(settings.type, { recorded, unknown });
  return { recorded, unknown };
}

/**
 * Takes a mail that came to the return path of a delivery. Who knows the path has the mail that it is of, or carried it.
 * Throws what commands throw: then the sender tries again, and what was recorded counts once.
 */
export async function receiveBounce(services: Services, id: DeliveryId, raw: Uint8Array): Promise<HookOutcome> {
  const reports = await bounceReports(raw, id);
  const { state } = await services.commands.load(deliveryDecider, deliveryStream(id));
  const client = await streamOwner(services.store, deliveryStream(id));
  let recorded = 0;
  if (state.status !== "none" && client !== undefined) {
    // The delivery may go on with another provider before the same report comes again.
    const source = { client, provider: state.provider, way: RETURN_PATH };
    for (const report of reports) {
      if ((await recordReport(services, source, report)) === "recorded") recorded += 1;
    }
  }
  const outcome = { recorded, unknown: reports.length - recorded };
  services.onReports?.("smtp", outcome);
  return outcome;
}
const RETURN_PATH = "return-path";

async function check(services: Services, settings: ProviderSettings, request: HookRequest): Promise<Checked> {
  try {
    switch (settings.type) {
      case "mailgun":
        return mailgunEvent(request, settings.config.webhook_signing_key);
      case "sendgrid":
        return { reports: sendgridEvents(request, settings.config.webhook_public_key) };
      case "postmark": {
        const { webhook_username: username, webhook_password: password } = settings.config;
        return { reports: postmarkEvents(request, { username, password }) };
      }
      case "ses":
        return { reports: await sesEvents(request, settings.config.sns_topic_arn, services.fetchAmazon) };
      case "smtp":
        throw new DomainError("not_found");
    }
  } catch (error) {
    if (error instanceof HookRefused) throw new AppError(CODES[error.reason], { detail: error.message });
    throw error;
  }
}

/** A token is used once: for what concerns no mail of the client's nothing is kept of it. */
async function useToken(
  services: Services,
  { client, provider }: HookOwner,
  { reports, token, fingerprint }: Checked,
): Promise<void> {
  if (token === undefined || fingerprint === undefined) return;
  const known = await Promise.all(reports.map((report) => isReported(services, { client, provider }, report)));
  if (!known.includes(true)) return;
  const { commands, keyring, now } = services;
  const stream = hookTokenStream(deriveSecretTail(await keyring.pepper(client), "hook-token", provider, token));
  const commandId = deriveUuid("hook-token", stream);
  const context = { client, actor: { type: "system", id: "provider" }, commandId } as const;
  const command = { type: "Use", at: now(), fingerprint } as const;
  await commands.execute(hookTokenDecider, stream, command, {
    ...context,
    correlation: commandId,
    causation: commandId,
  });
}
