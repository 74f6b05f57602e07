// Who types: on two nodes, on a clock that the test moves.
import { expect, test } from "vitest";
import { Typing } from "../../../src/api/realtime/typing.ts";
import { SignalHub } from "../../support/signals.ts";

const ann = { room: "room_1", subject: "sub_ann", userId: "ann" } as const;

function nodes(...names: string[]) {
  const hub = new SignalHub();
  let now = 0;
  const seen: string[] = [];
  const all = names.map(
    (node) =>
      new Typing({
        bus: hub.node(node),
        clock: () => now,
        publish: (room, bytes, except) => {
          const { user_id, active } = JSON.parse(bytes.toString());
          seen.push(`${node} ${room} ${user_id} ${active} not ${except}`);
        },
      }),
  );
  const pass = (ms: number) => {
    for (const end = now + ms; now < end; now += 500) for (const one of all) one.tick();
  };
  return { hub, all, seen, pass };
}
const began = ["a room_1 ann true not sub_ann", "b room_1 ann true not sub_ann"];
const over = began.map((one) => one.replace("true", "false"));

test("it is told on every node, and over after 6 s in which it was not said again", () => {
  const { all, seen, pass } = nodes("a", "b");
  all[0]?.set({ ...ann, connection: "c1", active: true });
  expect(seen).toEqual(began);
  pass(5_000);
  all[0]?.set({ ...ann, connection: "c1", active: true });
  pass(5_000);
  expect(seen.filter((one) => one.includes("false"))).toEqual([]);
  pass(2_000);
  expect(seen.slice(-2).toSorted()).toEqual(over);
});

test("said again at once it is told once; ended by its user it is over at once", () => {
  const { all, seen } = nodes("a", "b");
  for (let n = 0; n < 50; n += 1) all[0]?.set({ ...ann, connection: "c1", active: true });
  expect(seen).toEqual(began);
  all[0]?.set({ ...ann, connection: "c1", active: false });
  all[0]?.set({ ...ann, connection: "c1", active: false });
  expect(seen.slice(2)).toEqual(over);
});

test("it ends with the socket, in each of its rooms", () => {
  const { all, seen } = nodes("a", "b");
  all[0]?.set({ ...ann, connection: "c1", active: true });
  all[0]?.set({ ...ann, room: "room_2", connection: "c1", active: true });
  all[0]?.end("c1");
  all[0]?.end("c1");
  expect(seen.filter((one) => one.includes("false"))).toHaveLength(4);
});

test("who types on two devices types until neither does", () => {
  const { all, seen, pass } = nodes("a", "b");
  all[0]?.set({ ...ann, connection: "c1", active: true });
  pass(4_000);
  all[1]?.set({ ...ann, connection: "c2", active: true });
  all[0]?.end("c1");
  expect(seen.filter((one) => one.includes("false"))).toEqual([]);
  all[1]?.end("c2");
  expect(seen.slice(-2).toSorted()).toEqual(over);
});

test("who types on two devices of one node types on the others until neither does", () => {
  const { all, seen, pass } = nodes("a", "b");
  all[0]?.set({ ...ann, connection: "c1", active: true });
  pass(1_000);
  all[0]?.set({ ...ann, connection: "c2", active: true });
  all[0]?.end("c1");
  expect(seen).toEqual(began);
  all[0]?.end("c2");
  expect(seen.slice(2)).toEqual(over);
});

test("a node that is killed leaves nobody typing", () => {
  const { hub, all, seen, pass } = nodes("a", "b");
  all[0]?.set({ ...ann, connection: "c1", active: true });
  hub.cut.add("a");
  pass(7_000);
  expect(seen).toContain("b room_1 ann false not sub_ann");
});

test("one connection types in at most 20 rooms: the first of more is over", () => {
  const { all, seen } = nodes("a");
  for (let n = 0; n < 21; n += 1) all[0]?.set({ ...ann, room: `room_${n}`, connection: "c1", active: true });
  expect(seen.filter((one) => one.includes("false"))).toEqual(["a room_0 ann false not sub_ann"]);
});
