// All mutations, and the table of them that the page for developers shows.
import { withPart } from "../../support/written-part.ts";
import { endpointMutations } from "./endpoints.ts";
import { feedbackMutations } from "./feedback.ts";
import { growingMutations } from "./growing.ts";
import { historyMutations } from "./history.ts";
import { holdingBackMutations } from "./holding-back.ts";
import { interfaceMutations } from "./interface.ts";
import { markerMutations } from "./markers.ts";
import { moderationMutations } from "./moderation.ts";
import type { Mutation } from "./mutation.ts";
import { responseMutations } from "./responses.ts";
import { rightsMutations } from "./rights.ts";
import { secretsMutations } from "./secrets.ts";
import { socketMutations } from "./sockets.ts";
import { storageMutations } from "./storage.ts";
import { tenantMutations } from "./tenants.ts";
import { timeMutations } from "./time.ts";
import { workMutations } from "./work.ts";

export const mutations: readonly Mutation[] = [
  ...storageMutations,
  ...workMutations,
  ...tenantMutations,
  ...interfaceMutations,
  ...responseMutations,
  ...growingMutations,
  ...rightsMutations,
  ...moderationMutations,
  ...historyMutations,
  ...markerMutations,
  ...secretsMutations,
  ...timeMutations,
  ...feedbackMutations,
  ...holdingBackMutations,
  ...socketMutations,
  ...endpointMutations,
];

/** As Markdown. */
export function tableOf(all: readonly Mutation[]): string {
  const rows = all.map(({ name, caughtBy, needs, ...one }) => {
    const condition = needs === undefined ? "" : ` (needs ${needs})`;
    const where = "file" in one ? one.file : [one, ...(one.also ?? [])].map(({ fence }) => fence).join("`, `");
    return `| ${name} (\`${where}\`) | \`test/${caughtBy.file}\`: ${caughtBy.test}${condition} |`;
  });
  return ["| Mutation | Test that caught it |", "| --- | --- |", ...rows].join("\n");
}

/** The page for developers with the table of all of them in its place. */
export const withTable = (page: string): string =>
  withPart(page, { part: "mutations", script: "test:mutations" }, tableOf(mutations));
