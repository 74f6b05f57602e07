// Every stored read model: one group with one checkpoint.

import type { Projection } from "../projection.ts";
import { apiKeys } from "./api-keys.ts";
import { audit, commandIds } from "./audit.ts";
import { attempts, deliveries } from "./deliveries.ts";
import { messages } from "./messages.ts";
import { notifications, recipients } from "./notifications.ts";
import { reads } from "./reads.ts";
import { members, rooms } from "./rooms.ts";
import { users } from "./users.ts";

export const storedProjections: readonly Projection[] = [
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
