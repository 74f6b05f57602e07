// What a request is for: the path and query of its first line, and the host that it is meant for.
import type { IncomingMessage } from "node:http";

type Target = {
  /** Percent-encoded, as it was sent. */
  readonly path: string;
  /** The query with its question mark, or nothing. */
  readonly search: string;
  /** Of several `Host` lines all, which is no host. */
  readonly host: string | undefined;
};

const ORIGIN_FORM = /^([/*][^?#]*)(\?[^#]*)?/;

/** Of a target with a host of its own that host counts, and not the header's (RFC 9112). Undefined for what is no target. */
export function targetOf({
  url = "",
  headers: { host },
}: Pick<IncomingMessage, "url" | "headers">): Target | undefined {
  const [, path, search = ""] = ORIGIN_FORM.exec(url) ?? [];
  if (path !== undefined) return { path, search, host };
  const absolute = URL.parse(url);
  if (absolute === null || !/^https?:$/.test(absolute.protocol)) return undefined;
  return { path: absolute.pathname, search: absolute.search, /* fence: target-host */ host: absolute.host };
}

/** What a step of a path stands for; a plus is a plus there. One that cannot be decoded stays as it is. */
export function decodeStep(step: string): string {
  try {
    return decodeURIComponent(step);
  } catch {
    return step;
  }
}
