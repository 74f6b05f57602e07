// All benchmarks, in the order of the table.
import type { Subject } from "./harness/subject.ts";
import { append } from "./subjects/append.ts";

export const subjects: readonly Subject[] = [append];
