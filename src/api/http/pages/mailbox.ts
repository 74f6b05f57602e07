// The development mailbox as a page: who wrote to whom, and each mail within a frame that runs nothing.
import { document, type Html, html } from "./html.ts";

type Person = { readonly address: string; readonly name: string | null };

/** What is shown of a mail beside what it has anyway. */
export type DevMail = {
  readonly id: string;
  readonly from: Person | null;
  readonly to: readonly Person[];
  readonly cc: readonly Person[];
  readonly bcc: readonly Person[];
  readonly subject: string | null;
  readonly html: string | null;
  readonly text: string | null;
  readonly attachments: readonly { readonly filename: string | null }[];
  readonly received_at: string;
};

const person = ({ address, name }: Person): string => (name === null ? address : `${name} <${address}>`);
const people = (list: readonly Person[]): string => list.map(person).join(", ");

/** All mails given, newest first. */
export const mailboxPage = (mails: readonly DevMail[]): string =>
  document(
    "Development mailbox",
    html`<h1>Development mailbox</h1>
<p class="soft">Mail that this server sent while no provider was set. It went nowhere else. Reload to see what came since.</p>
${mails.length === 0 ? html`<p>No mail yet.</p>` : mails.map(mail)}`,
  );

function mail(one: DevMail): Html {
  const at = `/dev/mailbox/${encodeURIComponent(one.id)}`;
  const line = (name: string, value: string) =>
    value === "" ? html`` : html`<tr><th>${name}</th><td>${value}</td></tr>`;
  const files = one.attachments.map(({ filename }) => filename ?? "unnamed").join(", ");
  return html`<details><summary>${one.subject ?? "(no subject)"} <span class="soft">to ${people([...one.to, ...one.cc, ...one.bcc])}, ${one.received_at}</span></summary>
<table><tbody>
${line("From", one.from === null ? "" : person(one.from))}${line("To", people(one.to))}${line("Cc", people(one.cc))}
${line("Bcc", people(one.bcc))}${line("Subject", one.subject ?? "")}${line("Attachments", files)}
</tbody></table>
${one.html === null ? html`` : html`<iframe sandbox loading="lazy" title="HTML of the mail" src="${at}/html"></iframe>`}
<details><summary>Text</summary><pre>${one.text ?? ""}</pre></details>
<p><a href="${at}">JSON</a> <a href="${at}/raw">Raw</a></p></details>`;
}
