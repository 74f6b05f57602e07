// The ws library's socket, with our close codes for what it finds wrong by itself.
import { WebSocket } from "ws";
import { CLOSE } from "../../contract/errors.ts";

/** What the library closes with on its own account. */
const OURS: Readonly<Record<number, number>> = {
  1002: CLOSE.malformed,
  1007: CLOSE.malformed,
  1008: CLOSE.tooManyFrames,
  1009: CLOSE.frameTooLarge,
};

export class GatewaySocket extends WebSocket {
  override close(code?: number, data?: string | Buffer): void {
    super.close(code === undefined ? code : (OURS[code] ?? code), data);
  }
}
