// SendGrid's v3 API: a bearer key that may only send, mail/send in JSON.
import { z } from "zod";
import { comparedHeaders, type FakeApi, fakeApi } from "./fake-api.ts";

const person = z.strictObject({ email: z.string().includes("@"), name: z.string().min(1).optional() });
const Mail = z.strictObject({
  personalizations: z
    .array(
      z.strictObject({
        to: z.array(person).min(1),
        cc: z.array(person).min(1).optional(),
        bcc: z.array(person).min(1).optional(),
      }),
    )
    .length(1),
  from: person,
  reply_to: person.optional(),
  subject: z.string().min(1),
  content: z.array(z.strictObject({ type: z.enum(["text/plain", "text/html"]), value: z.string().min(1) })).min(1),
  attachments: z
    .array(
      z.strictObject({
        content: z.base64(),
        type: z.string(),
        filename: z.string(),
        disposition: z.enum(["attachment", "inline"]),
        content_id: z.string().optional(),
      }),
    )
    .min(1)
    .optional(),
  // Header values are ASCII on their way.
  headers: z.record(z.string(), z.string().regex(/^[ -~]*$/)),
  categories: z.array(z.string().max(255)).max(10).optional(),
  custom_args: z.record(z.string(), z.string()),
  tracking_settings: z.object({}).loose().optional(),
});
/** What the API sets by itself. */
const RESERVED = ["to", "from", "subject", "reply-to", "cc", "bcc", "content-type", "content-transfer-encoding"];

export const sendgridApi = (): Promise<FakeApi> =>
  fakeApi(({ method, path, headers, body }, take) => {
    const errors = (message: string, field: string | null) => ({ errors: [{ message, field, help: null }] });
    if (headers.authorization !== "Bearer SG.sendgrid-secret")
      return { status: 401, body: errors("The provided authorization grant is invalid, expired, or revoked", null) };
    if (method === "GET" && path === "/v3/scopes") return { status: 200, body: { scopes: ["mail.send"] } };
    if (path !== "/v3/mail/send" || method !== "POST") return { status: 403, body: errors("access forbidden", null) };
    const { data: mail, error } = Mail.safeParse(JSON.parse(body.toString()));
    if (mail === undefined) return { status: 400, body: errors(z.prettifyError(error), null) };
    if (Object.keys(mail.headers).some((name) => RESERVED.includes(name.toLowerCase())))
      return { status: 400, body: errors("reserved header", "headers") };
    const [first] = mail.personalizations;
    const shown = (one: z.infer<typeof person>) => ({ name: one.name ?? "", address: one.email });
    const content = (type: string) => mail.content.find((one) => one.type === type)?.value.trim() ?? "";
    take({
      from: shown(mail.from),
      to: (first?.to ?? []).map(shown),
      cc: (first?.cc ?? []).map(shown),
      bcc: (first?.bcc ?? []).map(({ email }) => email),
      replyTo: mail.reply_to?.email ?? null,
      subject: mail.subject,
      html: content("text/html"),
      text: content("text/plain"),
      messageId: mail.headers["Message-ID"] ?? "",
      headers: comparedHeaders(Object.entries(mail.headers)),
      tag: mail.categories?.[0] ?? "",
      argument: mail.custom_args.chatapi_delivery ?? "",
      attachments: (mail.attachments ?? [])
        .map(({ filename, type, content, content_id }) => ({ filename, type, content, contentId: content_id ?? null }))
        .toSorted((a, b) => a.filename.localeCompare(b.filename)),
    });
    return { status: 202, headers: { "x-message-id": "sg-1" } };
  });
