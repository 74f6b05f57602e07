// The one list of routes: routing, checks, authorisation, OpenAPI and the tests' matrix come from it.
import type { NamedRoute } from "../route.ts";
import { auditRoutes } from "./audit.ts";
import { clientRoutes } from "./clients.ts";
import { deliveryRoutes } from "./deliveries.ts";
import { endpointRoutes } from "./endpoints.ts";
import { eventRoutes } from "./events.ts";
import { inboxRoutes } from "./inbox.ts";
import { messageRoutes } from "./messages.ts";
import { notificationRoutes } from "./notifications.ts";
import { providerRoutes } from "./providers.ts";
import { roomRoutes } from "./rooms.ts";
import { scheduledMessageRoutes } from "./scheduled-messages.ts";
import { suppressionRoutes } from "./suppressions.ts";
import { userRoutes } from "./users.ts";

export const routes: readonly NamedRoute[] = [
  ...clientRoutes,
  ...userRoutes,
  ...roomRoutes,
  ...messageRoutes,
  ...scheduledMessageRoutes,
  // Before notifications: `analytics` is no id.
  ...deliveryRoutes,
  ...notificationRoutes,
  ...inboxRoutes,
  ...providerRoutes,
  ...suppressionRoutes,
  ...endpointRoutes,
  ...eventRoutes,
  ...auditRoutes,
];
