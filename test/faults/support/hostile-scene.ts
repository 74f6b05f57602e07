// What hostile requests meet: a client with one of everything, and another one for what an operation may use up.
import { type Api, newClient, tokenOf } from "../../e2e/support/api.ts";
import { idsOf, type Operation } from "../../e2e/support/stage.ts";

/** The X-Request-Id of all that the suite itself asks for. */
export const SOUND = "sound";

export type Scene = {
  readonly api: Api & { readonly id: string };
  /** Of alice, a member of its room. */
  readonly token: string;
  /** As paths name them. */
  readonly ids: Readonly<Record<string, string>>;
  readonly host: string;
};

export async function openScene(url: string): Promise<Scene> {
  const api = await newClient(url, "My App", { "x-request-id": SOUND });
  const ids = await idsOf(api);
  return { api, ids, token: await tokenOf(api, "alice"), host: new URL(url).host };
}

/** Whether it may leave its scene without what other inputs need: keys, tokens, rooms, members. */
const usesUp = ({ method, template }: Operation): boolean =>
  method === "DELETE" || /\/(rotate|tokens|deactivate|cancel)$/.test(template);

/** The scenes of a run: one for all operations that leave it whole, for each other one its own, made anew once used up. */
export class Scenes {
  readonly #url: string;
  readonly #open = new Map<string, Promise<Scene>>();

  constructor(url: string) {
    this.#url = url;
  }

  of(operation: Operation): Promise<Scene> {
    const name = nameOf(operation);
    const scene = this.#open.get(name) ?? openScene(this.#url);
    this.#open.set(name, scene);
    return scene;
  }

  /** It was carried out. */
  spend(operation: Operation): void {
    if (usesUp(operation)) this.#open.delete(nameOf(operation));
  }

  /** All are made anew. */
  clear(): void {
    this.#open.clear();
  }
}

const nameOf = (operation: Operation): string =>
  usesUp(operation) ? `${operation.method} ${operation.template}` : "all others";
