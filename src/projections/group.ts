// The stored read models: one group, one checkpoint.
import { apiKeys } from "./models/api-keys.ts";
import { attempts } from "./models/attempts.ts";
import { audit } from "./models/audit.ts";
import { clients } from "./models/clients.ts";
import { commandIds } from "./models/command-ids.ts";
import { deliveries } from "./models/deliveries.ts";
import { members } from "./models/members.ts";
import { messages } from "./models/messages.ts";
import { notifications } from "./models/notifications.ts";
import { reads } from "./models/reads.ts";
import { recipients } from "./models/recipients.ts";
import { rooms } from "./models/rooms.ts";
import { users } from "./models/users.ts";
import type { Projection } from "./projection.ts";

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
