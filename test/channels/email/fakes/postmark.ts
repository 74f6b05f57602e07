// Postmark's API: a server token, one mail in JSON, its own error codes.
import { addressParser } from "postal-mime";
import { z } from "zod";
import { comparedHeaders, type FakeApi, fakeApi } from "./fake-api.ts";

const Mail = z.strictObject({
  From: z.string(),
  To: z.string(),
  Cc: z.string().optional(),
  Bcc: z.string().optional(),
  ReplyTo: z.string().optional(),
  Subject: z.string(),
  HtmlBody: z.string().optional(),
  TextBody: z.string().optional(),
  Tag: z.string().max(1_000).optional(),
  Headers: z.array(z.strictObject({ Name: z.string(), Value: z.string().regex(/^[ -~]*$/) })),
  Metadata: z.record(z.string().max(20), z.string().max(80)),
  MessageStream: z.string().optional(),
  TrackOpens: z.boolean().optional(),
  TrackLinks: z.enum(["None", "HtmlAndText", "HtmlOnly", "TextOnly"]).optional(),
  Attachments: z.array(
    z.strictObject({
      Name: z.string(),
      Content: z.base64(),
      ContentType: z.string(),
      ContentID: z.string().startsWith("cid:").optional(),
    }),
  ),
});

export const postmarkApi = (): Promise<FakeApi> =>
  fakeApi(({ method, path, headers, body }, take) => {
    const refused = (status: number, ErrorCode: number, Message: string) => ({ status, body: { ErrorCode, Message } });
    if (headers["x-postmark-server-token"] !== "postmark-secret")
      return refused(401, 10, "Request does not contain a valid Server token.");
    if (headers.accept !== "application/json") return refused(406, 0, "accept");
    if (method === "GET" && path === "/server") return { status: 200, body: { ID: 1, ApiTokens: ["postmark-secret"] } };
    if (method !== "POST" || path !== "/email") return refused(404, 0, "not found");
    const { data: mail, error } = Mail.safeParse(JSON.parse(body.toString()));
    if (mail === undefined) return refused(422, 403, z.prettifyError(error));
    const sent = new Map(mail.Headers.map(({ Name, Value }) => [Name, Value]));
    const people = (list = "") => addressParser(list).map(({ name, address }) => ({ name, address: address ?? "" }));
    take({
      from: people(mail.From)[0],
      to: people(mail.To),
      cc: people(mail.Cc),
      bcc: people(mail.Bcc).map(({ address }) => address),
      replyTo: mail.ReplyTo ?? null,
      subject: mail.Subject,
      html: (mail.HtmlBody ?? "").trim(),
      text: (mail.TextBody ?? "").trim(),
      // Without the wish to keep it Postmark makes its own.
      messageId: sent.get("X-PM-KeepID") === "true" ? (sent.get("Message-ID") ?? "") : "<made-by-postmark>",
      headers: comparedHeaders(sent),
      tag: mail.Tag ?? "",
      argument: mail.Metadata.chatapi_delivery ?? "",
      attachments: mail.Attachments.map(({ Name, ContentType, Content, ContentID }) => ({
        ...{ filename: Name, type: ContentType, content: Content, contentId: ContentID?.slice("cid:".length) ?? null },
      })).toSorted((a, b) => a.filename.localeCompare(b.filename)),
    });
    return { status: 200, body: { To: mail.To, SubmittedAt: "", MessageID: "pm-1", ErrorCode: 0, Message: "OK" } };
  });
