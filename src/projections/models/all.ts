// Every stored read model: one group with one checkpoint.

import type { Projection } from "../projection.ts";
import { apiKeys } from "./api-keys.ts";
import { attempts } from "./attempts.ts";
import { audit } from "./audit.ts";
import { clients } from "./clients.ts";
import { commandIds } from "./command-ids.ts";
import { deliveries } from "./deliveries.ts";
import { members } from "./members.ts";
import { messages } from "./messages.ts";
import { notifications } from "./notifications.ts";
import { reads } from "./reads.ts";
import { recipients } from "./recipients.ts";
import { rooms } from "./rooms.ts";
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
