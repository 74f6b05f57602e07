// Commands that were sent under an idempotency key: where their events stand, for when a stream's state has forgotten.
import type { ClientId } from "../../contract/ids.ts";
import type { OlderCommands } from "../../event-store/stream-writer.ts";
import { integer, projection, type RowOf, text, upsert } from "../projection.ts";
import { first, type OperatorRead } from "../read-as.ts";
import type { ReadSide } from "../read-side.ts";
import { sql } from "../sql.ts";

/** How long a command's answer waits for the read model that knows older commands. */
const OLDER_COMMANDS_WAIT_MS = 5_000;

const columns = {
  command: text(),
  stream: text(),
  client: text<ClientId>(),
  /** Revisions, both inclusive. */
  first: integer(),
  last: integer(),
  fingerprint: text(),
};
export type CommandRow = RowOf<typeof columns>;

export const commandIds = projection({
  name: "command_ids",
  version: 1,
  // A command may write to several streams; a row is one stream's part of it.
  key: ["command", "stream"],
  columns,
  indexes: [],
  personal: [],
  each: ({ stream, revision, meta }) => {
    const { client, command, fingerprint } = meta;
    if (client === null || fingerprint === undefined) return [];
    return [
      upsert([command, stream], (row) => ({ client, fingerprint, first: row?.first ?? revision, last: revision })),
    ];
  },
  on: {},
});

/** What a command wrote to a stream; without a stream, to any one. Says nothing of events after the checkpoint. */
export const findCommand = async (
  operator: OperatorRead,
  command: string,
  stream?: string,
): Promise<CommandRow | undefined> =>
  first(
    await operator.rows<CommandRow>(
      stream === undefined
        ? sql`select * from ${commandIds} c where command = ${command} order by stream limit 1`
        : sql`select * from ${commandIds} c where command = ${command} and stream = ${stream}`,
    ),
  );

/**
 * Where commands are found that a stream's state has forgotten: only once the read model has come as far as the newest
 * forgotten one, for until then it could miss it.
 */
export function olderCommandsOf(readSide: Pick<ReadSide, "waitFor" | "operator">): OlderCommands {
  return async (commandId, { idempotencyWindow: { forgotten } }, stream) => {
    if (forgotten === null) return undefined;
    if (!(await readSide.waitFor(forgotten, OLDER_COMMANDS_WAIT_MS))) {
      throw new Error("the read model that knows older commands is behind");
    }
    const found = await findCommand(readSide.operator(), commandId, stream);
    return found === undefined ? undefined : { first: found.first, last: found.last, fingerprint: found.fingerprint };
  };
}
