// A keyring in memory, for tests that need no database: real keys, real subjects, nothing kept.
import { randomBytes } from "node:crypto";
import type { ClientId } from "../../src/contract/ids.ts";
import { deriveSecretTail } from "../../src/event-store/derived-ids.ts";
import { EventMacs } from "../../src/event-store/event-macs.ts";
import { type DataKey, type Keyring, PlaintextCache } from "../../src/event-store/sealing.ts";

export type MemoryKeyring = Keyring;

/** `makeKey` gives the key of an owner, for tests that need the same ones on each run; default: random. */
export function memoryKeyring(makeKey: (owner: string) => Uint8Array = () => randomBytes(32)): MemoryKeyring {
  const byOwner = new Map<string, DataKey>();
  const byId = new Map<string, DataKey>();
  const keyOf = (owner: string): DataKey => {
    const there = byOwner.get(owner);
    if (there !== undefined) return there;
    const key = { id: `k${byId.size}-${owner}`, key: makeKey(owner) };
    byOwner.set(owner, key);
    byId.set(key.id, key);
    return key;
  };
  const pepperOf = (client: ClientId) => keyOf(`pepper:${client}`).key;
  const plaintextCache = new PlaintextCache();
  const destroyed = new Set<string>();
  const macs = new EventMacs({ key: makeKey("event-mac"), requiredAfter: "start", onForged: () => {} });
  return {
    plaintextCache,
    macs,
    destroyedAmong: async (ids) => new Set([...ids].filter((id) => destroyed.has(id))),
    keysFor: async (_client, refs) => new Map([...refs].map((ref) => [ref, keyOf(ref)])),
    keysById: async (ids) => new Map([...byId].filter(([id]) => ids.has(id))),
    subjectOfUser: async (client, user) => `sub_${deriveSecretTail(pepperOf(client), "user", user)}`,
    subjectOfAddress: async (client, address) => `sub_${deriveSecretTail(pepperOf(client), "address", address)}`,
    pepper: async (client) => pepperOf(client),
    async destroy(ref) {
      const key = byOwner.get(ref);
      byOwner.delete(ref);
      plaintextCache.clear();
      if (key === undefined) return false;
      byId.delete(key.id);
      destroyed.add(key.id);
      return true;
    },
  };
}
