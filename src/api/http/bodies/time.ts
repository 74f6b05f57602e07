// Times and free JSON as answers show them.
import { z } from "zod";
import type { Instant } from "../../../domain/time.ts";

export const TimeBody = z.iso.datetime().describe("RFC 3339, UTC, with milliseconds");

/** RFC 3339 in UTC with milliseconds. */
export const timeOf = (instant: Instant): string => new Date(instant).toISOString();
/** As `timeOf`; null when there is none. */
export const timeOrNull = (instant: Instant | null): string | null => (instant === null ? null : timeOf(instant));

/** The caller's own JSON object. */
export const MetaBody = z.record(z.string(), z.unknown());
