// A server's inside without its API, for the workers' tests: log, keys, read models, channels and workers, all real.
import { randomUUID } from "node:crypto";
import { pino } from "pino";
import { Positions } from "../../src/app/positions.ts";
import { createEmailChannel } from "../../src/channels/email/channel.ts";
import { createAddressGuard } from "../../src/channels/guard.ts";
import { createWebhookChannel } from "../../src/channels/webhook.ts";
import type { ClientId, DeliveryId, NotificationId, Subject } from "../../src/contract/ids.ts";
import { DAY_MS } from "../../src/contract/time.ts";
import { clientDecider, clientStream } from "../../src/domain/client.ts";
import { type DeliveryCommand, deliveryDecider } from "../../src/domain/delivery.ts";
import { deliveryStream } from "../../src/domain/delivery-state.ts";
import { seal } from "../../src/domain/event.ts";
import {
  type NotificationCommand,
  type NotificationData,
  notificationDecider,
  notificationStream,
  WITHOUT_OPTIONS,
} from "../../src/domain/notification.ts";
import { NO_OPTIONS } from "../../src/domain/provider.ts";
import { userDecider, userStream } from "../../src/domain/user.ts";
import { type Mailbox, startMailbox } from "../../src/embedded/mailbox.ts";
import { deriveTail } from "../../src/event-store/derived-ids.ts";
import type { CommandContext, StoredEvent } from "../../src/event-store/envelope.ts";
import type { EventStore } from "../../src/event-store/event-store.ts";
import { Commands, readDecoded } from "../../src/event-store/handle-command.ts";
import { openKeyring, type PostgresKeyring } from "../../src/event-store/keyring.ts";
import { openPostgresLog } from "../../src/event-store/postgres/log.ts";
import { storedProjections } from "../../src/projections/models/all.ts";
import { openReadSide, type ReadSide } from "../../src/projections/read-side.ts";
import { startWorkers, type WorkerLimits, type Workers } from "../../src/workers/workers.ts";
import { databaseWithTables } from "../support/database-with-tables.ts";
import type { TestDatabase } from "../support/postgres.ts";

export const SECRET = `whsec_${Buffer.alloc(24, 7).toString("base64")}`;
const logger = pino({ level: process.env.TEST_LOG_LEVEL ?? "silent" });

export type WorldOptions = {
  readonly scheduleMs?: readonly number[];
  readonly limits?: Partial<WorkerLimits>;
  readonly withMailbox?: boolean;
  readonly startWorkers?: boolean;
  readonly now?: () => number;
};

/** Everything that a test of the workers touches. */
export class World implements AsyncDisposable {
  readonly database: TestDatabase;
  readonly store: EventStore;
  readonly keyring: PostgresKeyring;
  readonly mailbox: Mailbox;
  commands: Commands;
  readSide: ReadSide;
  readonly #stack: AsyncDisposableStack;
  readonly #options: WorldOptions;
  #workers: Workers | undefined;

  constructor(parts: Parts, stack: AsyncDisposableStack, options: WorldOptions) {
    this.database = parts.database;
    this.store = parts.store;
    this.keyring = parts.keyring;
    this.mailbox = parts.mailbox;
    this.commands = parts.commands;
    this.readSide = parts.readSide;
    this.#stack = stack;
    this.#options = options;
  }

  /** Everything but the log and the keys begins again, without what another process would not know. Workers are off. */
  async restart(...drop: readonly ("jobs" | "read")[]): Promise<void> {
    await this.stopWorkers();
    await this.readSide[Symbol.asyncDispose]();
    for (const schema of drop) await this.database.pool.query(`drop schema ${schema} cascade`);
    this.commands = this.elsewhere();
    this.readSide = await openReadSide({
      ...{ pool: this.database.pool, store: this.store, keyring: this.keyring },
      ...{ logger, projections: storedProjections },
    });
    await this.readSide.start();
  }

  get workers(): Workers {
    if (this.#workers === undefined) throw new Error("the workers are not running");
    return this.#workers;
  }

  /** Starts workers like a process would; those before are stopped. */
  async startWorkers(limits: Partial<WorkerLimits> = {}): Promise<void> {
    await this.stopWorkers();
    this.#workers = await this.#start(this.commands, limits);
  }

  /** Another process's commands: what these write, this one's do not know. */
  elsewhere(): Commands {
    return commandsOf(this.store, this.keyring);
  }

  /** Workers beside those of this process, with states of their own in memory. */
  anotherProcess(): Promise<Workers> {
    return this.#start(this.elsewhere(), {});
  }

  async #start(commands: Commands, limits: Partial<WorkerLimits>): Promise<Workers> {
    const { store, keyring, readSide, mailbox } = this;
    const guard = createAddressGuard({ allow: [], allowLoopback: true });
    const { scheduleMs = [50, 50], withMailbox = true, now = Date.now } = this.#options;
    await using opened = new AsyncDisposableStack();
    const webhook = opened.use(createWebhookChannel({ guard, attemptTimeoutMs: 1_000 }));
    const email = opened.use(createEmailChannel({ guard }));
    const workers = opened.use(
      await startWorkers({
        pool: this.database.pool,
        ...{ store, keyring, commands, readSide, webhook, email, logger },
        positions: new Positions({ secret: new Uint8Array(32), store }),
        mailbox: withMailbox ? mailbox : null,
        retryPolicy: { scheduleMs, jitter: 0 },
        now,
        random: Math.random,
        newId: randomUUID,
        limits: { graceMs: 300, ...this.#options.limits, ...limits },
      }),
    );
    const all = opened.move();
    return {
      status: () => workers.status(),
      waiting: () => workers.waiting(),
      [Symbol.asyncDispose]: () => all.disposeAsync(),
    };
  }

  async stopWorkers(): Promise<void> {
    await this.#workers?.[Symbol.asyncDispose]();
    this.#workers = undefined;
  }

  context(client: ClientId | null): CommandContext {
    const actor = { type: "key", id: "key_test" } as const;
    return { client, actor, commandId: randomUUID(), correlation: `req-${randomUUID()}`, causation: randomUUID() };
  }

  async client(name = "Shop", smtp?: { readonly host: string; readonly port: number }): Promise<ClientId> {
    const client: ClientId = `cli_${deriveTail("client", randomUUID())}`;
    const key = { id: `key_${deriveTail("key", client)}`, name: "default", hash: "00", last4: "0000" } as const;
    const register = {
      type: "Register",
      at: Date.now(),
      client,
      name,
      description: null,
      key,
      webhookSecret: SECRET,
    } as const;
    await this.commands.execute(clientDecider, clientStream(client), register, this.context(client));
    if (smtp !== undefined) {
      const config = { ...smtp, username: null, password: null, security: "none", dkim: null } as const;
      const options = NO_OPTIONS;
      const settings = {
        client,
        name: "smtp",
        type: "smtp",
        fromEmail: "shop@example.com",
        fromName: null,
        replyTo: null,
      } as const;
      const provider = {
        ...settings,
        fromDomains: [],
        config,
        useFor: ["single" as const, "bulk" as const],
        order: 0,
        options,
      };
      const command = { type: "SetProvider", at: Date.now(), provider } as const;
      await this.commands.execute(clientDecider, clientStream(client), command, this.context(client));
    }
    return client;
  }

  async user(client: ClientId, user: string, email: string | null = null): Promise<Subject> {
    const subject = await this.keyring.subjectOfUser(client, user);
    const profile = { name: null, email, timezone: null, meta: {} };
    const command = { type: "Put", at: Date.now(), subject, user, profile } as const;
    await this.commands.execute(userDecider, userStream(subject), command, this.context(client));
    return subject;
  }

  /** Requests a notification as the API does; `to` are addresses, or user ids on a websocket. */
  async notify(
    client: ClientId,
    channel: NotificationData["channel"],
    to: readonly string[],
    more: Partial<NotificationData> = {},
  ): Promise<NotificationId> {
    const id: NotificationId = `ntf_${deriveTail("notification", randomUUID())}`;
    const subjectOf = (address: string) =>
      channel === "websocket"
        ? this.keyring.subjectOfUser(client, address)
        : this.keyring.subjectOfAddress(client, address);
    const recipients = await Promise.all(
      to.map(async (address) => ({
        subject: await subjectOf(address),
        address: seal(address),
        name: null,
        user: null,
      })),
    );
    const content = { subject: seal("News"), content: seal("Hello"), text: null, meta: seal({ a: 1 }) };
    const at = Date.now();
    const common = {
      client,
      channel,
      roomId: null,
      recipients,
      audience: null,
      contentType: null,
      ...WITHOUT_OPTIONS,
      replyTo: null,
      fallback: null,
    };
    const rest = {
      contentKey: id,
      cc: seal([]),
      bcc: seal([]),
      priority: "normal",
      sendAt: null,
      expiresAt: at + 7 * DAY_MS,
    } as const;
    const data: NotificationData = { ...common, ...content, ...rest, ...more };
    await this.onNotification(client, id, { type: "Request", at, data });
    return id;
  }

  onNotification(client: ClientId, id: NotificationId, command: NotificationCommand) {
    return this.commands.execute(notificationDecider, notificationStream(id), command, this.context(client));
  }
  onDelivery(client: ClientId, id: DeliveryId, command: DeliveryCommand) {
    return this.commands.execute(deliveryDecider, deliveryStream(id), command, this.context(client));
  }
  async notification(id: NotificationId) {
    const { state } = await this.commands.load(notificationDecider, notificationStream(id));
    if (state.status === "none") throw new Error(`no notification ${id}`);
    return state;
  }
  async delivery(id: DeliveryId) {
    return (await this.commands.load(deliveryDecider, deliveryStream(id))).state;
  }
  /** Everything that happened to a delivery. */
  events(id: DeliveryId): Promise<readonly StoredEvent[]> {
    return readDecoded(this, deliveryStream(id), { limit: 1_000 });
  }
  async types(id: DeliveryId): Promise<readonly string[]> {
    return (await this.events(id)).map((event) => event.type);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopWorkers();
    await this.readSide[Symbol.asyncDispose]();
    await this.#stack.disposeAsync();
  }
}

type Parts = Pick<World, "database" | "store" | "keyring" | "commands" | "readSide" | "mailbox">;

const commandsOf = (store: EventStore, keyring: PostgresKeyring): Commands =>
  new Commands({
    ...{ store, keyring, snapshots: undefined, olderCommands: undefined },
    warn: (error, message) => logger.warn({ err: error }, message),
  });

export async function openWorld(options: WorldOptions = {}): Promise<World> {
  await using opening = new AsyncDisposableStack();
  const database = opening.use(await databaseWithTables());
  const { pool, url } = database;
  const keyring = await openKeyring({ pool, encryptionKeys: [Buffer.alloc(32, 1).toString("base64")] });
  const store = await keyring.trust(opening.use(await openPostgresLog({ url, logger })));
  const commands = commandsOf(store, keyring);
  const mailbox = opening.use(await startMailbox({ log: () => {} }));
  const readSide = await openReadSide({ pool, store, keyring, logger, projections: storedProjections });
  await readSide.start();
  const parts = { database, store, keyring, commands, readSide, mailbox };
  const world = new World(parts, opening.move(), options);
  if (options.startWorkers !== false) await world.startWorkers();
  return world;
}
