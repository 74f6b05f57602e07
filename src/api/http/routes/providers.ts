// Email providers: the servers through which a client's mail goes out.
import {
  deleteProvider,
  getProvider,
  listProviders,
  providerFaults,
  putProvider,
  verifyProvider,
} from "../../../app/providers.ts";
import {
  PageQuery,
  ProviderInput,
  ProviderParams,
  Verification,
  VerifiedProviderParams,
} from "../../../contract/requests.ts";
import { listBody, ProviderResource, ProviderVerdict } from "../../../contract/resources.ts";
import { created, listReply, noContent, ok } from "../reply.ts";
import { type Route, route } from "../route.ts";

const tag = "providers";
const access = { kind: "key", scope: "providers:manage" } as const;
const params = ProviderParams;

const put = route({
  method: "PUT",
  path: "/email-providers/:name",
  summary: "Set an email provider; what is left out is cleared",
  tag,
  access,
  params,
  body: ProviderInput,
  furtherFaults: (_caller, body) => providerFaults(body),
  responses: { 200: ProviderResource, 201: ProviderResource },
  problems: ["provider_limit"],
  handle: async (call) => {
    const { provider, created: isNew, position } = await putProvider(call, call.params.name, call.body);
    return isNew ? created(provider, `/email-providers/${provider.name}`, { position }) : ok(provider, { position });
  },
});

const list = route({
  method: "GET",
  path: "/email-providers",
  summary: "List the email providers in the order in which they are tried",
  tag,
  access,
  query: PageQuery,
  responses: { 200: listBody(ProviderResource) },
  problems: [],
  handle: async (call) => listReply(call, await listProviders(call, call.query)),
});

const get = route({
  method: "GET",
  path: "/email-providers/:name",
  summary: "Read an email provider; its secrets are not shown",
  tag,
  access,
  params,
  responses: { 200: ProviderResource },
  problems: ["not_found"],
  handle: async (call) => ok(await getProvider(call, call.params.name)),
});

const remove = route({
  method: "DELETE",
  path: "/email-providers/:name",
  summary: "Remove an email provider",
  tag,
  access,
  params,
  responses: { 204: null },
  problems: ["not_found"],
  handle: async (call) => {
    const { position } = await deleteProvider(call, call.params.name);
    return noContent({ position });
  },
});

const verify = route({
  method: "POST",
  path: "/email-providers/:name/verify",
  summary: "Try a provider's settings, up to sending a test mail when an address is given",
  tag,
  access,
  params: VerifiedProviderParams,
  body: Verification,
  responses: { 200: ProviderVerdict },
  problems: ["not_found"],
  handle: async (call) => ok(await verifyProvider(call, call.params.name, call.body.to_email)),
});

export const providerRoutes: readonly Route[] = [put, list, get, remove, verify];
