// Signature Version 4, as AWS documents it: the signature that a request must have.
import { createHash, createHmac } from "node:crypto";

export type SignedRequest = {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer | string;
};

const sha256 = (data: string | Buffer): string => createHash("sha256").update(data).digest("hex");
const hmac = (key: string | Buffer, data: string): Buffer => createHmac("sha256", key).update(data).digest();

/** The `Authorization` header of a request whose signed headers are given; `x-amz-date` is among them. */
export function authorizationOf(
  { method, path, headers, body }: SignedRequest,
  key: { readonly id: string; readonly secret: string; readonly region: string; readonly service: string },
): string {
  const [pathname = "/", query = ""] = path.split("?");
  const names = Object.keys(headers).toSorted();
  const lines = names.map((name) => `${name}:${(headers[name] ?? "").trim().replace(/ +/g, " ")}\n`).join("");
  const sorted = query.split("&").toSorted().join("&");
  const canonical = [method, pathname, sorted, lines, names.join(";"), sha256(body)].join("\n");
  const time = headers["x-amz-date"] ?? "";
  const scope = `${time.slice(0, 8)}/${key.region}/${key.service}/aws4_request`;
  const text = ["AWS4-HMAC-SHA256", time, scope, sha256(canonical)].join("\n");
  const signing = scope.split("/").reduce<string | Buffer>((sum, part) => hmac(sum, part), `AWS4${key.secret}`);
  const signature = createHmac("sha256", signing).update(text).digest("hex");
  return `AWS4-HMAC-SHA256 Credential=${key.id}/${scope}, SignedHeaders=${names.join(";")}, Signature=${signature}`;
}
