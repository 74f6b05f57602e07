// Every stored read model: one group with one checkpoint.

import type { Projection } from "../projection.ts";
import { audit, commandIds } from "./audit.ts";
import { apiKeys, clients } from "./clients.ts";
import { attempts, deliveries } from "./deliveries.ts";
import { messages } from "./messages.ts";
import { notifications, recipients } from "./notifications.ts";
import { reads } from "./reads.ts";
import { members, rooms } from "./rooms.ts";
import { users } from "./users.ts";

export const storedProjections: readonly Projection[] = [
  clients,
  apiKeys,
  users,
  rooms,
  members,
  messages,
  reads,
  notifications,
  recipients,
  deliveries,
  attempts,
  audit,
  commandIds,
];
