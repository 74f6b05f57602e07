// Who is online, as nodes tell each other of it, on a clock that the test moves.
import { expect, test } from "vitest";
import { type Person, Presence } from "../../src/app/presence.ts";
import { SignalHub } from "../support/signals.ts";

const T0 = Date.parse("2026-01-01T00:00:00Z");
const ann: Person = { client: "cli_1", subject: "sub_ann", userId: "ann" };

/** Nodes on one clock; `pass` lets so many seconds go by, ticking each second. */
function cluster(...names: string[]) {
  const hub = new SignalHub();
  let seconds = 0;
  const changes: string[] = [];
  const nodes = names.map((node) => {
    const presence = new Presence({
      ...{ node, bus: hub.node(node) },
      now: () => T0 + seconds * 1_000,
      clock: () => seconds * 1_000,
    });
    presence.onChange((people) => {
      for (const { subject, userId } of people) {
        changes.push(`${node}: ${userId} ${presence.of(subject, userId).online}`);
      }
    });
    return presence;
  });
  const pass = (count: number) => {
    for (let n = 0; n < count; n += 1) {
      seconds += 1;
      for (const [index, one] of nodes.entries()) if (!hub.cut.has(names[index] ?? "")) one.tick();
    }
  };
  pass(1);
  return { hub, nodes, pass, changes, at: (second: number) => new Date(T0 + second * 1_000).toISOString() };
}
const of = (presence: Presence | undefined) => presence?.of("sub_ann", "ann");

test("who connects is online on every node, with its devices, and away 5 s after the last one went", () => {
  const { nodes, pass, changes, at } = cluster("a", "b");
  const [a, b] = nodes;
  expect(of(b)).toEqual({ user_id: "ann", online: false, since: null, last_seen_at: null, devices: 0 });
  const first = a?.connect(ann);
  const second = b?.connect(ann);
  pass(9);
  for (const node of [a, b]) {
    expect(of(node)).toEqual({ user_id: "ann", online: true, since: at(1), last_seen_at: at(10), devices: 2 });
  }
  first?.[Symbol.dispose]();
  first?.[Symbol.dispose]();
  pass(20);
  expect([of(a)?.devices, of(b)?.devices]).toEqual([1, 1]);
  expect(changes).toEqual(["a: ann true", "b: ann true"]);
  second?.[Symbol.dispose]();
  pass(4);
  expect([of(a)?.online, of(b)?.online]).toEqual([true, true]);
  pass(1);
  for (const node of [a, b]) {
    expect(of(node)).toEqual({ user_id: "ann", online: false, since: at(30), last_seen_at: at(30), devices: 0 });
  }
  expect(changes.slice(2)).toEqual(["a: ann false", "b: ann false"]);
});

test("two hundred reconnects within 5 s, from node to node, are no absence", () => {
  const { nodes, pass, changes, at } = cluster("a", "b", "c");
  for (let n = 0; n < 200; n += 1) {
    const connection = nodes[n % 3]?.connect(ann);
    pass(7);
    connection?.[Symbol.dispose]();
    pass(4);
  }
  expect(changes).toEqual(["a: ann true", "b: ann true", "c: ann true"]);
  expect(of(nodes[0])).toMatchObject({ online: true, since: at(1) });
});

test("a node that is killed leaves nobody online after 50 s; who is elsewhere too stays", () => {
  const { hub, nodes, pass, changes } = cluster("a", "b");
  const [a, b] = nodes;
  a?.connect(ann);
  a?.connect({ client: "cli_1", subject: "sub_bob", userId: "bob" });
  b?.connect({ client: "cli_1", subject: "sub_bob", userId: "bob" });
  pass(30);
  hub.cut.add("a");
  pass(30);
  expect(of(b)).toMatchObject({ online: true });
  pass(19);
  expect(of(b)).toMatchObject({ online: false, devices: 0 });
  expect(b?.of("sub_bob", "bob")).toMatchObject({ online: true, devices: 1 });
  expect(changes.filter((one) => one.startsWith("b") && one.endsWith("false"))).toEqual(["b: ann false"]);
});

test("a node that ends takes its people with it after 5 s", () => {
  const { hub, nodes, pass } = cluster("a", "b");
  nodes[0]?.connect(ann);
  nodes[0]?.[Symbol.dispose]();
  hub.cut.add("a");
  pass(4);
  expect(of(nodes[1])).toMatchObject({ online: true });
  pass(2);
  expect(of(nodes[1])).toMatchObject({ online: false });
});

test("what was lost while nodes did not hear each other is made good by the next round", () => {
  const { hub, nodes, pass } = cluster("a", "b");
  const [a, b] = nodes;
  const early = a?.connect({ client: "cli_1", subject: "sub_bob", userId: "bob" });
  pass(5);
  hub.cut.add("b");
  a?.connect(ann);
  early?.[Symbol.dispose]();
  hub.cut.delete("b");
  expect([of(b)?.online, b?.of("sub_bob", "bob").online]).toEqual([false, true]);
  pass(25);
  expect([of(b)?.online, b?.of("sub_bob", "bob").online]).toEqual([true, false]);
});

test("a node that is new learns of everybody, and rounds of many people need no more than a few of its ticks", () => {
  const { hub, nodes, pass } = cluster("a");
  for (let n = 0; n < 2_000; n += 1) nodes[0]?.connect({ client: "cli_1", subject: `sub_${n}`, userId: `u${n}` });
  pass(20);
  const late = new Presence({ node: "late", bus: hub.node("late"), now: () => T0, clock: () => 0 });
  late.tick();
  pass(6);
  expect(late.of("sub_0", "u0").online).toBe(true);
  expect(late.of("sub_1999", "u1999").online).toBe(true);
});

test("a part of a round that is lost takes nobody away, however many connect meanwhile", () => {
  const { hub, nodes, pass } = cluster("a", "b");
  const connect = (from: number, to: number) => {
    for (let n = from; n < to; n += 1) nodes[0]?.connect({ client: "cli_1", subject: `sub_${n}`, userId: `u${n}` });
  };
  connect(0, 1_500);
  pass(16); // the third round has told of the first 500
  hub.cut.add("b");
  pass(1);
  hub.cut.delete("b");
  connect(1_500, 2_000);
  pass(8);
  const online = (n: number) => nodes[1]?.of(`sub_${n}`, `u${n}`).online;
  expect([online(0), online(600), online(1_499), online(1_999)]).toEqual([true, true, true, true]);
});

test("signals that are none of presence are passed over", () => {
  const { hub, nodes } = cluster("a", "b");
  const stranger = hub.node("stranger");
  for (const text of ["", "typing {}", "presence {}", 'presence {"kind":"alive"}']) stranger.signal(text);
  expect(of(nodes[0])?.online).toBe(false);
});
