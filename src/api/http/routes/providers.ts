// Email providers: the servers through which a client's mail goes out.
import {
  deleteProvider,
  getProvider,
  listProviders,
  providerFaults,
  putProvider,
  verifyProvider,
} from "../../../app/providers.ts";
import { listBody, PageQuery } from "../../../contract/fields.ts";
import {
  ProviderInput,
  ProviderParams,
  ProviderResource,
  ProviderVerdict,
  Verification,
  VerifiedProviderParams,
} from "../../../contract/providers.ts";
import { created, listReply, noContent, ok, route, routesOf, shown } from "../route.ts";

const access = { kind: "key", scope: "providers:manage" } as const;
const params = ProviderParams;

export const providerRoutes = routesOf("providers", {
  putProvider: route("PUT", "/email-providers/:name", {
    summary: "Set an email provider",
    description: "What is left out is cleared. Secrets are sealed in the log and never shown.",
    access,
    params,
    body: ProviderInput,
    furtherFaults: (_caller, body) => providerFaults(body),
    responses: { 200: ProviderResource, 201: ProviderResource },
    problems: ["provider_limit", "precondition_failed"],
    conditional: true,
    handle: async (call) => {
      const put = await putProvider(call, call.params.name, call.body, call);
      return put.created ? created(put, "provider", `/email-providers/${put.provider.name}`) : shown(put, "provider");
    },
  }),
  listProviders: route("GET", "/email-providers", {
    summary: "List email providers",
    description: "In the order in which they are tried.",
    access,
    query: PageQuery,
    responses: { 200: listBody(ProviderResource) },
    handle: async (call) => listReply(call, await listProviders(call, call.query)),
  }),
  getProvider: route("GET", "/email-providers/:name", {
    summary: "Read an email provider",
    description: "Its secrets are not shown.",
    access,
    params,
    responses: { 200: ProviderResource },
    problems: ["not_found"],
    handle: async (call) => shown(await getProvider(call, call.params.name), "provider"),
  }),
  deleteProvider: route("DELETE", "/email-providers/:name", {
    summary: "Remove an email provider",
    description: "Mail that waits goes out through the next provider.",
    access,
    params,
    responses: { 204: null },
    problems: ["not_found", "precondition_failed"],
    conditional: true,
    handle: async (call) => noContent(await deleteProvider(call, call.params.name, call.ifMatch)),
  }),
  verifyProvider: route("POST", "/email-providers/:name/verify", {
    summary: "Verify a provider's settings",
    description: "Connects and signs in as a delivery would; with `to_email` it also sends a test mail.",
    access,
    params: VerifiedProviderParams,
    body: Verification,
    responses: { 200: ProviderVerdict },
    problems: ["not_found"],
    handle: async (call) => ok(await verifyProvider(call, call.params.name, call.body.to_email)),
  }),
});
