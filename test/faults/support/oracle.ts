// What must hold after any number of deaths: the clients' own history, and what receivers got, against the log.
import type { Body } from "../../e2e/support/api.ts";
import type { Write, WriteKind } from "./history.ts";

/** An event as the log holds it. */
export type Logged = {
  readonly position: string;
  readonly stream: string;
  readonly revision: number;
  readonly id: string;
  readonly type: string;
  /** The X-Request-Id that led to it. */
  readonly correlation: string;
  readonly data: Body;
};

export type Evidence = {
  readonly writes: readonly Write[];
  readonly log: readonly Logged[];
  /** By the notification's content, which is the write's key: the webhook-ids of every request that came. */
  readonly webhooks: ReadonlyMap<string, readonly string[]>;
  readonly mails: readonly { readonly messageId: string; readonly delivery: string }[];
  readonly listeners: readonly {
    readonly user: string;
    readonly seqs: ReadonlyMap<string, readonly number[]>;
    readonly acknowledged: ReadonlySet<string>;
    readonly sent: ReadonlySet<string>;
  }[];
  /** Contents of all messages as a client reads them, null when deleted, by id. */
  readonly contents: ReadonlyMap<string, string | null>;
};

/** In words, all that does not hold. */
export const faultsOf = (evidence: Evidence): readonly string[] => [
  ...logFaults(evidence),
  ...writeFaults(evidence),
  ...contentFaults(evidence),
  ...listenerFaults(evidence),
  ...deliveryFaults(evidence),
];

const by = (log: readonly Logged[], key: "stream" | "correlation") => Map.groupBy(log, (event) => event[key]);

/** Positions only grow, the revisions of a stream have no gap, no event is there twice. */
function* logFaults({ log }: Evidence): Generator<string> {
  const next = new Map<string, number>();
  const ids = new Set<string>();
  let last = "";
  for (const { position, stream, revision, id } of log) {
    if (position <= last) yield `position ${position} comes after ${last}`;
    last = position;
    const wanted = next.get(stream) ?? 0;
    if (revision !== wanted) yield `${stream} has revision ${revision} in place of ${wanted}`;
    next.set(stream, revision + 1);
    if (ids.has(id)) yield `event ${id} is there twice`;
    ids.add(id);
  }
}

const TYPES: Readonly<Record<WriteKind, readonly string[]>> = {
  post: ["MessagePosted"],
  edit: ["MessageEdited"],
  delete: ["MessageDeleted"],
  notify: ["NotificationRequested"],
  cancel: ["NotificationCancelled", "NotificationStopRequested"],
};
const ASKED_FOR = new Set(Object.values(TYPES).flat());

const roomIn = (path: string): string => /^\/rooms\/([^/]+)\//.exec(path)?.[1] ?? "";
const streamOf = ({ kind, path, answer }: Write): string => {
  if (kind === "notify") return `notification-${answer?.body.id}`;
  if (kind === "cancel") return `notification-${/^\/notifications\/([^/]+)/.exec(path)?.[1]}`;
  return `room-${roomIn(path)}`;
};

/** Every answered write is in the log exactly once, where its answer says; one without an answer at most once. */
function* writeFaults({ writes, log }: Evidence): Generator<string> {
  const byCorrelation = by(log, "correlation");
  for (const write of writes) {
    const { key, kind, answer } = write;
    const found = (byCorrelation.get(key) ?? []).filter(({ type }) => TYPES[kind].includes(type));
    const done = answer !== undefined && answer.status < 300;
    if (answer === undefined) {
      if (found.length > 1) yield `${kind} ${key} has no answer and is there ${found.length} times`;
    } else if (found.length !== (done ? 1 : 0)) {
      yield `${kind} ${key} was answered with ${answer.status} and is there ${found.length} times`;
    }
    const [event] = found;
    if (!done || event === undefined) continue;
    if (event.stream !== streamOf(write)) yield `${kind} ${key} is in ${event.stream}, not in ${streamOf(write)}`;
    const { body, position } = answer;
    if (kind === "post" && event.revision + 1 !== body.seq) yield `post ${key}: seq ${body.seq} at ${event.revision}`;
    if (position === null) yield `${kind} ${key}: answered without a position`;
  }
  const keys = new Set(writes.map(({ key }) => key));
  for (const { type, correlation, stream } of log) {
    if (ASKED_FOR.has(type) && !keys.has(correlation)) yield `${type} in ${stream} was asked for by nobody`;
  }
}

/** Messages read as their writers left them. */
function* contentFaults({ writes, contents }: Evidence): Generator<string> {
  const wanted = new Map<string, string | null | undefined>();
  for (const { kind, path, body, answer } of writes) {
    const changed = path.split("/").at(-1) ?? "";
    if (kind === "post" && answer?.status === 201) wanted.set(answer.body.id, body.content);
    else if (kind === "edit") wanted.set(changed, answer === undefined ? undefined : body.content);
    else if (kind === "delete") wanted.set(changed, answer === undefined ? undefined : null);
  }
  for (const [id, content] of wanted) {
    const read = contents.get(id);
    if (read === undefined) yield `message ${id} is not to be read`;
    else if (content !== undefined && read !== content) yield `message ${id} reads ${read} in place of ${content}`;
  }
}

/** Each socket saw every seq of its rooms once and in order; what it was told to be acknowledged is so, once. */
function* listenerFaults({ listeners, log }: Evidence): Generator<string> {
  const streams = by(log, "stream");
  for (const { user, seqs, acknowledged } of listeners) {
    for (const [room, seen] of seqs) {
      const head = streams.get(`room-${room}`)?.length ?? 0;
      const at = seen.findIndex((seq, index) => seq !== index + 1);
      if (at !== -1) yield `${user} saw ${seen[at]} in place of ${at + 1} in ${room}`;
      else if (seen.length !== head) yield `${user} saw ${room} up to ${seen.length} of ${head}`;
    }
    for (const id of acknowledged) {
      const there = (streams.get(`delivery-${id}`) ?? []).filter(({ type }) => type === "DeliveryAcknowledged").length;
      if (there !== 1) yield `${user} acknowledged ${id}, which is there ${there} times`;
    }
  }
  const sent = new Set(listeners.flatMap((one) => [...one.sent]));
  for (const { type, stream } of log) {
    const isAck = type === "DeliveryAcknowledged";
    if (isAck && !sent.has(stream.slice("delivery-".length))) yield `${stream} was acknowledged by nobody`;
  }
}

const ENDS = new Set(["sent", "delivered", "fell_back", "exhausted", "bounced", "cancelled", "suppressed", "expired"]);

/** Every delivery that a client was told of ended; what came, came as often as it was attempted at most, under one id. */
function* deliveryFaults({ writes, log, webhooks, mails }: Evidence): Generator<string> {
  const deliveries = new Map([...by(log, "stream")].filter(([stream]) => stream.startsWith("delivery-")));
  const mailsBy = Map.groupBy(mails, (mail) => mail.delivery);
  const webhookIds = new Map([...webhooks.values()].flatMap((ids) => [...Map.groupBy(ids, (id) => id)]));
  for (const [key, ids] of webhooks) {
    if (new Set(ids).size > 1) yield `webhook ${key} came under ${[...new Set(ids)].join(", ")}`;
  }
  for (const [delivery, came] of mailsBy) {
    const ids = new Set(came.map((mail) => mail.messageId));
    if (ids.size > 1) yield `mail ${delivery} came under ${[...ids].join(", ")}`;
  }
  for (const id of [...webhookIds.keys(), ...mailsBy.keys()]) {
    if (!deliveries.has(`delivery-${id}`)) yield `${id} came, and is in no log`;
  }
  const cancelled = new Set(
    writes.flatMap((one) => (one.kind === "cancel" && one.answer?.status === 200 ? streamOf(one) : [])),
  );
  for (const write of writes) {
    if (write.kind !== "notify" || write.answer?.status !== 202) continue;
    for (const { id } of write.answer.body.deliveries) {
      const isThere = deliveries.has(`delivery-${id}`);
      if (!isThere && !cancelled.has(streamOf(write))) yield `delivery ${id} of ${write.key} was never made`;
    }
  }
  for (const [stream, events] of deliveries) {
    const id = stream.slice("delivery-".length);
    const { status, channel, attempts, mail } = delivered(events);
    if (!ENDS.has(status)) yield `delivery ${id} is ${status}`;
    const came = (webhookIds.get(id) ?? mailsBy.get(id) ?? []).length;
    if (came > attempts) yield `delivery ${id} came ${came} times in ${attempts} attempts`;
    if (channel !== "websocket" && (status === "sent" || status === "delivered") && came === 0)
      yield `delivery ${id} is ${status} and never came`;
    if (status === "fell_back" && !deliveries.has(`delivery-${mail}`)) yield `delivery ${id} fell back to no mail`;
  }
}

/** A delivery as its events tell it. */
function delivered(events: readonly Logged[]) {
  const requested = events.filter(({ type }) => type === "DeliveryRequested");
  return {
    status: String(events.at(-1)?.data.to),
    channel: String(requested[0]?.data.channel),
    attempts: events.filter(({ type }) => type === "DeliveryAttemptStarted").length,
    mail: events.find(({ type }) => type === "DeliveryFallbackRequested")?.data.mail,
  };
}
