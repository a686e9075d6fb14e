// The smallest metadata on purpose: it knows each country's lengths and the general form of its numbers, not which
// ranges are handed out today. Ranges change faster than libraries are updated, and a number refused for a range that
// we do not know is a lead lost, while one that nobody has costs one refusal by the carrier. It also takes the
// fictional numbers that trials are made with (050-1…, 07700 900…), which the larger metadata refuses.
import {
  type CountryCode,
  getCountryCallingCode,
  Metadata,
  ParseError,
  parsePhoneNumberWithError,
  validatePhoneNumberLength,
} from 'libphonenumber-js/min';
import type { PhoneReason } from './reasons.ts';
import { plain } from './text.ts';

/** `extension`: digits to press once the call is answered; nobody does that by itself. */
export type PhoneResult =
  | { ok: true /** E.164 */; phone: string; extension?: string }
  | { ok: false; reason: PhoneReason };

const TEXT_CHARS_MAX = 64;
const SCIENTIFIC = /^[+-]?\d+([.,]\d+)?e[+-]?\d+$/i;
/** What follows the number of a switchboard. */
const EXTENSION = /(?<=\d)[\s;,()-]*(?:ext(?:ension)?\.?|x|#|שלוחה|שלוח'|доб\.?)\s*[=:.]?\s*(?<digits>\d{1,7})\s*\)?$/i;
/** What a spreadsheet makes of `05-1234` or `1/2`. Years of our time only: a number may look alike. */
const DATE =
  /^((19|20)\d{2}[-/.](0?[1-9]|1[0-2])[-/.](0?[1-9]|[12]\d|3[01])|(0?[1-9]|[12]\d|3[01])[-/.](0?[1-9]|[12]\d|3[01])[-/.](19|20)\d{2})([ T].*)?$/;
const PUNCTUATION = /[\s().\-\u2010-\u2015\u2212\u05BE~_/\\'"`\u05F3\u05F4]/g;
const E164 = /^\+[1-9]\d{6,14}$/;

/**
 * Reads a phone number as people and spreadsheets write it, to E.164. `country` is where numbers without a country
 * code belong. Understood: any punctuation, 00 and + in front, a zero in brackets after the country code, the leading
 * zero that a spreadsheet dropped, Arabic-Indic digits, `="052…"`, `'052…`, `tel:`, a float's `.0`, invisible
 * direction marks. An extension is told apart and given beside the number.
 */
export function readPhone(text: string, country: CountryCode): PhoneResult {
  const written = unwrap(plain(text));
  if (written === '') return refuse('empty');
  if (SCIENTIFIC.test(written)) return refuse('scientific_notation');
  if (DATE.test(written)) return refuse('date');
  const extension = EXTENSION.exec(written);
  if (!extension) return readBare(written, country);
  const number = readBare(written.slice(0, extension.index), country);
  return number.ok ? { ...number, extension: extension.groups?.digits ?? '' } : number;
}

function readBare(written: string, country: CountryCode): PhoneResult {
  if (holdsSeveral(written)) return refuse('several_numbers');
  if (/\p{L}/u.test(written)) return refuse('letters');
  const digits = written.replace(PUNCTUATION, '');
  if (digits === '' || digits === '+') return refuse('empty');
  if (!/^\+?\d+$/.test(digits)) return refuse('signs');
  return parse(digits, country);
}

/** What spreadsheets and exports put around a number. */
function unwrap(text: string): string {
  return toAsciiDigits(text)
    .replace(/^="(.*)"$/, '$1')
    .replace(/^'/, '')
    .replace(/^tel:/i, '')
    .replace(/^(\+?\d+)\.0+$/, '$1')
    .trim();
}

export function toAsciiDigits(text: string): string {
  return text.replace(/[\u0660-\u0669\u06F0-\u06F9]/g, (digit) => String(digit.charCodeAt(0) & 0xf));
}

function holdsSeveral(text: string): boolean {
  return text.split(/[/;,|\n]/).filter((part) => part.replace(/\D/g, '').length >= 7).length > 1;
}

function parse(digits: string, country: CountryCode): PhoneResult {
  if (digits.length > TEXT_CHARS_MAX) return refuse('too_long');
  if (digits.startsWith('00')) return parseAbroad(digits, country);
  const first = parseOnce(digits, country);
  if (first.ok || digits.startsWith('+')) return first;
  // 0972…: the country code with a zero too many in front. Only what is no number otherwise gets here.
  const bare = digits.replace(/^0+/, '');
  const second = bare.startsWith(getCountryCallingCode(country)) ? parseOnce(`+${bare}`, country) : first;
  return second.ok ? second : first;
}

/**
 * Everybody writes 00 for abroad, also where other digits are dialled; and some countries dial 001 or 0011. What could be
 * two numbers is neither: Singapore's 001 65… must not become one of the United States.
 */
function parseAbroad(digits: string, country: CountryCode): PhoneResult {
  const usual = prefixAbroad(country);
  if (usual !== undefined && digits.startsWith(usual)) {
    const dialled = parseOnce(`+${digits.slice(usual.length)}`, country);
    if (dialled.ok) return dialled;
  }
  const [written, dialled] = [parseOnce(`+${digits.slice(2)}`, country), parseOnce(digits, country)];
  if (written.ok && dialled.ok && written.phone !== dialled.phone) return refuse('ambiguous_prefix');
  return dialled.ok ? dialled : written;
}

/** Where a country has several, the usual one: 0011 in Australia. */
function prefixAbroad(country: CountryCode): string | undefined {
  const metadata = new Metadata();
  metadata.selectNumberingPlan(country);
  return metadata.numberingPlan?.defaultIDDPrefix();
}

function parseOnce(digits: string, country: CountryCode): PhoneResult {
  try {
    const number = parsePhoneNumberWithError(digits, { defaultCountry: country, extract: false });
    // Where several countries share a code (+1, +44, +7) and none of them claims the number, its length must do.
    const formed = number.country === undefined || number.isValid();
    if (formed && number.isPossible() && E164.test(number.number)) return { ok: true, phone: number.number };
    const length = validatePhoneNumberLength(number.number);
    return refuse(length === 'TOO_SHORT' ? 'too_short' : length === 'TOO_LONG' ? 'too_long' : 'impossible');
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    return refuse(PARSE_ERRORS[error.message] ?? 'impossible');
  }
}

const PARSE_ERRORS: Record<string, PhoneReason> = {
  INVALID_COUNTRY: 'unknown_country',
  NOT_A_NUMBER: 'too_short',
  TOO_SHORT: 'too_short',
  TOO_LONG: 'too_long',
};

function refuse(reason: PhoneReason): PhoneResult {
  return { ok: false, reason };
}
