import type { CountryCode } from 'libphonenumber-js/min';

/** That a person agreed to be called. */
export interface Consent {
  source: string | null;
  /** ISO 8601, UTC. */
  given_at: string | null;
  text: string | null;
}

/** Where dates are written with the month first. */
const MONTH_FIRST = new Set<CountryCode>(['US', 'PH', 'PR', 'GU', 'VI', 'AS', 'MP']);
const WITH_ZONE = /^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?\s*(Z|[+-]\d{2}:?\d{2})$/i;
const YEAR_FIRST = /^(?<year>\d{4})[-/.](?<month>\d{1,2})[-/.](?<day>\d{1,2})/;
const YEAR_LAST = /^(?<one>\d{1,2})[-/.](?<two>\d{1,2})[-/.](?<year>\d{4})/;
const TIME = /^(?:$|[T ,]+(?<hour>\d{1,2}):(?<minute>\d{2})(?::(?<second>\d{2})(?:\.\d+)?)?\s*(?<half>[ap]m)?$)/i;

/**
 * Reads a moment as lists have it: ISO 8601, or a date (year first, or last with the day before the month but in the
 * United States) with or without a time, which is the business's. Null for what is none.
 */
export function readMoment(text: string, country: CountryCode, time_zone: string): string | null {
  if (WITH_ZONE.test(text)) return isoOf(() => Temporal.Instant.from(withColon(text)));
  const date = YEAR_FIRST.exec(text) ?? YEAR_LAST.exec(text);
  const time = TIME.exec(text.slice(date?.[0].length).trimEnd());
  if (!date?.groups || !time) return null;
  const { year, one, two } = date.groups;
  const [day, month] = MONTH_FIRST.has(country) ? [two, one] : [one, two];
  return isoOf(() =>
    Temporal.ZonedDateTime.from(
      {
        timeZone: time_zone,
        year: Number(year),
        month: Number(date.groups?.month ?? month),
        day: Number(date.groups?.day ?? day),
        hour: hourOf(time.groups?.hour, time.groups?.half),
        minute: Number(time.groups?.minute ?? 0),
        second: Number(time.groups?.second ?? 0),
      },
      { overflow: 'reject' },
    ).toInstant(),
  );
}

function hourOf(hour: string | undefined, half: string | undefined): number {
  if (!half) return Number(hour ?? 0);
  return (Number(hour) % 12) + (half.toLowerCase() === 'pm' ? 12 : 0);
}

function withColon(text: string): string {
  return text
    .replace(' ', 'T')
    .replaceAll(' ', '')
    .replace(/([+-]\d{2})(\d{2})$/, '$1:$2');
}

function isoOf(read: () => Temporal.Instant): string | null {
  try {
    return read().toString();
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}
