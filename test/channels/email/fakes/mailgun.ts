// Mailgun's MIME endpoint: basic auth, a multipart form, the domain in the path.
import { type FakeApi, fakeApi, fromMime } from "./fake-api.ts";

export const mailgunApi = (): Promise<FakeApi> =>
  fakeApi(async ({ method, path, headers, body }, take) => {
    if (headers.authorization !== `Basic ${Buffer.from("api:key-mailgun-secret").toString("base64")}`)
      return { status: 401, body: "Forbidden" };
    if (method !== "POST" || path !== "/v3/mg.example.com/messages.mime")
      return { status: 404, body: { message: "Domain not found: x" } };
    if (!headers["content-type"]?.startsWith("multipart/form-data; boundary=")) return { status: 400, body: {} };
    const form = await new Response(new Uint8Array(body), {
      headers: { "content-type": headers["content-type"] },
    }).formData();
    const to = form.getAll("to").map(String);
    if (to.every((one) => one === "")) return { status: 400, body: { message: "to parameter is missing" } };
    const message = form.get("message");
    if (!(message instanceof File)) return { status: 400, body: { message: "message must be a file" } };
    const unknown = [...form.keys()].filter((key) => key !== "to" && key !== "message" && !/^(?:[ovh]:|t:)/.test(key));
    if (unknown.length > 0) return { status: 400, body: { message: `unknown ${unknown}` } };
    const about = { tag: String(form.get("o:tag")), argument: String(form.get("v:chatapi_delivery")) };
    take(await fromMime(Buffer.from(await message.arrayBuffer()), to, about));
    return { status: 200, body: { id: "<20260203.1@mg.example.com>", message: "Queued. Thank you." } };
  });
