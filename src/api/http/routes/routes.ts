// The one list of routes: routing, checks, authorisation, OpenAPI and the tests' matrix come from it.
import type { Route } from "../route.ts";
import { auditRoutes } from "./audit.ts";
import { clientRoutes } from "./clients.ts";
import { deliveryRoutes } from "./deliveries.ts";
import { keyRoutes } from "./keys.ts";
import { memberRoutes } from "./members.ts";
import { messageRoutes } from "./messages.ts";
import { notificationRoutes } from "./notifications.ts";
import { providerRoutes } from "./providers.ts";
import { readRoutes } from "./reads.ts";
import { roomRoutes } from "./rooms.ts";
import { tokenRoutes } from "./tokens.ts";
import { userRoutes } from "./users.ts";

export const routes: readonly Route[] = [
  ...clientRoutes,
  ...keyRoutes,
  ...userRoutes,
  ...tokenRoutes,
  ...roomRoutes,
  ...memberRoutes,
  ...messageRoutes,
  ...readRoutes,
  ...notificationRoutes,
  ...deliveryRoutes,
  ...providerRoutes,
  ...auditRoutes,
];
