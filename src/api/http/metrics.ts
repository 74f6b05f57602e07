// What is measured of HTTP, and where other parts add theirs. No label names a client, a user or an address.
import { Counter, collectDefaultMetrics, Histogram, Registry } from "prom-client";

const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export type HttpMetrics = {
  /** All metrics of the process. */
  readonly registry: Registry;
  /** Notes an answered request; `path` is the route's own, with its parameters' names. */
  observe(method: string, path: string, status: number, seconds: number): void;
};

export function createMetrics(registry: Registry = new Registry()): HttpMetrics {
  collectDefaultMetrics({ register: registry });
  const labelNames = ["method", "path"] as const;
  const durations = new Histogram({
    name: "chatapi_http_request_duration_seconds",
    help: "From a request's headers to its answer.",
    labelNames,
    buckets: BUCKETS,
    registers: [registry],
  });
  const requests = new Counter({
    name: "chatapi_http_requests_total",
    help: "Answered requests.",
    labelNames: [...labelNames, "status"] as const,
    registers: [registry],
  });
  // Looking up a child by its labels costs more than counting; there are as many as routes and statuses.
  const children = new Map<string, { observe(seconds: number): void; count(): void }>();

  function childOf(method: string, path: string, status: number) {
    const name = `${method} ${path} ${status}`;
    const known = children.get(name);
    if (known !== undefined) return known;
    const duration = durations.labels(method, path);
    const total = requests.labels(method, path, String(status));
    const child = { observe: (seconds: number) => duration.observe(seconds), count: () => total.inc() };
    children.set(name, child);
    return child;
  }

  return {
    registry,
    observe(method, path, status, seconds) {
      const child = childOf(method, path, status);
      child.observe(seconds);
      child.count();
    },
  };
}
