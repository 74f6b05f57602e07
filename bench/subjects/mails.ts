// Mails by SMTP and by a provider's API, against pg-boss that only sends webhooks; and what a provider's report costs.
import { interleave } from "../harness/measure.ts";
import { type Goal, ratioRow, rowOf } from "../harness/row.ts";
import type { Bench, Subject } from "../harness/subject.ts";
import { oneJobAtATime, startBoss } from "../support/boss.ts";
import { type BenchProcess, startProcess } from "../support/process.ts";
import { type Api, newApi, newEncryptionKey, type Served, startServed } from "../support/served.ts";

const byApi: Goal = {
  ...{ name: "18 mails by an API with every event, over pg-boss one webhook at a time", goal: 2 },
  ...{ direction: "at least", unit: "x" },
};
const bySmtp: Goal = {
  ...{ name: "18 mails by SMTP with every event, over pg-boss one webhook at a time", goal: 2 },
  ...{ direction: "at least", unit: "x" },
};
const report: Goal = {
  ...{ name: "18 a provider's reports, each recorded, a second of the server's processor time", goal: 500 },
  ...{ direction: "at least", unit: "/s" },
};

const CLIENTS = 4;
const MAILS = 500;
const REPORTS_AT_ONCE = 16;
const TIMEOUT_MS = 120_000;
const HOOK = { webhook_username: "hook", webhook_password: "secret" };

type Ports = { readonly api: string; readonly smtpPort: number };
type Mailer = { readonly api: Api; readonly eventsUrl: string };

async function mailer(url: string, config: object, type: string): Promise<Mailer> {
  const api = await newApi(url);
  const about = { type, config, from_email: "shop@example.com" };
  const { events_url } = await api.call<{ events_url: string }>("PUT", `/email-providers/${type}`, about);
  return { api, eventsUrl: url + new URL(events_url ?? url).pathname };
}

const mailTo = (api: Api, round: number) =>
  api.call("POST", "/notifications", {
    ...{ type: "email", subject: "Your order", content: "<p>It is on its <b>way</b>.</p>" },
    to: Array.from({ length: MAILS }, (_, n) => ({ email: `jane-${round}-${n}@example.com` })),
  });

/** A notification to 500 people from each client; mails a second until the last has come. */
async function send(mailers: readonly Mailer[], receiver: BenchProcess, round: number): Promise<number> {
  const begun = performance.now();
  const count = mailers.length * MAILS;
  await Promise.all([
    receiver.call("receive", { count, timeoutMs: TIMEOUT_MS }),
    ...mailers.map(({ api }) => mailTo(api, round)),
  ]);
  return (count * 1_000) / (performance.now() - begun);
}

/** The ids of a client's last 500 mails. */
async function newestDeliveries(api: Api): Promise<readonly string[]> {
  type Page = { readonly data: readonly { readonly id: string }[]; readonly next_cursor: string | null };
  const ids: string[] = [];
  for (let cursor: string | null = ""; cursor !== null && ids.length < MAILS; ) {
    const more = cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const page: Page = await api.call("GET", `/deliveries?channel=email&limit=100${more}`);
    ids.push(...page.data.map(({ id }) => id));
    cursor = page.next_cursor;
  }
  if (ids.length !== MAILS) throw new Error(`${ids.length} deliveries, not ${MAILS}`);
  return ids;
}

/** Reports that mails were delivered, as Postmark posts them; how many a second of the server's processor time. */
async function reports(served: Served, { api, eventsUrl }: Mailer, receiver: BenchProcess, round: number) {
  await Promise.all([mailTo(api, round), receiver.call("receive", { count: MAILS, timeoutMs: TIMEOUT_MS })]);
  const ids = await newestDeliveries(api);
  const authorization = `Basic ${Buffer.from(`${HOOK.webhook_username}:${HOOK.webhook_password}`).toString("base64")}`;
  const before = await served.process.call<number>("cpuMs");
  const rest = ids.entries();
  const lane = async () => {
    for (const [n, delivery] of rest) {
      const body = JSON.stringify({
        ...{ RecordType: "Delivery", MessageID: `pm-${round}-${n}`, Recipient: `jane-${round}-${n}@example.com` },
        ...{ DeliveredAt: new Date().toISOString(), Metadata: { chatapi_delivery: delivery } },
      });
      const headers = { authorization, "content-type": "application/json" };
      const answer = await fetch(eventsUrl, { method: "POST", headers, body });
      const { recorded } = (await answer.json()) as { recorded: number };
      if (recorded !== 1) throw new Error(`a report was answered ${answer.status} and not recorded`);
    }
  };
  await Promise.all(Array.from({ length: REPORTS_AT_ONCE }, lane));
  return (ids.length * 1_000) / ((await served.process.call<number>("cpuMs")) - before);
}

export const mails: Subject = {
  name: "mails",
  about: "sending mails, and what providers report of them",
  goals: [byApi, bySmtp, report],
  async run({ rounds, turnMs, postgres }: Bench) {
    await using open = new AsyncDisposableStack();
    const database = open.use(await postgres.database());
    const served = open.use(await startServed({ databaseUrl: database.url, encryptionKey: newEncryptionKey() }));
    const receiver = open.use(startProcess(new URL("../processes/mail-receiver.ts", import.meta.url)));
    const ports = await receiver.call<Ports>("listen");
    const postmark = { base_url: ports.api, server_token: "token", ...HOOK };
    const smtp = { host: "127.0.0.1", port: ports.smtpPort, security: "none" };
    const of = (config: object, type: string) =>
      Promise.all(Array.from({ length: CLIENTS }, () => mailer(served.url, config, type)));
    const [apis, smtps] = [await of(postmark, "postmark"), await of(smtp, "smtp")];
    const [first] = apis;
    if (first === undefined) throw new Error("no client");

    const webhooks = open.use(startProcess(new URL("../processes/receiver.ts", import.meta.url)));
    const [host = ""] = await webhooks.call<readonly string[]>("listen", 1);
    const boss = await startBoss(postgres, open);
    const hooks = [{ url: host, body: JSON.stringify({ subject: "Your order" }) }];
    const names = { api: "Postmark's API, with every event", smtp: "SMTP, with every event", one: "pg-boss, one job" };
    const reportNames = "reports";
    let turns = 0;
    const next = () => (turns += 1);
    const reached = await interleave(
      [
        { name: names.one, turn: () => oneJobAtATime(boss, webhooks, turnMs, { hooks, count: CLIENTS * MAILS }) },
        { name: names.api, turn: () => send(apis, receiver, next()) },
        { name: names.smtp, turn: () => send(smtps, receiver, next()) },
        { name: reportNames, turn: () => reports(served, first, receiver, next()) },
      ],
      rounds,
    );
    return [
      ratioRow(byApi, reached, names.api, names.one),
      ratioRow(bySmtp, reached, names.smtp, names.one),
      rowOf(report, reached.get(reportNames) ?? [], {
        ours: `reports of ${MAILS} mails, ${REPORTS_AT_ONCE} requests at once`,
        baseline: "the server's process alone, with what its projections and PostgreSQL client cost it",
      }),
    ];
  },
};
