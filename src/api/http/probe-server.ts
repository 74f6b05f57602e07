// The HTTP server of a node without the role api: whether it is well, what it measures, and nothing else.
import type { IncomingMessage, Server } from "node:http";
import type { Services } from "../../app/services.ts";
import { PROBLEMS } from "../../contract/errors.ts";
import { operatorCheck } from "./admission.ts";
import { checkExpectation, createGuardedServer } from "./guarded-server.ts";
import { headersOfAll, requestId } from "./headers.ts";
import { HTTP_TIMINGS } from "./limits.ts";
import { createMetrics } from "./metrics.ts";
import { type Probes, probeRoutes } from "./probes.ts";
import { Problem, problemBody, toProblem } from "./problems.ts";
import { respond } from "./respond.ts";
import { findHandler, type SiteReply, wholeOf } from "./site.ts";
import { targetOf } from "./target.ts";

type Parts = Pick<Services, "config" | "logger" | "store" | "readSide" | "newId">;

/** `/livez`, `/readyz` and `/metrics` as on every node; all else is 404. Not listening yet. */
export function createProbeServer(parts: Parts, probes: Probes): Server {
  const { config, logger, newId } = parts;
  const metrics = createMetrics();
  const admission = { isOperator: operatorCheck(config) };
  const routes = probeRoutes(parts, { admission, metrics, probes });
  const base = config.publicUrl ?? "http://localhost";

  async function answer(request: IncomingMessage, id: string): Promise<SiteReply> {
    try {
      const target = targetOf(request);
      if (target === undefined) throw new Problem("malformed_request");
      checkExpectation(request);
      const { handler, steps } = findHandler(routes, request.method ?? "GET", target.path);
      return await handler({ request, steps, query: {} });
    } catch (error) {
      const known = toProblem(error);
      if (known === undefined) logger.error({ err: error, request_id: id }, "a request failed");
      const problem = known ?? new Problem("internal");
      const body = JSON.stringify(problemBody(problem, base, id));
      const type = "application/problem+json; charset=utf-8";
      return { status: PROBLEMS[problem.code].status, type, body, headers: problem.headers };
    }
  }

  return createGuardedServer({ config, newId, timings: HTTP_TIMINGS }, async (request, response) => {
    const id = requestId(request, newId);
    const whole = wholeOf(await answer(request, id));
    respond(request, response, { ...whole, headers: { ...whole.headers, ...headersOfAll(id) } });
  });
}
