// The webhook endpoints of a client: how many, with which headers, and from where one goes on that was disabled.
import { describe, expect, test } from "vitest";
import { NewEndpoint } from "../../src/contract/endpoints.ts";
import type { EndpointId } from "../../src/contract/ids.ts";
import { DAY_MS } from "../../src/contract/time.ts";
import { type ClientEvent, clientDecider } from "../../src/domain/client.ts";
import type { EndpointCommand } from "../../src/domain/endpoint.ts";
import { at, given, NOW } from "../support/given.ts";

const client = "cli_one";
const registered: ClientEvent = {
  type: "ClientRegistered",
  data: {
    ...{ client, name: "Shop", description: null, webhookSecret: { open: "whsec_" } },
    key: { id: "key_1", name: "default", hash: "00", last4: "0000" },
  },
};
const settings = {
  ...{ url: { open: "https://example.com/hook" }, recipient: "sub_1", events: ["message.*"], roomIds: null },
  ...{ filter: null, description: null, headers: { open: [] }, ordered: false, ratePerSecond: null },
  ...{ timeoutSeconds: 15, retrySchedule: null },
} as const satisfies Partial<Extract<EndpointCommand, { type: "CreateEndpoint" }>["settings"]>;
const nowhere = { after: null, notBefore: null };
const created = (endpoint: EndpointId): ClientEvent => ({
  type: "EndpointCreated",
  data: { client, endpoint, ...settings, events: [...settings.events], secret: { open: "s" }, start: nowhere },
});
const create = (endpoint: EndpointId): EndpointCommand => ({
  ...{ type: "CreateEndpoint", at: NOW, endpoint, secret: "s", start: nowhere },
  settings: { ...settings, events: [...settings.events] },
});
const known = (count: number) => Array.from({ length: count }, (_, n) => created(`whk_${n}`));

describe("the endpoints of a client", () => {
  test("are 50 at most", () => {
    given(clientDecider, registered, ...known(49))
      .when(create("whk_new"))
      .then(created("whk_new"));
    given(clientDecider, registered, ...known(50))
      .when(create("whk_new"))
      .thenRejected("too_many_endpoints");
    const deleted: ClientEvent = { type: "EndpointDeleted", data: { client, endpoint: "whk_7" } };
    given(clientDecider, registered, ...known(50), deleted)
      .when(create("whk_new"))
      .then(created("whk_new"));
  });

  test("keep their place for 30 days while they are disabled, and begin anew after that", () => {
    const disabled: ClientEvent = { type: "EndpointDisabled", data: { client, endpoint: "whk_0", reason: "gone" } };
    const resume = { type: "ResumeEndpoint", at: NOW, endpoint: "whk_0" } as const;
    const resumed = (start: typeof nowhere | null): ClientEvent => ({
      type: "EndpointResumed",
      data: { client, endpoint: "whk_0", start },
    });
    const since = (ms: number) => given(clientDecider, registered, ...known(1), at(NOW - ms, disabled)).when(resume);
    since(30 * DAY_MS - 1).then(resumed(null));
    since(30 * DAY_MS).then(resumed(nowhere));
  });
});

describe("a new endpoint", () => {
  const about = { url: "https://example.com/", events: ["message.*"] };
  const issuesOf = (more: object) => NewEndpoint.safeParse({ ...about, ...more }).error?.issues ?? [];
  test.each(["webhook-id", "Webhook-Signature", "Content-Type", "HOST", "Transfer-Encoding"])(
    "takes no header of ours: %s",
    (name) => expect(issuesOf({ headers: { [name]: "x" } })).toMatchObject([{ path: ["headers", name] }]),
  );
  test("takes others, Authorization among them", () =>
    expect(issuesOf({ headers: { Authorization: "Bearer x", "X-Team": "blue" } })).toEqual([]));
});
