// Email providers: the servers through which a client's mail goes out.
import { z } from "zod";
import type { Caller } from "../../../app/authenticate.ts";
import { ProviderInput, providerBody } from "../../../app/bodies/provider.ts";
import { invalid } from "../../../app/errors.ts";
import { mailAddress } from "../../../app/notifications/input.ts";
import type { Services } from "../../../app/services.ts";
import type { FieldFault } from "../../../contract/errors.ts";
import { input, orNull, paging, pattern } from "../../../contract/fields.ts";
import type { ClientId } from "../../../contract/ids.ts";
import { isObject } from "../../../contract/json.ts";
import { listBody, ProviderResource, ProviderVerdict } from "../../../contract/resources.ts";
import { clientDecider, clientStream, type ProviderData } from "../../../domain/client.ts";
import { DomainError } from "../../../domain/errors.ts";
import { reveal } from "../../../domain/event.ts";
import { pageOf, readCursor } from "../../../projections/page.ts";
import { created, listReply, noContent, ok } from "../reply.ts";
import { type Route, route } from "../route.ts";

const access = { kind: "key", scope: "providers:manage" } as const;
const params = z.object({
  name: pattern(/^[a-z0-9][a-z0-9_-]{0,63}$/, "of a-z 0-9 _ - and begin with a-z 0-9", 1, 64),
});

/** The client's providers in the order in which they are tried. */
async function providersOf(
  { commands }: Pick<Services, "commands">,
  client: ClientId,
): Promise<readonly ProviderData[]> {
  const { state } = await commands.load(clientDecider, clientStream(client));
  const providers = state.status === "live" ? state.providers : [];
  return providers.toSorted((a, b) => a.order - b.order || (a.name < b.name ? -1 : 1));
}

async function provider(services: Services, client: ClientId, name: string): Promise<ProviderData> {
  const found = (await providersOf(services, client)).find((one) => one.name === name);
  if (found === undefined) throw new DomainError("not_found");
  return found;
}

async function checkConfig({ guard }: Services, config: ProviderInput["config"]): Promise<void> {
  const faults: FieldFault[] = [];
  const verdict = await guard.checkHost(config.host);
  // fence: ssrf-provider
  if (!verdict.ok) faults.push({ path: "config.host", code: verdict.code, message: verdict.reason });
  if (config.password !== null && config.username === null) {
    faults.push(NO_USERNAME);
  }
  if (faults.length > 0) throw invalid(faults);
}

const NO_USERNAME = { path: "config.username", code: "required", message: "is required with a password" } as const;

function configFaults(_caller: Caller, body: unknown): readonly FieldFault[] {
  if (!isObject(body) || !isObject(body.config)) return [];
  const { username = null, password = null } = body.config;
  return password !== null && username === null ? [NO_USERNAME] : [];
}

const putProvider = route({
  method: "PUT",
  path: "/email-providers/:name",
  summary: "Sets an email provider; what is left out is cleared.",
  tag: "providers",
  access,
  params,
  body: ProviderInput,
  furtherFaults: configFaults,
  responses: { 200: ProviderResource, 201: ProviderResource },
  problems: ["provider_limit"],
  handle: async ({ services, caller, params, body, context, at }) => {
    await checkConfig(services, body.config);
    const { client } = caller;
    const isNew = (await providersOf(services, client)).every((one) => one.name !== params.name);
    const data = {
      client,
      name: params.name,
      type: body.type,
      config: body.config,
      fromEmail: body.from_email,
      fromName: body.from_name,
      replyTo: body.reply_to,
      useFor: body.use_for ?? ["single" as const, "bulk" as const],
      order: body.order,
      options: {
        ratePerSecond: body.options?.rate_per_second ?? null,
        timeoutSeconds: body.options?.timeout_seconds ?? null,
      },
    };
    const command = { type: "SetProvider", at, provider: data } as const;
    const { position } = await services.commands.execute(clientDecider, clientStream(client), command, context);
    const shown = providerBody({ ...data, config: { open: data.config } });
    return isNew ? created(shown, `/email-providers/${params.name}`, { position }) : ok(shown, { position });
  },
});

const listProviders = route({
  method: "GET",
  path: "/email-providers",
  summary: "Lists the email providers in the order in which they are tried.",
  tag: "providers",
  access,
  query: input(paging),
  responses: { 200: listBody(ProviderResource) },
  problems: [],
  handle: async (handling) => {
    const { services, caller, query } = handling;
    const all = await providersOf(services, caller.client);
    const [order, name] = readCursor(query.cursor, ["integer", "text"]) ?? [-1, ""];
    const rest = all.filter((one) => one.order > order || (one.order === order && one.name > name));
    return listReply(
      handling,
      pageOf(rest, query.limit, (last) => [last.order, last.name]),
      providerBody,
    );
  },
});

const getProvider = route({
  method: "GET",
  path: "/email-providers/:name",
  summary: "Reads an email provider; its secrets are not shown.",
  tag: "providers",
  access,
  params,
  responses: { 200: ProviderResource },
  problems: ["not_found"],
  handle: async ({ services, caller, params }) =>
    ok(providerBody(await provider(services, caller.client, params.name))),
});

const deleteProvider = route({
  method: "DELETE",
  path: "/email-providers/:name",
  summary: "Removes an email provider.",
  tag: "providers",
  access,
  params,
  responses: { 204: null },
  problems: ["not_found"],
  handle: async ({ services, caller, params, context, at }) => {
    const command = { type: "RemoveProvider", at, name: params.name } as const;
    const stream = clientStream(caller.client);
    const { position } = await services.commands.execute(clientDecider, stream, command, context);
    return noContent({ position });
  },
});

const verifyProvider = route({
  method: "POST",
  path: "/email-providers/:name/verify",
  summary: "Tries a provider's settings, up to sending a test mail when an address is given.",
  tag: "providers",
  access,
  params: z.object({ name: z.string() }),
  body: input({ to_email: orNull(mailAddress) }),
  responses: { 200: ProviderVerdict },
  problems: ["not_found"],
  handle: async ({ services, caller, params, body }) => {
    const data = await provider(services, caller.client, params.name);
    const config = reveal(data.config);
    if (config === null) throw new DomainError("not_found");
    const { name, fromEmail, fromName, replyTo } = data;
    const {
      ok: passed,
      stage,
      code,
      message,
    } = await services.smtp.verify({ ...config, name, fromEmail, fromName, replyTo }, body.to_email);
    return ok({ ok: passed, stage, code, message });
  },
});

export const providerRoutes: readonly Route[] = [
  putProvider,
  listProviders,
  getProvider,
  deleteProvider,
  verifyProvider,
];
