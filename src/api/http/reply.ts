// Answers: what handlers return, in the words of the interface.
import type { Position } from "../../event-store/event-store.ts";
import type { Page } from "../../projections/page.ts";
import type { Handling, Reply } from "./route.ts";

/** What an answer says beside its body. `replayed` and `position` come from the command's outcome. */
type About = {
  readonly position?: Position;
  readonly etag?: number;
  readonly replayed?: boolean;
  /** A path, from `/api/v1` on. */
  readonly location?: string;
};

/** 200 with the object. */
export const ok = (body: unknown, about: About = {}): Reply => ({ status: 200, body, ...about });
/** 201 with the new object and where it is. */
export const created = (body: unknown, location: string, about: About = {}): Reply => ({
  status: 201,
  body,
  location: `/api/v1${location}`,
  ...about,
});
/** 202: the work is in the log, and queued. */
export const accepted = (body: unknown, about: About = {}): Reply => ({ status: 202, body, ...about });
/** 204 after a deletion. */
export const noContent = (about: About = {}): Reply => ({ status: 204, ...about });

type ListReply<T> = Reply & { readonly body: { readonly data: readonly T[]; readonly next_cursor: string | null } };

/** 200 with a page of a list. */
export const listReply = <T>(
  { cursorFor }: Pick<Handling<undefined, undefined, undefined>, "cursorFor">,
  { rows, next }: Page<T>,
): ListReply<T> => ({ status: 200, body: { data: rows, next_cursor: next === null ? null : cursorFor(next) } });
