// The smallest metadata on purpose: it knows each country's lengths and the general form of its numbers, not which
// ranges are handed out today. Ranges change faster than libraries are updated, and a number refused for a range that
// we do not know is a lead lost, while one that nobody has costs one refusal by the carrier. It also takes the
// fictional numbers that trials are made with (050-1…, 07700 900…), which the larger metadata refuses.
import {
  type CountryCode,
  getCountryCallingCode,
  ParseError,
  parsePhoneNumberWithError,
  validatePhoneNumberLength,
} from 'libphonenumber-js/min';
import { plain } from './text.ts';

/** Why a text is no number that can be called: code and English text. */
export const PHONE_REASONS = {
  empty: 'there is no number',
  letters: 'it has letters in it',
  signs: 'it has signs in it that belong in no phone number',
  scientific_notation: 'a spreadsheet has rounded the number; format the column as text and export it again',
  several_numbers: 'there is more than one number; keep one',
  extension: 'it has an extension, and an extension can not be dialled',
  unknown_country: 'it begins with a country code that does not exist',
  too_short: 'it has too few digits',
  too_long: 'it has too many digits',
  impossible: 'its country has no numbers of this length with this beginning',
} as const;
export type PhoneReason = keyof typeof PHONE_REASONS;

export type PhoneResult = { ok: true /** E.164 */; phone: string } | { ok: false; reason: PhoneReason };

const TEXT_CHARS_MAX = 64;
const SCIENTIFIC = /^[+-]?\d+([.,]\d+)?e[+-]?\d+$/i;
/** A number is left in front of these: dialling it would reach a switchboard, and without them somebody else. */
const EXTENSION = /\d[\s;,]*(ext(ension)?\.?|x|#|שלוחה|доб\.?)\s*[=:.]?\s*\d{1,7}$/i;
const PUNCTUATION = /[\s().\-\u2010-\u2015\u2212\u05BE~_/\\'"`\u05F3\u05F4]/g;
const E164 = /^\+[1-9]\d{6,14}$/;

/**
 * Reads a phone number as people and spreadsheets write it, to E.164. `country` is where numbers without a country
 * code belong. Understood: any punctuation, 00 and + in front, a zero in brackets after the country code, the leading
 * zero that a spreadsheet dropped, Arabic-Indic digits, `="052…"`, `'052…`, `tel:`, a float's `.0`, invisible
 * direction marks. An extension is refused and not dropped.
 */
export function readPhone(text: string, country: CountryCode): PhoneResult {
  const written = unwrap(plain(text));
  if (written === '') return refuse('empty');
  if (SCIENTIFIC.test(written)) return refuse('scientific_notation');
  if (holdsSeveral(written)) return refuse('several_numbers');
  if (EXTENSION.test(written)) return refuse('extension');
  if (/\p{L}/u.test(written)) return refuse('letters');
  const digits = written.replace(PUNCTUATION, '').replace(/^00/, '+');
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

function toAsciiDigits(text: string): string {
  return text.replace(/[\u0660-\u0669\u06F0-\u06F9]/g, (digit) => String(digit.charCodeAt(0) & 0xf));
}

function holdsSeveral(text: string): boolean {
  return text.split(/[/;,|\n]/).filter((part) => part.replace(/\D/g, '').length >= 7).length > 1;
}

function parse(digits: string, country: CountryCode): PhoneResult {
  if (digits.length > TEXT_CHARS_MAX) return refuse('too_long');
  const first = parseOnce(digits, country);
  if (first.ok || digits.startsWith('+')) return first;
  // 0972…: the country code with a zero too many in front. Only what is no number otherwise gets here.
  const bare = digits.replace(/^0+/, '');
  const second = bare.startsWith(getCountryCallingCode(country)) ? parseOnce(`+${bare}`, country) : first;
  return second.ok ? second : first;
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
