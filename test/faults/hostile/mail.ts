// Mails whose every field tries to end its header line: what arrives has the headers and the recipients that it should.
import { type Mailbox, startMailbox } from "../../../src/embedded/mailbox.ts";
import { type Api, type Body, mails, newClient, until } from "../../e2e/support/api.ts";
import { pick, type Random, seeded } from "../support/random.ts";
import type { HostileRun } from "./run.ts";
import { SOUND } from "./scene.ts";

/** Mails that are asked for, and then looked at, together. */
const BATCH = 25;
const VICTIM = "victim@evil.example";
const ENDS = [
  ...[
    "\r\n",
    "\n",
    "\r",
    "\r\n ",
    "\n\t",
    "\u0085",
    "\u2028",
    "\u2029",
    "\u000b",
    "\u000c",
    "\0",
    "\r\n\r\n",
    "\u0000\r\n",
  ],
  ...["%0d%0a", "=0D=0A", "\\r\\n", "=?utf-8?Q?=0D=0A?=", "=?utf-8?B?DQo=?=", "\ud800", "嘊嘍", " ".repeat(900)],
];
const NEXT = [
  ...[
    `Bcc: ${VICTIM}`,
    `To: ${VICTIM}`,
    "X-Injected: 1",
    `Cc: <${VICTIM}>`,
    "Content-Type: text/html",
    "Subject: other",
  ],
  ...[`.\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<${VICTIM}>\r\nDATA\r\nX: y\r\n.\r\n`, `.\nRSET\n`, `RCPT TO:<${VICTIM}>`],
  ...[
    `, ${VICTIM}`,
    `; ${VICTIM}`,
    `> , <${VICTIM}>`,
    `" <${VICTIM}>, "`,
    `(${VICTIM})`,
    `:${VICTIM};`,
    "x".repeat(1_200),
  ],
];
const HEADERS = [
  ...["from", "to", "cc", "reply-to", "subject", "message-id", "date", "mime-version", "content-type"],
  ...["content-transfer-encoding", "auto-submitted", "x-chatapi-delivery"],
];

type Mail = { readonly addresses: readonly string[]; readonly raw: string };
/** Where a client's mails arrive. */
type Box = () => Promise<readonly Mail[]>;

const evil = (random: Random, before: string): string => `${before}${pick(random, ENDS)}${pick(random, NEXT)}`;

const addressesOf = ({ to, cc, bcc }: Body): readonly string[] =>
  [...to, ...cc, ...bcc].map(({ address }) => address).toSorted();

const ownBox =
  (mailbox: Mailbox): Box =>
  async () =>
    mailbox.list().map((mail) => ({
      addresses: addressesOf(mail),
      raw: Buffer.from(mailbox.raw(mail.id) ?? "").toString("latin1"),
    }));

const developmentBox =
  (url: string): Box =>
  async () =>
    Promise.all(
      (await mails(url)).map(async (mail) => ({
        addresses: addressesOf(mail),
        raw: await (await fetch(`${url}/dev/mailbox/${mail.id}/raw`)).text(),
      })),
    );

/** A mail that would be right, with some of its fields evil. */
function notification(random: Random, nth: number): Body {
  const to = `m${nth}@example.com`;
  const copies = random.below(3) === 0 ? { cc: [`c${nth}@example.com`], bcc: [`b${nth}@example.com`] } : {};
  const person = random.below(2) === 0 ? { to_email: to } : { to: [{ email: to, name: evil(random, "Ann") }] };
  const mail = { type: "email", ...person, subject: "Hello", content: "Hello", ...copies, meta: { nth } };
  const fallback = { to_email: to, subject: evil(random, "Hello"), after_seconds: 1 };
  return pick(random, [
    () => mail,
    () => ({ ...mail, subject: evil(random, "Hello") }),
    () => ({ ...mail, content: evil(random, "Hello"), text: evil(random, "Hello") }),
    () => ({ ...mail, to_email: evil(random, to), to: undefined }),
    () => ({ ...mail, to: [{ email: evil(random, to), name: "Ann" }], to_email: undefined }),
    () => ({ ...mail, reply_to: evil(random, "r@example.com") }),
    () => ({ ...mail, cc: [evil(random, "c@example.com")] }),
    () => ({ ...mail, bcc: evil(random, "b@example.com") }),
    () => ({ type: "websocket", user_ids: [`u${nth}`], content: "Hello", email_fallback: fallback, meta: { nth } }),
    () => ({
      type: "websocket",
      user_ids: [`u${nth}`],
      content: "Hello",
      email_fallback: { ...fallback, subject: null },
      meta: { nth },
    }),
    () => ({
      type: "websocket",
      user_ids: [`u${nth}`],
      content: "Hello",
      email_fallback: { ...fallback, to_email: evil(random, to) },
      meta: { nth },
    }),
  ])();
}

/** Whom the mail of a notification that was taken goes to. */
function expected({ type, to_email, to, cc, bcc, email_fallback }: Body): readonly string[] {
  if (type === "websocket") return [email_fallback.to_email];
  return [to_email ?? to[0].email, ...[cc ?? []].flat(), ...[bcc ?? []].flat()].toSorted();
}

/** In words, what is wrong with a mail as it arrived. */
function mailFaults({ addresses, raw }: Mail, wanted: readonly string[]): readonly string[] {
  const [head = ""] = raw.split("\r\n\r\n", 1);
  const faults = addresses.join() === wanted.join() ? [] : [`went to ${addresses}, not ${wanted}`];
  if (/\r(?!\n)|(?<!\r)\n|\0/.test(head)) faults.push("a bare end of line in its headers");
  const names = head
    .replaceAll(/\r\n[ \t]+/g, " ")
    .split("\r\n")
    .map((line) => line.slice(0, line.indexOf(":")).toLowerCase());
  const others = names.filter((name, index) => !HEADERS.includes(name) || names.indexOf(name) !== index);
  if (others.length > 0) faults.push(`has the headers ${others}`);
  return faults;
}

/** Gives the client a name and a provider that are evil where they may be. */
async function setEvil(run: HostileRun, random: Random, api: Api, mailbox: Mailbox | undefined): Promise<void> {
  const named = await api.patch("/clients/me", { name: evil(random, "App").slice(0, 200) });
  run.answers.add(named.status);
  if (mailbox === undefined) return;
  const config = { host: mailbox.host, port: mailbox.port, security: "none" };
  const sound = { type: "smtp", config, from_email: "app@example.com" };
  const odd = pick(random, [
    { from_name: evil(random, "App") },
    { from_email: evil(random, "app@example.com") },
    { reply_to: evil(random, "r@example.com") },
    { config: { ...config, username: evil(random, "u"), password: evil(random, "p") } },
    { from_name: 'A "quoted" <name>, \\ and: more; (comment)' },
  ]);
  const { status } = await api.put("/email-providers/evil", { ...sound, ...odd });
  run.answers.add(status);
  run.kinds.add("mail: provider");
  if (status >= 300) await api.put("/email-providers/evil", sound);
}

/** Asks for so many mails, and looks at each that was taken as it arrives. */
export async function sendMails(run: HostileRun, seed: number, count: number): Promise<void> {
  await using mailbox = await startMailbox({ log: () => {} });
  for (let begin = 0; begin < count && !run.full; begin += BATCH) {
    const random = seeded(seed + begin * 49_979_687);
    const isOwn = random.below(2) === 0;
    const api = await newClient(run.url, "My App", { "x-request-id": SOUND });
    await setEvil(run, random, api, isOwn ? mailbox : undefined);
    const box = isOwn ? ownBox(mailbox) : developmentBox(run.url);
    if (isOwn) mailbox.clear();
    else await fetch(`${run.url}/dev/mailbox`, { method: "DELETE" });
    await sendBatch(run, random, { api, box, begin, count: Math.min(BATCH, count - begin) });
  }
  await run.look();
}

type Sending = { readonly api: Api; readonly box: Box; readonly begin: number; readonly count: number };

async function sendBatch(run: HostileRun, random: Random, { api, box, begin, count }: Sending): Promise<void> {
  const taken = new Map<string, Body>();
  for (let nth = begin; nth < begin + count; nth += 1) {
    const asked = notification(random, nth);
    const { status, body } = await api.post("/notifications", asked);
    run.kinds.add(`mail: ${asked.type}`);
    run.answers.add(status);
    const isRight = status === 202 || (status === 422 && body.code === "validation_failed");
    if (!isRight) run.fault(`mail ${JSON.stringify(asked)}`, `${status} ${JSON.stringify(body)}`);
    if (status === 202) taken.set(body.id, asked);
  }
  const arrived = await until(box, (all) => all.length >= taken.size, 60_000);
  const deliveries = new Map<string, Body>();
  for (const [id, asked] of taken) {
    const { body } = await api.get(`/notifications/${id}`);
    for (const delivery of body.deliveries) if (delivery.channel === "email") deliveries.set(delivery.id, asked);
  }
  if (arrived.length !== taken.size) run.fault("mails", `${arrived.length} came of ${taken.size}`);
  for (const mail of arrived) {
    const id = /^X-ChatAPI-Delivery: (\S+)\r$/m.exec(mail.raw)?.[1] ?? "none";
    const asked = deliveries.get(id);
    if (asked === undefined) run.fault("a mail", `of no delivery that was asked for: ${mail.raw.slice(0, 500)}`);
    else run.fault(`mail ${JSON.stringify(asked)}`, ...mailFaults(mail, expected(asked)));
  }
}
