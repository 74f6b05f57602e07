// Emoji of reactions: one of Unicode's recommended emoji in its fully-qualified form, or a name between colons.
import { z } from "zod";
import { refuse } from "./fields.ts";

/** Longer than any emoji and any name. */
const MAX_UNITS = 66;
const NAME = /^:[A-Za-z0-9_+-]{1,64}:$/;
const EMOJI = /^\p{RGI_Emoji}$/v;
const KEYCAP = /^[0-9#*]\u20e3$/;
const SHOWN_AS_TEXT = /^\P{Emoji_Presentation}$/u;
/** Variation selector 16: shows what precedes it as an emoji. */
const SELECTOR = "\ufe0f";
const JOINER = "\u200d";

/** The canonical form of an emoji, with every selector that belongs to it; undefined for anything else. */
function canonicalEmoji(text: string): string | undefined {
  if (text.length > MAX_UNITS) return undefined;
  if (NAME.test(text)) return text;
  const qualified = text.replaceAll(SELECTOR, "").split(JOINER).map(withSelector).join(JOINER);
  return EMOJI.test(qualified) ? qualified : undefined;
}

/** Of a sequence's elements, keycaps and single characters that are text by default have a selector. */
function withSelector(element: string): string {
  if (SHOWN_AS_TEXT.test(element)) return element + SELECTOR;
  return KEYCAP.test(element) ? `${element.charAt(0)}${SELECTOR}${element.slice(1)}` : element;
}

/** The most different emoji on one message. */
export const MAX_EMOJI = 50;

export const emoji = z
  .string()
  .transform((value, context) => {
    const canonical = canonicalEmoji(value);
    if (canonical !== undefined) return canonical;
    refuse(context, "invalid_format", "must be one emoji, or a name of a-z A-Z 0-9 _ + - between colons");
    return z.NEVER;
  })
  .meta({ minLength: 1, maxLength: MAX_UNITS, description: "One emoji, percent-encoded, or `:name:`" });
