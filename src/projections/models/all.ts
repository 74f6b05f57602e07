// Every stored read model: one group with one checkpoint.

import type { Projection } from "../projection.ts";
import { apiKeys } from "./api-keys.ts";
import { attempts } from "./attempts.ts";
import { audit, commandIds } from "./audit.ts";
import { bans } from "./bans.ts";
import { deletions } from "./deletions.ts";
import { deliveries } from "./deliveries.ts";
import { deliverySums } from "./delivery-sums.ts";
import { endpointHealth, endpoints } from "./endpoints.ts";
import { inbox, inboxMarks } from "./inbox.ts";
import { inboxBlocks } from "./inbox-list.ts";
import { mentions } from "./mentions.ts";
import { messageSearch } from "./message-search.ts";
import { messages } from "./messages.ts";
import { notifications, recipients } from "./notifications.ts";
import { preferences } from "./preferences.ts";
import { reactionCounts, reactions } from "./reactions.ts";
import { reads } from "./reads.ts";
import { redrives } from "./redrives.ts";
import { roomSearch } from "./room-search.ts";
import { members, rooms } from "./rooms.ts";
import { scheduledMessages } from "./scheduled-messages.ts";
import { suppressions } from "./suppressions.ts";
import { threadParticipants, threads } from "./threads.ts";
import { userEvents } from "./user-events.ts";
import { users } from "./users.ts";

export const storedProjections: readonly Projection[] = [
  apiKeys,
  users,
  preferences,
  rooms,
  roomSearch,
  members,
  bans,
  messages,
  messageSearch,
  deletions,
  mentions,
  threads,
  threadParticipants,
  reactions,
  reactionCounts,
  reads,
  scheduledMessages,
  notifications,
  recipients,
  deliveries,
  deliverySums,
  attempts,
  redrives,
  suppressions,
  inbox,
  inboxMarks,
  inboxBlocks,
  endpoints,
  endpointHealth,
  audit,
  userEvents,
  commandIds,
];
