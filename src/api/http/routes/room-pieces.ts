// What the routes of rooms and of all in them share.
import { z } from "zod";
import { MAX_META_BYTES, metaTooLarge } from "../../../contract/fields.ts";
import { type JsonObject, mergePatch } from "../../../contract/json.ts";
import { InvalidInput } from "../../../domain/errors.ts";

export const roomParams = z.object({ room_id: z.string().meta({ description: "The id, or `ext:<external_id>`" }) });

/** Merges a patch into the meta that is there when the command is decided. Throws InvalidInput when it grows too large. */
export const mergingMeta =
  (patch: JsonObject | null) =>
  (old: JsonObject): JsonObject => {
    const merged = patch === null ? {} : mergePatch(old, patch);
    if (metaTooLarge(merged)) {
      const message = `must have at most ${MAX_META_BYTES} bytes as JSON once merged`;
      throw new InvalidInput([{ path: "meta", code: "too_long", message }]);
    }
    return merged;
  };
