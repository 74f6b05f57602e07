// Where each event is, by client, type, actor and time, and by the idempotency key of its command. Holds no content.
import { sql } from "kysely";
import type { ClientId, MessageId, NotificationId } from "../../contract/ids.ts";
import type { Instant } from "../../contract/time.ts";
import type { Actor } from "../../domain/decider.ts";
import { DELIVERY_STREAMS, type DeliveryEvent } from "../../domain/delivery-state.ts";
import { notificationStream } from "../../domain/notification.ts";
import type { Position } from "../../event-store/event-store.ts";
import type { OlderCommands } from "../../event-store/stream-writer.ts";
import { bigint, change, type EventFacts, integer, projection, put, type RowOf, text, upsert } from "../projection.ts";
import { anyOf, first, type OperatorRead, type ReadAs } from "../read-as.ts";
import type { ReadSide } from "../read-side.ts";
import { deliveries } from "./deliveries.ts";

/** The events by which a message has another content, or none. */
export const VERSIONS = [
  "MessagePosted",
  "MessageCompleted",
  "MessageCancelled",
  "MessageEdited",
  "MessageDeleted",
  "MessageRestored",
] as const;
const VERSIONS_SQL = `(${VERSIONS.map((type) => `'${type}'`).join(", ")})`;

const columns = {
  client: text<ClientId>(),
  position: text<Position>(),
  id: text(),
  type: text(),
  stream: text(),
  revision: integer(),
  at: bigint(),
  actor_type: text<Actor["type"]>(),
  actor_id: text(),
  correlation: text(),
  causation: text(),
  /** The message that was posted, changed or reacted to. */
  message: text<MessageId>({ nullable: true }),
};
export type AuditRow = RowOf<typeof columns>;

export const audit = projection({
  name: "audit",
  version: 5,
  key: ["client", "position"],
  columns,
  indexes: [
    "(client, type, position)",
    "(stream, position)",
    "(client, correlation, position)",
    "(client, actor_id, position)",
    "(client, message, position) where message is not null",
    `(client, message, position) where type in ${VERSIONS_SQL}`,
  ],
  personal: [],
  each: ({ id, type, stream, revision, position, meta }) => {
    const { client, at, actor, correlation, causation } = meta;
    const facts = { id, type, stream, revision, at, correlation, causation, message: null };
    return client === null ? [] : [put([client, position], { ...facts, actor_type: actor.type, actor_id: actor.id })];
  },
  on: {
    MessagePosted: (e) => aboutMessage(e),
    MessageCompleted: (e) => aboutMessage(e),
    MessageCancelled: (e) => aboutMessage(e),
    MessageEdited: (e) => aboutMessage(e),
    MessageDeleted: (e) => aboutMessage(e),
    MessageRestored: (e) => aboutMessage(e),
    ReactionAdded: (e) => aboutMessage(e),
    ReactionRemoved: (e) => aboutMessage(e),
  },
});

/** Completes the row that `each` has just put. */
const aboutMessage = ({ meta, position, data }: EventFacts & { readonly data: { readonly id: MessageId } }) =>
  meta.client === null
    ? []
    : [change<AuditRow, AuditRow>([meta.client, position], (row) => ({ ...row, message: data.id }))];

type AuditList = {
  types?: readonly string[];
  after?: Position;
  /** `from` inclusive and `to` exclusive. */
  from?: Instant;
  to?: Instant;
  /** The ids of keys, subjects, or what else acted; any of them. */
  actor?: string | readonly string[];
  /** Of any of these requests. */
  correlation?: readonly string[];
  /** In any of these streams. */
  streams?: readonly string[];
  /** Posting or changing the message. */
  message?: MessageId;
  /** Of the notification or its deliveries. */
  notification?: NotificationId;
  /** Acting, or in the stream of its own. */
  user?: { readonly subject: string; readonly stream: string };
  limit: number;
};

/** The position of the client's newest event before a time; null without one. */
export async function lastBefore(read: ReadAs, at: Instant): Promise<Position | null> {
  const query = read.over({ a: audit }).selectFrom("a").select("position").where("at", "<", at);
  return first(await read.rows(query.orderBy("position", "desc").limit(1)))?.position ?? null;
}

/** Events of some types after a position, counted to `max`, and the time of the first. */
export async function countAfter(read: ReadAs, types: readonly string[], after: Position, max: number) {
  const query = read
    .over({ a: audit })
    .selectFrom((eb) =>
      eb
        .selectFrom("a")
        .select("a.at")
        .where(anyOf("a.type", types))
        .where("a.position", ">", after)
        .orderBy("a.position")
        .limit(max)
        .as("later"),
    )
    .select([sql<number>`count(*)::int`.as("count"), sql<Instant | null>`min(later.at)`.as("first_at")]);
  return first(await read.rows(query)) ?? { count: 0, first_at: null };
}

/**
 * Events of some types, of all streams or of some, oldest first. Each type, or each stream, is read from its own index, so
 * that a page costs the same however many others there are.
 */
export function auditOfTypes(
  read: ReadAs,
  { types = [], streams, after, limit }: Pick<AuditList, "types" | "streams" | "after" | "limit">,
): Promise<readonly AuditRow[]> {
  const [column, values] = streams === undefined ? (["a.type", types] as const) : (["a.stream", streams] as const);
  return read.rows(
    read
      .over({ a: audit })
      .selectFrom(sql<{ value: string }>`unnest(${[...new Set(values)]}::text[])`.as<"one">(sql`one(value)`))
      .innerJoinLateral(
        (eb) => {
          let query = eb.selectFrom("a").selectAll("a").whereRef(column, "=", "one.value");
          if (streams !== undefined) query = query.where(anyOf("a.type", types));
          if (after !== undefined) query = query.where("a.position", ">", after);
          return query.orderBy("a.position").limit(limit).as("found");
        },
        (join) => join.onTrue(),
      )
      .selectAll("found")
      .orderBy("found.position")
      .limit(limit),
  );
}

/** Oldest first; the next page is what comes after the last row's position. */
export function auditPage(read: ReadAs, list: AuditList): Promise<readonly AuditRow[]> {
  const { types, after, from, to, limit } = list;
  const actors = typeof list.actor === "string" ? [list.actor] : list.actor;
  const { correlation, streams, message, notification, user } = list;
  let query = read.over({ a: audit, d: deliveries }).selectFrom("a").selectAll("a").orderBy("a.position").limit(limit);
  if (correlation !== undefined) query = query.where(anyOf("correlation", correlation));
  if (streams !== undefined) query = query.where(anyOf("stream", streams));
  if (message !== undefined) query = query.where("message", "=", message);
  if (notification !== undefined) query = query.where(sql<boolean>`a.stream = any${streamsOf(notification)}`);
  if (user !== undefined)
    query = query.where(sql<boolean>`(a.actor_id = ${user.subject} or a.stream = ${user.stream})`);
  if (after !== undefined) query = query.where("position", ">", after);
  if (types !== undefined) query = query.where(anyOf("type", types));
  if (from !== undefined) query = query.where("at", ">=", from);
  if (to !== undefined) query = query.where("at", "<", to);
  if (actors !== undefined) query = query.where(anyOf("actor_id", actors));
  return read.rows(query);
}

/**
 * Posting, edits, deletions and restorings of a message after a position, oldest first, each with the revision of the
 * event that held the content then.
 */
export const versionsOf = (read: ReadAs, message: MessageId, list: { after?: Position; limit: number }) =>
  read.rows(
    read
      .over({ a: audit })
      .selectFrom((eb) =>
        eb
          .selectFrom("a")
          .selectAll("a")
          .select(
            sql<number>`max(a.revision)
              filter (where a.type in ('MessagePosted', 'MessageCompleted', 'MessageCancelled', 'MessageEdited'))
              over (order by a.position)`.as("content_revision"),
          )
          .where("a.message", "=", message)
          .where(sql<boolean>`a.type in ${sql.raw(VERSIONS_SQL)}`)
          .as("v"),
      )
      .selectAll("v")
      .where((eb) => (list.after === undefined ? eb.lit(true) : eb("v.position", ">", list.after)))
      .orderBy("v.position")
      .limit(list.limit),
  );

/** The streams of a notification and of its deliveries, as a subquery. */
const streamsOf = (id: NotificationId) => sql<string>`(
  select ${notificationStream(id)} union all select ${DELIVERY_STREAMS} || d.id from d where d.notification_id = ${id})`;

const eventsOfDeliveries = (read: ReadAs, id: NotificationId, upTo: Position) =>
  read
    .over({ a: audit, d: deliveries })
    .selectFrom("d")
    .innerJoin("a", (join) => join.on(sql<boolean>`a.stream = ${DELIVERY_STREAMS} || d.id`))
    .where("d.notification_id", "=", id)
    .where("a.position", "<=", upTo);

/** The deliveries that a notification had at a position, first made first, with the types of their events until then. */
export const deliveriesAt = (read: ReadAs, id: NotificationId, upTo: Position) =>
  read.rows(
    eventsOfDeliveries(read, id, upTo)
      .select(["d.id", "d.channel", "d.mail"])
      .select((eb) => eb.fn.max("a.at").as("last_at"))
      .select((eb) => eb.fn.max("a.revision").as("revision"))
      .select(sql<readonly DeliveryEvent["type"][]>`array_agg(a.type order by a.position)`.as("types"))
      .groupBy(["d.id", "d.channel", "d.mail"])
      .orderBy((eb) => eb.fn.min("a.position")),
  );

/** The newest redrive of each delivery of a notification, up to a position. */
export const redrivesUpTo = (read: ReadAs, id: NotificationId, upTo: Position): Promise<readonly AuditRow[]> =>
  read.rows(
    eventsOfDeliveries(read, id, upTo)
      .distinctOn("a.stream")
      .selectAll("a")
      .where("a.type", "=", "DeliveryRedriven")
      .orderBy("a.stream")
      .orderBy("a.position", "desc"),
  );

/** How long a command's answer waits for the read model that knows older commands. */
const OLDER_COMMANDS_WAIT_MS = 5_000;

const commandColumns = {
  command: text(),
  stream: text(),
  client: text<ClientId>(),
  /** Revisions, both inclusive. */
  first: integer(),
  last: integer(),
  fingerprint: text(),
};
type CommandRow = RowOf<typeof commandColumns>;

export const commandIds = projection({
  name: "command_ids",
  version: 1,
  // A command may write to several streams; a row is one stream's part of it.
  key: ["command", "stream"],
  columns: commandColumns,
  indexes: [],
  personal: [],
  each: ({ stream, revision, meta }) => {
    const { command, fingerprint } = meta;
    if (fingerprint === undefined) return [];
    return [upsert([command, stream], (row) => ({ fingerprint, first: row?.first ?? revision, last: revision }))];
  },
  on: {},
});

/** Everything that a command wrote, by stream. Says nothing of events after the checkpoint. */
export const writtenBy = (read: ReadAs, command: string): Promise<readonly CommandRow[]> =>
  read.rows(read.over({ c: commandIds }).selectFrom("c").selectAll().where("command", "=", command).orderBy("stream"));

/** What a command wrote to a stream; without a stream, to any one. Says nothing of events after the checkpoint. */
async function findCommand(operator: OperatorRead, command: string, stream?: string): Promise<CommandRow | undefined> {
  let query = operator.over({ c: commandIds }).selectFrom("c").selectAll().where("command", "=", command);
  query = stream === undefined ? query.orderBy("stream").limit(1) : query.where("stream", "=", stream);
  return first(await operator.rows(query));
}

/**
 * Where commands are found that a stream's state has forgotten: only once the read model has come as far as the newest
 * forgotten one, for until then it could miss it.
 */
export function olderCommandsOf(readSide: Pick<ReadSide, "waitFor" | "operator">): OlderCommands {
  return async (commandId, { idempotencyWindow: { forgotten } }, stream) => {
    if (forgotten === null) return undefined;
    if (!(await readSide.waitFor(forgotten, OLDER_COMMANDS_WAIT_MS))) {
      throw new Error("the read model that knows older commands is behind");
    }
    const found = await findCommand(readSide.operator(), commandId, stream);
    return found === undefined ? undefined : { first: found.first, last: found.last, fingerprint: found.fingerprint };
  };
}
