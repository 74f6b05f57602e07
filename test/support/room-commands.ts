// What happens in rooms, said in short, for tests of what is shown of it.

import type { ClientId, RoomId } from "../../src/contract/ids.ts";
import type { Role } from "../../src/contract/rooms.ts";
import { DomainError } from "../../src/domain/decider.ts";
import { type RoomCommand, roomDecider, roomStream } from "../../src/domain/room.ts";
import { type CommandParts, contextOf } from "./live.ts";

type WithoutTime<C> = C extends unknown ? Omit<C, "at"> : never;
const KEY = { type: "key", id: "key_1" } as const;

/** Runs commands on one room, as the client's key. */
export function roomCommands(parts: CommandParts, client: ClientId, room: RoomId) {
  const run = async (command: WithoutTime<RoomCommand>): Promise<number> => {
    // The time is all that was left out.
    const timed = { ...command, at: Date.now() } as RoomCommand;
    const { events, state } = await parts.commands.execute(roomDecider, roomStream(room), timed, contextOf(client));
    const last = events.at(-1);
    if (last === undefined) throw new DomainError("not_found", `nothing happened in ${JSON.stringify(state)}`);
    return last.revision + 1;
  };
  return {
    run,
    async setMember(user: string, role: Role | null = null, name: string | null = null): Promise<number> {
      const subject = await parts.keyring.subjectOfUser(client, user);
      const open = name === null ? null : { open: name };
      const member = { subject, user: { open: user }, name: open, meta: { open: {} } };
      return run({ type: "SetMember", actor: KEY, member, role });
    },
    async remove(user: string, self = false): Promise<number> {
      const subject = await parts.keyring.subjectOfUser(client, user);
      const actor = self ? ({ type: "user", id: subject } as const) : KEY;
      return run({ type: "RemoveMember", actor, subject, user });
    },
    edit: (id: string, content: string) =>
      run({ type: "Edit", room, actor: KEY, id, content, meta: null, ifMatch: null }),
    delete: (id: string) => run({ type: "DeleteMessage", room, actor: KEY, id, ifMatch: null }),
    restore: (id: string) => run({ type: "RestoreMessage", room, actor: KEY, id, ifMatch: null }),
    rename: (name: string) => run({ type: "Update", actor: KEY, changes: { name }, ifMatch: null }),
    deactivate: () => run({ type: "Deactivate", actor: KEY, ifMatch: null }),
    deleteRoom: () => run({ type: "Delete", actor: KEY, ifMatch: null }),
  };
}
