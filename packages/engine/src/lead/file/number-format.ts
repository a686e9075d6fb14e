/** How a spreadsheet shows a number, as far as it matters here. */
export type NumberFormat = { kind: 'general' } | { kind: 'date' } | { kind: 'digits'; code: string };

const GENERAL: NumberFormat = { kind: 'general' };
const DATE: NumberFormat = { kind: 'date' };

/** Of the formats that every workbook has: 14 to 22 and 45 to 47 are dates and times, and those of East Asia too. */
export function builtInFormat(id: number): NumberFormat {
  const date = (id >= 14 && id <= 22) || (id >= 27 && id <= 36) || (id >= 45 && id <= 47) || (id >= 50 && id <= 58);
  return date ? DATE : GENERAL;
}

/** Of a format's code, such as `000-0000000` or `dd/mm/yyyy`: its first section, which is for positive numbers. */
export function readFormat(code: string): NumberFormat {
  const [first = ''] = code.split(';', 1);
  const bare = first.replace(/\[[^\]]*\]/g, '');
  const signs = bare.replace(/"[^"]*"|\\.|_./g, '');
  if (/general|@|e[+-]/i.test(signs)) return GENERAL;
  if (/[ymdhs]/i.test(signs)) return DATE;
  // What only pads and divides digits; anything else (decimals, thousands, percent) is not how a phone number is shown.
  return /^[0#?\-() +/]+$/.test(signs) && /[0#?]/.test(signs) && bare.includes('0')
    ? { kind: 'digits', code: bare }
    : GENERAL;
}

/**
 * A number as text. Digits as the format shows them, zeros in front included; a date in ISO 8601; anything else in
 * full and never in scientific notation. `value` is as the file has it: `5.01234567E8`, `501234567`, `0.5`.
 */
export function formatNumber(value: string, format: NumberFormat, date1904: boolean): string {
  const number = Number(value);
  if (value.trim() === '' || !Number.isFinite(number)) return value;
  if (format.kind === 'date') return formatDate(number, date1904) ?? plainNumber(number);
  if (format.kind === 'digits' && Number.isSafeInteger(number) && number >= 0) return fillDigits(format.code, number);
  return plainNumber(number);
}

function plainNumber(number: number): string {
  if (Number.isInteger(number) && Math.abs(number) < 1e21) return number.toFixed(0);
  return String(number);
}

const DAY_MS = 86_400_000;
/** Serial number of 1970-01-01: counted from the end of 1899, or from 1904. */
const EPOCH_1900 = 25_569;
const EPOCH_1904 = 24_107;

function formatDate(serial: number, date1904: boolean): string | null {
  const ms = Math.round((serial - (date1904 ? EPOCH_1904 : EPOCH_1900)) * DAY_MS);
  if (serial < 0 || serial > 2_958_466) return null;
  const [date = '', time = ''] = new Date(Math.round(ms / 1_000) * 1_000).toISOString().slice(0, 19).split('T');
  if (serial < 1) return time;
  return time === '00:00:00' ? date : `${date} ${time.replace(/:00$/, '')}`;
}

function fillDigits(code: string, number: number): string {
  const tokens = code.match(/"[^"]*"|\\.|_.|./g) ?? [];
  const places = tokens.filter(isPlace);
  const padded = places.indexOf('0');
  const digits = number.toFixed(0).padStart(padded < 0 ? 0 : places.length - padded, '0');
  let left = digits.length;
  let open = places.length;
  const shown: string[] = [];
  for (const token of tokens.toReversed()) {
    if (!isPlace(token)) shown.push(literal(token));
    else {
      open--;
      // The first place takes all digits that are left.
      const take = open === 0 ? left : Math.min(1, left);
      shown.push(digits.slice(left - take, left));
      left -= take;
    }
  }
  return shown.toReversed().join('').trim();
}

const isPlace = (token: string) => token === '0' || token === '#' || token === '?';

function literal(token: string): string {
  if (token.startsWith('"')) return token.slice(1, -1);
  if (token.startsWith('\\')) return token.slice(1);
  return token.startsWith('_') ? ' ' : token;
}
