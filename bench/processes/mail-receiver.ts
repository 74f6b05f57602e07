// Takes mails by SMTP, and as Postmark's API does, and counts them.
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { SMTPServer } from "smtp-server";
import { Arrivals } from "../support/arrivals.ts";
import { serveCalls } from "../support/process.ts";

const ACCEPTED = JSON.stringify({ To: "", SubmittedAt: "", MessageID: "pm-1", ErrorCode: 0, Message: "OK" });

const arrivals = new Arrivals();

serveCalls({
  async listen(): Promise<{ api: string; smtpPort: number }> {
    const api = createServer(accept);
    const smtp = new SMTPServer({
      ...{ authOptional: true, disabledCommands: ["STARTTLS", "AUTH"], logger: false },
      onData(stream, _session, callback) {
        stream.resume().on("end", () => {
          arrivals.add();
          callback();
        });
      },
    });
    const listening = (server: typeof api | SMTPServer["server"]) =>
      new Promise<number>((resolve) => {
        server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port));
      });
    return { api: `http://127.0.0.1:${await listening(api)}`, smtpPort: await listening(smtp.server) };
  },
  receive: (wanted: { count: number; timeoutMs: number }) => arrivals.receive(wanted),
  taken: () => arrivals.taken(),
});

function accept(request: IncomingMessage, response: ServerResponse): void {
  request.resume().on("end", () => {
    arrivals.add();
    response.setHeader("Content-Type", "application/json").end(ACCEPTED);
  });
}
