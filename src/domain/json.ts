// When two values mean the same as JSON.

/**
 * Whether both are the same JSON: the order of an object's members does not count, and members that are undefined are
 * not there.
 */
export const sameJson = (one: unknown, other: unknown): boolean =>
  JSON.stringify(ordered(one)) === JSON.stringify(ordered(other));

/** Objects as sorted lists of members, told apart from arrays, so that alike values give alike text. */
function ordered(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return ["array", ...value.map(ordered)];
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, member]) => [name, ordered(member)]);
  return ["object", ...members];
}
