// All benchmarks, in the order of the table.
import type { Subject } from "./harness/subject.ts";
import { append } from "./subjects/append.ts";
import { endpoints, hangingEndpoint, idleEndpoints } from "./subjects/endpoints.ts";
import { eventStoreDb } from "./subjects/event-store-db.ts";
import { eventStores } from "./subjects/event-stores.ts";
import { hotRoom, http, visibility } from "./subjects/http.ts";
import { httpEventStoreDb } from "./subjects/http-event-store-db.ts";
import { idle } from "./subjects/idle.ts";
import { largeInbox } from "./subjects/large-inbox.ts";
import { reading, roomLoading, start } from "./subjects/large-log.ts";
import { macs } from "./subjects/macs.ts";
import { mails } from "./subjects/mails.ts";
import { manyRooms } from "./subjects/many-rooms.ts";
import { postLatency } from "./subjects/post-latency.ts";
import { processes } from "./subjects/processes.ts";
import { projections } from "./subjects/projections.ts";
import { search } from "./subjects/search.ts";
import { socketPosts } from "./subjects/socket-posts.ts";
import { broadcast, following, socketMemory, typing } from "./subjects/sockets.ts";
import { standstills } from "./subjects/standstills.ts";
import { unequalWriters } from "./subjects/unequal-writers.ts";
import { webhooks } from "./subjects/webhooks.ts";

export const subjects: readonly Subject[] = [
  append,
  eventStores,
  eventStoreDb,
  http,
  postLatency,
  socketPosts,
  processes,
  visibility,
  hotRoom,
  httpEventStoreDb,
  projections,
  webhooks,
  endpoints,
  hangingEndpoint,
  idleEndpoints,
  mails,
  broadcast,
  following,
  typing,
  socketMemory,
  manyRooms,
  roomLoading,
  reading,
  largeInbox,
  search,
  start,
  idle,
  unequalWriters,
  standstills,
  macs,
];
