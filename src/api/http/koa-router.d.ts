// What we use of koa-router, which comes without types.
declare module "koa-router" {
  /** One registered path. */
  export type Layer = {
    readonly methods: readonly string[];
    readonly stack: readonly unknown[];
    /** The raw values of the path's parameters. */
    captures(path: string): readonly string[];
  };
  export default class Router {
    constructor(options?: { prefix?: string; sensitive?: boolean });
    register(path: string, methods: readonly string[], middleware: unknown, options?: { sensitive?: boolean }): Layer;
    /** The layers with this path, and those of them with this method. */
    match(path: string, method: string): { readonly path: readonly Layer[]; readonly pathAndMethod: readonly Layer[] };
  }
}
