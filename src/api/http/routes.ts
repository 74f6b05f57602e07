// The one list of routes: routing, checks, authorisation, OpenAPI and the tests' matrix come from it.
import type { Route } from "./route.ts";
import { auditRoutes } from "./routes/audit.ts";
import { clientRoutes } from "./routes/clients.ts";
import { deliveryRoutes } from "./routes/deliveries.ts";
import { keyRoutes } from "./routes/keys.ts";
import { memberRoutes } from "./routes/members.ts";
import { messageRoutes } from "./routes/messages.ts";
import { notificationRoutes } from "./routes/notifications.ts";
import { providerRoutes } from "./routes/providers.ts";
import { readRoutes } from "./routes/reads.ts";
import { roomRoutes } from "./routes/rooms.ts";
import { tokenRoutes } from "./routes/tokens.ts";
import { userRoutes } from "./routes/users.ts";

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
