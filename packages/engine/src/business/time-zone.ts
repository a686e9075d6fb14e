const NAMED = /^([A-Za-z]+(\/[A-Za-z0-9_+-]+)+|UTC)$/;

/** Zones found good, in lower case: asking costs as much as reading a line. Bounded by the database's few hundred names. */
const known = new Set<string>();

/**
 * Whether a text names a time zone of the IANA database. Bare offsets such as +02:00 are refused: they know no summer
 * time, and PostgreSQL reads their sign the other way round.
 */
export function isTimeZone(text: string): boolean {
  const zone = text.toLowerCase();
  if (known.has(zone)) return true;
  if (!NAMED.test(text) || !isKnownToIntl(text)) return false;
  known.add(zone);
  return true;
}

function isKnownToIntl(text: string): boolean {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: text }).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
}
