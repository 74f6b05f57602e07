// The numbers of the WebSocket interface: limits, and the times that tests shorten.
import { SECOND_MS } from "../../contract/time.ts";

export const MAX_FRAME_BYTES = 256 * 1024;
/** Pieces in which a frame may arrive: each costs more than the bytes in it. */
export const MAX_FRAME_PARTS = 4_096;
export const MAX_FRAMES_A_SECOND = 100;
/** Frames of a client that wait for their turn; beyond, nothing more is read from its socket. */
export const MAX_WAITING_FRAMES = 200;
/** What may wait to be sent on a socket, without what is paced by its reader. */
export const MAX_QUEUE_BYTES = 1024 * 1024;
/** What is read ahead for a reader that paces it, on top of that. */
export const MAX_AHEAD_BYTES = 1024 * 1024;
export const MAX_ROOMS = 500;
/** Shown in `welcome`. */
export const HEARTBEAT_SECONDS = 25;

/** Durations in milliseconds. */
export type Timings = {
  /** From connecting to being authenticated. */
  readonly authenticationMs: number;
  /** Silence after which a heartbeat is sent. */
  readonly heartbeatMs: number;
  /** Without a sign of the client for so long it is taken for gone. */
  readonly silenceMs: number;
  /** How long a client has to answer a close before its socket is cut. */
  readonly closeMs: number;
};

export const TIMINGS: Timings = {
  authenticationMs: 5 * SECOND_MS,
  heartbeatMs: HEARTBEAT_SECONDS * SECOND_MS,
  silenceMs: 2 * HEARTBEAT_SECONDS * SECOND_MS,
  closeMs: 3 * SECOND_MS,
};
