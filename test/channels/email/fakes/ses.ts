// Amazon SES, v2: requests signed with a key that may only send, mails as MIME.
import { z } from "zod";
import { authorizationOf } from "./aws-signature.ts";
import { type FakeApi, fakeApi, fromMime } from "./fake-api.ts";

const Mail = z.strictObject({
  FromEmailAddress: z.string(),
  Destination: z.strictObject({
    ToAddresses: z.array(z.string()),
    CcAddresses: z.array(z.string()),
    BccAddresses: z.array(z.string()),
  }),
  Content: z.strictObject({ Raw: z.strictObject({ Data: z.base64() }) }),
  EmailTags: z.array(
    z.strictObject({ Name: z.string().regex(/^[\w-]{1,256}$/), Value: z.string().regex(/^[\w-]{1,256}$/) }),
  ),
  ConfigurationSetName: z.string().optional(),
});
const KEY = { id: "AKIDEXAMPLE", secret: "ses-secret", region: "eu-central-1", service: "ses" };

export const sesApi = (): Promise<FakeApi> =>
  fakeApi(async ({ method, path, headers, body }, take) => {
    const refused = (status: number, type: string, message: string) => ({
      ...{ status, headers: { "x-amzn-errortype": `${type}:http://internal.amazon.com/` }, body: { message } },
    });
    const names = /SignedHeaders=([^,]+)/.exec(headers.authorization ?? "")?.[1]?.split(";") ?? [];
    const signed = Object.fromEntries(names.map((name) => [name, String(headers[name] ?? "")]));
    if (!names.includes("host") || !names.includes("x-amz-date"))
      return refused(403, "MissingAuthenticationTokenException", "Missing Authentication Token");
    if (headers.authorization !== authorizationOf({ method, path, headers: signed, body }, KEY))
      return refused(403, "InvalidSignatureException", "The request signature we calculated does not match");
    if (path === "/v2/email/account") return refused(403, "AccessDeniedException", "not authorized to ses:GetAccount");
    if (method !== "POST" || path !== "/v2/email/outbound-emails") return refused(404, "NotFoundException", "");
    const { data: mail, error } = Mail.safeParse(JSON.parse(body.toString()));
    if (mail === undefined) return refused(400, "BadRequestException", z.prettifyError(error));
    const { ToAddresses, CcAddresses, BccAddresses } = mail.Destination;
    const tag = (name: string) => mail.EmailTags.find(({ Name }) => Name === name)?.Value ?? "";
    const about = { tag: tag("tag"), argument: tag("chatapi_delivery") };
    take(
      await fromMime(
        Buffer.from(mail.Content.Raw.Data, "base64"),
        [...ToAddresses, ...CcAddresses, ...BccAddresses],
        about,
      ),
    );
    return { status: 200, body: { MessageId: "ses-1" } };
  });
