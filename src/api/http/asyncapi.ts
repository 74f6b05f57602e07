// The AsyncAPI document of the WebSocket, made from the very schemas that check the client's frames and type the server's.
import { z } from "zod";
import manifest from "../../../package.json" with { type: "json" };
import { CLOSE_REASONS, CLOSE_REMEDIES, type CloseCode, PROBLEMS, SOCKET_ERRORS } from "../../contract/errors.ts";
import { CLIENT_FRAME_DOCS, type ClientFrameDoc, SERVER_FRAME_DOCS } from "../../contract/frame-docs.ts";
import { CLIENT_FRAMES, ServerFrameSchema, scopeOfFrame } from "../../contract/frames.ts";
import { dataForUsers, PERSONAL_EVENTS, PUBLIC_EVENTS } from "../../contract/public-events.ts";
import { RESOURCE_EXAMPLES } from "../../contract/resource-examples.ts";
import { Components } from "./openapi.ts";

type Json = Record<string, unknown>;

/** Where sockets are opened. */
const SOCKET_PATH = "/ws";
/** Where the server is when nothing says so: what it listens on by default. */
const DEFAULT_URL = "http://localhost:8000";

/** One frame: its message's id in the document, the schema of its payload, and what is said of it. */
type Message = {
  readonly id: string;
  readonly type: string;
  readonly title: string;
  readonly description: string;
  readonly schema: z.ZodType;
  readonly io: "input" | "output";
  /** Undefined: one is made from the schema. */
  readonly example: unknown;
};

const clientMessages: readonly Message[] = Object.entries(CLIENT_FRAMES).map(([type, schema]) => {
  const { summary: title, description, example } = clientDocOf(type);
  return { id: `client.${type}`, type, title, description, schema, io: "input", example };
});

const SOCKET_EVENTS = { ...PUBLIC_EVENTS, ...PERSONAL_EVENTS };

/** Each kind of event is a message of its own, with its `data`. */
const serverMessages: readonly Message[] = ServerFrameSchema.options.flatMap((schema): readonly Message[] => {
  const { value: type } = schema.shape.type;
  if (!("event" in schema.shape)) {
    const { description = `The frame \`${type}\`.`, example } = SERVER_FRAME_DOCS[type] ?? {};
    return [{ id: `server.${type}`, type, title: type, description, schema, io: "output", example }];
  }
  return schema.shape.event.options.map((event) => ({
    ...{ id: `event.${event}`, type, title: event, io: "output", example: undefined },
    description: SOCKET_EVENTS[event].meaning,
    schema: z.strictObject({ ...schema.shape, event: z.literal(event), data: dataForUsers(event) }),
  }));
});

function clientDocOf(type: string): Omit<ClientFrameDoc, "example"> & { readonly example?: object } {
  return CLIENT_FRAME_DOCS[type] ?? { summary: type, description: `The frame \`${type}\`.`, answers: ["ok"] };
}

/** Makes the document. `publicUrl`: where the server is reached. */
export function asyncApiDocument(publicUrl: string | undefined): Json {
  const components = new Components("draft-7");
  const messages = Object.fromEntries(
    [...clientMessages, ...serverMessages].map((one) => [one.id, messageOf(one, components)]),
  );
  const { host, protocol, pathname } = new URL(publicUrl ?? DEFAULT_URL);
  const secure = protocol === "https:";
  return {
    asyncapi: "3.1.0",
    info: {
      title: "ChatAPI WebSocket",
      version: manifest.version,
      description:
        "One socket carries everything of one user: the rooms that it subscribes to, and its notifications. Clients ignore types and members that they do not know: more will come. Requests are in `/openapi.json`.",
      license: { name: manifest.license },
    },
    defaultContentType: "application/json",
    servers: {
      default: {
        ...{ host, protocol: secure ? "wss" : "ws" },
        ...(pathname === "/" ? {} : { pathname: pathname.replace(/\/$/, "") }),
        description: publicUrl === undefined ? "A server with no `PUBLIC_URL`." : "This server.",
        security: ["bearer", "token"].map((name) => ({ $ref: `#/components/securitySchemes/${name}` })),
      },
    },
    channels: { socket: channelOf(Object.keys(messages)) },
    operations: { ...Object.fromEntries(Object.keys(CLIENT_FRAMES).map((type) => [type, received(type)])), push: PUSH },
    components: {
      schemas: components.schemas,
      messages,
      securitySchemes: {
        bearer: {
          ...{ type: "http", scheme: "bearer" },
          description:
            "A user's token, or an API key: with `user_id` in the query as that user, without as an observer.",
        },
        token: {
          ...{ type: "httpApiKey", name: "token", in: "query" },
          description: "A user's token, for browsers. A first frame `auth` will do as well.",
        },
      },
    },
  };
}

function messageOf({ type, title, description, schema, io, example }: Message, components: Components): Json {
  const payload = components.of(schema, io);
  const shown = example ?? sampleOf(payload, components.schemas);
  const codes = type === "error" && io === "output" ? { "x-error-codes": ERROR_CODES } : {};
  return { name: type, title, description, payload, examples: [{ name: type, payload: shown }], ...codes };
}

const channelOf = (ids: readonly string[]): Json => ({
  address: SOCKET_PATH,
  title: "The socket",
  description: `Frames are JSON objects, one a message, of at most 256 KiB from the client. A client's frame may carry \`ref\`, which its answer repeats. The server closes with these codes; below 4500 reconnect and resume, from 4500 on do not:\n\n${CLOSE_CODES.map(({ code, reason, remedy }) => `- ${code} ${reason}: ${remedy}`).join("\n")}\n\nFaults of the protocol itself close as RFC 6455 says: 1002, 1007, 1008, 1009.`,
  servers: [{ $ref: "#/servers/default" }],
  messages: Object.fromEntries(ids.map((id) => [id, { $ref: `#/components/messages/${id}` }])),
  bindings: {
    ws: {
      method: "GET",
      query: {
        type: "object",
        properties: {
          token: { type: "string", description: "A user's token" },
          ticket: { type: "string", description: "A ticket of `POST /tickets`, in place of a token or key" },
          user_id: { type: "string", description: "With an API key in the header: the user that it acts as" },
        },
      },
      bindingVersion: "0.1.0",
    },
  },
  "x-close-codes": CLOSE_CODES,
});

const CLOSE_CODES = entriesOf(CLOSE_REASONS).map(([code, reason]) => ({
  ...{ code: Number(code), reason, remedy: CLOSE_REMEDIES[Number(code) as CloseCode] },
  reconnect: Number(code) < 4_500,
}));

const ERROR_CODES = {
  ...Object.fromEntries(entriesOf(PROBLEMS).map(([code, { meaning }]) => [code, meaning])),
  ...SOCKET_ERRORS,
};

const SOCKET = { $ref: "#/channels/socket" };
const inChannel = (id: string): Json => ({ $ref: `#/channels/socket/messages/${id}` });
const idsOf = (type: string): readonly string[] =>
  serverMessages.filter((one) => one.type === type).map(({ id }) => id);

/** What the server does with a frame of the client. */
function received(type: string): Json {
  const { summary, description, answers } = clientDocOf(type);
  const scope = scopeOfFrame(type);
  return {
    ...{ action: "receive", channel: SOCKET, summary, description, messages: [inChannel(`client.${type}`)] },
    ...(scope === null ? {} : { "x-scope": scope }),
    reply: { channel: SOCKET, messages: [...answers, "error"].flatMap(idsOf).map(inChannel) },
  };
}

const PUSH = {
  ...{ action: "send", channel: SOCKET, summary: "Send a frame to the client" },
  description: "Answers, events of rooms that the socket subscribes to, and what is for its user.",
  messages: serverMessages.map(({ id }) => inChannel(id)),
};

/** What an example shows of members without a named schema: as elsewhere in the story. */
const STORY: Json = Object.assign(
  {},
  ...["Room", "Ban", "Reaction", "Member", "Message"].map((name) => RESOURCE_EXAMPLES[name]),
  { actor: { type: "user", id: "alice" }, at: "2026-03-02T09:31:12.480Z", deleted_at: "2026-03-02T09:31:12.480Z" },
  {
    id: "evt_5f0c3b1e8a545d0c9c1b1d2f3a4b5c6d",
    message_id: "msg_01kjx9d2pz5y2b7h0000005",
    position: "Zm9yLXRoZS1leGFtcGxlLQ",
  },
);

/** An example that a schema takes, of its required members: that of a named resource, else put together from those of its parts. */
function sampleOf(schema: Json, named: Json, member?: string): unknown {
  const { $ref, const: constant, enum: values, properties, required, items, anyOf, allOf, oneOf } = schema;
  if (typeof $ref === "string") {
    const name = $ref.split("/").at(-1) ?? "";
    return RESOURCE_EXAMPLES[name] ?? sampleOf(named[name] as Json, named, member);
  }
  if (constant !== undefined) return constant;
  if (Array.isArray(values)) return values[0];
  if (member !== undefined && member in STORY) return STORY[member];
  const [alternative] = [anyOf, oneOf, allOf].flatMap((some) => (Array.isArray(some) ? some : []));
  if (alternative !== undefined) return sampleOf(alternative, named);
  if (typeof properties === "object" && properties !== null) {
    const wanted = new Set(Array.isArray(required) ? required : []);
    const shown = Object.entries(properties).filter(([name]) => wanted.has(name));
    return Object.fromEntries(shown.map(([name, one]) => [name, sampleOf(one, named, name)]));
  }
  if (schema.type === "array") return [sampleOf((items ?? {}) as Json, named)];
  if (schema.type === "string") return "text";
  if (schema.type === "boolean") return true;
  return schema.type === "integer" || schema.type === "number" ? 1 : {};
}

function entriesOf<K extends string | number, V>(of: Readonly<Record<K, V>>): readonly [K, V][] {
  return Object.entries(of) as [K, V][];
}
