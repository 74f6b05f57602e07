// The compose file: what runs, who reaches whom, what has to be well first, and that no secret stands in it.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { readConfig } from "../../src/config.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SECRETS = ["ADMIN_KEY", "ENCRYPTION_KEYS", "POSTGRES_PASSWORD"] as const;
const NODES = { "api-1": "api", "api-2": "api", projector: "projector", "worker-1": "worker", "worker-2": "worker" };
const STORES = ["eventstore", "postgres", "redis"];

const Service = z.looseObject({
  image: z.string(),
  build: z.string().optional(),
  user: z.string().optional(),
  restart: z.string().optional(),
  environment: z.record(z.string(), z.string()).default({}),
  ports: z.array(z.string()).default([]),
  volumes: z.array(z.string()).default([]),
  networks: z.union([z.array(z.string()), z.record(z.string(), z.unknown()).transform(Object.keys)]),
  depends_on: z.record(z.string(), z.object({ condition: z.string() })).default({}),
  healthcheck: z.object({ test: z.array(z.string()).min(2) }).optional(),
  deploy: z.object({ resources: z.object({ limits: z.object({ cpus: z.string(), memory: z.string() }) }) }),
  cap_drop: z.array(z.string()).default([]),
  security_opt: z.array(z.string()).default([]),
});
const Compose = z.object({
  services: z.record(z.string(), Service),
  networks: z.record(z.string(), z.looseObject({ internal: z.boolean().optional() })),
  volumes: z.record(z.string(), z.null()),
});

const text = readFileSync(`${ROOT}docker-compose.yml`, "utf8");
const compose = Compose.parse(parse(text, { merge: true }));
const { services } = compose;
const all = Object.entries(services);
const service = (name: string) => Service.parse(services[name]);

/** As compose does: `${NAME}`, `${NAME:-default}`, `${NAME:?message}`. */
function filledIn(value: string, given: Readonly<Record<string, string>>): string {
  return value.replaceAll(/\$\{(\w+)(?::([-?])([^}]*))?\}/g, (_all, name: string, mark?: string, rest = "") => {
    const found = given[name] ?? "";
    if (found !== "") return found;
    if (mark === "?") throw new Error(`${name}: ${rest}`);
    return mark === "-" ? rest : "";
  });
}

const given = {
  ADMIN_KEY: "a".repeat(32),
  ENCRYPTION_KEYS: Buffer.alloc(32, 7).toString("base64"),
  POSTGRES_PASSWORD: "secret",
};

describe("the layout", () => {
  test("is two API nodes behind a proxy, a projector, two workers, the stores and a mail catcher", () => {
    expect(Object.keys(services).sort()).toEqual([...Object.keys(NODES), ...STORES, "mail", "proxy"].sort());
    for (const [name, role] of Object.entries(NODES)) expect(service(name).environment.ROLES, name).toBe(role);
    const caddyfile = readFileSync(`${ROOT}deploy/Caddyfile`, "utf8");
    for (const name of ["api-1", "api-2"]) expect(caddyfile).toContain(`${name}:${service(name).environment.PORT}`);
  });

  test("is given what every node's configuration needs, and nothing that it does not know", () => {
    const known = new Set(
      readFileSync(`${ROOT}src/config.ts`, "utf8")
        .match(/^ {2}[A-Z_]+(?=:)/gm)
        ?.map((n) => n.trim()),
    );
    expect(known.size).toBeGreaterThan(10);
    for (const name of Object.keys(NODES)) {
      const { environment } = service(name);
      expect(Object.keys(environment).filter((variable) => !known.has(variable))).toEqual([]);
      const filled = Object.entries(environment).map(([variable, value]) => [variable, filledIn(value, given)]);
      const config = readConfig(Object.fromEntries(filled));
      expect(config).toMatchObject({
        ...{ development: false, host: "0.0.0.0", port: 8000, adminKey: given.ADMIN_KEY },
        databaseUrl: "postgresql://chatapi:secret@postgres:5432/chatapi",
        eventStore: { url: "esdb://eventstore:2113?tls=false" },
        redisUrl: "redis://redis:6379",
        roles: new Set([environment.ROLES]),
      });
    }
  });
});

describe("every service", () => {
  test.each(all)(
    "%s runs as somebody who is not root, without capabilities to gain, and within limits",
    (_name, one) => {
      expect(one.user).toBeDefined();
      expect(one.user).not.toMatch(/^(root|0)(:|$)/);
      expect(one.cap_drop).toEqual(["ALL"]);
      expect(one.security_opt).toContain("no-new-privileges:true");
      expect(one.restart).toBe("unless-stopped");
      expect(one.deploy.resources.limits.memory).toMatch(/^\d+[MG]$/);
    },
  );

  test.each(all)("%s is asked for its health", (_name, one) => {
    // What is built here has its own in the image.
    const ofImage = one.build === "." && /^HEALTHCHECK /m.test(readFileSync(`${ROOT}Dockerfile`, "utf8"));
    expect(ofImage || one.healthcheck?.test[0] === "CMD").toBe(true);
    expect(one.image).toMatch(/:[^:]*\d/);
    expect(one.image).not.toMatch(/:latest$/);
  });

  test.each(all)("%s starts when what it needs is well", (name, one) => {
    const wanted = name === "proxy" ? ["api-1", "api-2"] : name in NODES ? STORES : [];
    const first = name in NODES && name !== "projector" ? [...wanted, "projector"] : wanted;
    expect(Object.keys(one.depends_on).sort()).toEqual(first.sort());
    for (const { condition } of Object.values(one.depends_on)) expect(condition).toBe("service_healthy");
  });
});

describe("from outside", () => {
  test("only the proxy and the mail catcher's page are reached, on loopback unless told otherwise", () => {
    const published = all.flatMap(([name, one]) => one.ports.map((port) => `${name} ${filledIn(port, {})}`));
    expect(published.sort()).toEqual(["mail 127.0.0.1:8025:8025", "proxy 127.0.0.1:8080:8080"]);
  });

  test("the stores are on a network of their own without a way out", () => {
    expect(compose.networks.stores?.internal).toBe(true);
    for (const name of STORES) expect(service(name).networks).toEqual(["stores"]);
    expect(service("proxy").networks).toEqual(["edge"]);
    expect(service("mail").networks).toEqual(["outside"]);
    for (const [name, one] of all) if (!(name in NODES) && name !== "proxy") expect(one.networks).not.toContain("edge");
  });

  test("what is kept is on named volumes", () => {
    expect(service("eventstore").volumes).toContain("eventstore-data:/var/lib/eventstore");
    expect(service("postgres").volumes).toEqual(["postgres-data:/var/lib/postgresql"]);
    expect(Object.keys(compose.volumes)).toEqual(expect.arrayContaining(["eventstore-data", "postgres-data"]));
  });
});

describe("secrets", () => {
  test("come from the environment, and the start is refused without them", () => {
    for (const name of SECRETS) {
      const uses = [...text.matchAll(new RegExp(`\\$\\{${name}\\b[^}]*\\}`, "g"))].map(([use]) => use);
      expect(uses.length, name).toBeGreaterThan(0);
      for (const use of uses) {
        expect(use).toMatch(/:\?[^}]+\}$/);
        expect(() => filledIn(use, {})).toThrow(name);
      }
    }
  });

  test("stand nowhere in the file", () => {
    for (const [, { environment }] of all) {
      for (const [name, value] of Object.entries(environment)) {
        if (/KEY|PASSWORD|TOKEN|SECRET/.test(name)) expect(value, name).toMatch(/^\$\{[A-Z_]+:[?-][^}]*\}$/);
        expect(value, name).not.toMatch(/:\/\/[^:/@]+:(?!\$\{)[^@/]+@/);
      }
    }
  });

  test("and every other variable are explained in the example, which holds no value for them", () => {
    const example = readFileSync(`${ROOT}deploy/.env.example`, "utf8");
    const used = new Set([...text.matchAll(/\$\{(\w+)/g)].map(([, name]) => name));
    const explained = new Set([...example.matchAll(/^#?([A-Z_]+)=/gm)].map(([, name]) => name));
    expect(explained).toEqual(used);
    for (const name of SECRETS) expect(example).toMatch(new RegExp(`^${name}=$`, "m"));
  });
});

const found = spawnSync("docker", ["compose", "version"], { encoding: "utf8" });
const reason = (found.error?.message ?? found.stderr).trim().split("\n")[0];
const missing = found.status === 0 ? undefined : `skipped: docker compose is not there (${reason})`;
if (missing !== undefined) console.info(missing);

describe.skipIf(missing !== undefined)("docker compose", () => {
  const config = (env: Readonly<Record<string, string>>) =>
    spawnSync("docker", ["compose", "--env-file", "/dev/null", "config", "--format", "json"], {
      ...{ cwd: ROOT, encoding: "utf8" },
      env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env },
    });

  test("takes the file", () => {
    const { status, stdout, stderr } = config(given);
    expect(stderr).toBe("");
    expect(status).toBe(0);
    expect(Object.keys(JSON.parse(stdout).services).sort()).toEqual(Object.keys(services).sort());
  });

  test.each(SECRETS)("refuses it without %s", (name) => {
    const { status, stderr } = config({ ...given, [name]: "" });
    expect(status).not.toBe(0);
    expect(stderr).toContain(name);
  });
});
