// What the routes of messages share.
import { z } from "zod";
import { text } from "../../../contract/fields.ts";
import { roomParams } from "./room-pieces.ts";

export const messageParams = roomParams.extend({ message_id: z.string() });
export const content = text(0, 10_000);
