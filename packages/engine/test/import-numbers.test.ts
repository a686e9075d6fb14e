import fc from 'fast-check';
import { type CountryCode, getExampleNumber, type PhoneNumber } from 'libphonenumber-js/max';
import examples from 'libphonenumber-js/mobile/examples';
import { describe, expect, it } from 'vitest';
import { readPhone } from '../src/lead/phone.ts';

/** Of all continents; with and without a national prefix, with lengths that vary, and with codes that are shared. */
const COUNTRIES = [
  'IL',
  'PS',
  'US',
  'CA',
  'GB',
  'FR',
  'DE',
  'IT',
  'ES',
  'RU',
  'UA',
  'PL',
  'TR',
  'IN',
  'CN',
  'JP',
  'AU',
  'BR',
  'MX',
  'ZA',
  'AR',
  'EG',
  'AE',
  'ET',
  'SG',
  'NL',
] as const satisfies readonly CountryCode[];

/** What goes out of a country to another, where that is not 00. */
const ABROAD: Partial<Record<CountryCode, string>> = {
  US: '011',
  CA: '011',
  RU: '810',
  JP: '010',
  AU: '0011',
  SG: '001',
};

const exampleOf = (country: CountryCode): PhoneNumber => {
  const number = getExampleNumber(country, examples);
  if (!number) throw new Error(`no example of ${country}`);
  return number;
};

/** A number with each of its digits from the middle on replaced, where that leaves a valid one. */
const numbers = fc.tuple(fc.constantFrom(...COUNTRIES), fc.stringMatching(/^\d{4}$/)).map(([country, end]) => {
  const example = exampleOf(country);
  const changed = exampleOf(country);
  changed.nationalNumber = `${example.nationalNumber.slice(0, -4)}${end}` as typeof changed.nationalNumber;
  changed.number = `+${example.countryCallingCode}${changed.nationalNumber}` as typeof changed.number;
  return { country, number: changed.isValid() ? changed : example };
});

const SIGNS = ['-', '.', ' ', '\u00A0', '\u2011', '\u2013', '\u202F', '/'] as const;
type Writing = (number: PhoneNumber, sign: string) => string;
const writeAs = (text: string, sign: string) => text.replaceAll(/[\s-]+/g, sign);

/** Of the number's own country. */
const NATIONAL: Record<string, Writing> = {
  'as its country writes it': (number) => number.formatNational(),
  'with other signs between': (number, sign) => writeAs(number.formatNational(), sign),
  'with digits alone': (number) => number.formatNational().replace(/\D/g, ''),
  'as text by a formula': (number) => `="${number.formatNational()}"`,
  'behind an apostrophe': (number) => `'${number.formatNational().replace(/\D/g, '')}`,
  'between direction marks': (number) => `\u202A${number.formatNational()}\u202C\u200F`,
};
/** Of any country. */
const INTERNATIONAL: Record<string, Writing> = {
  'as E.164': (number) => number.number,
  'as others write it': (number) => number.formatInternational(),
  'with other signs between': (number, sign) => writeAs(number.formatInternational(), sign),
  'as a link': (number) => number.getURI(),
  'with brackets around the code': (number) => `(+${number.countryCallingCode}) ${number.nationalNumber}`,
  'with full-width digits': (number) =>
    number.number.replace(/[+\d]/g, (sign) => String.fromCharCode(sign.charCodeAt(0) + 0xfee0)),
  'with Arabic digits': (number) => number.number.replace(/\d/g, (digit) => String.fromCharCode(0x660 + Number(digit))),
  'between direction marks': (number) => `\u200E${number.formatInternational()}\u200E`,
};

// Groups of seven digits or more on both sides of a slash are two numbers.
const sign = (text: string) => fc.constantFrom(...SIGNS).filter((one) => one !== '/' || !/\d{7}/.test(text));

describe.each(Object.entries(NATIONAL))('a number of its own country, %s', (_, write) => {
  it('is the same one', () => {
    fc.assert(
      fc.property(
        numbers.chain((one) => sign(one.number.formatNational()).map((s) => [one, s] as const)),
        ([{ country, number }, s]) => {
          expect(readPhone(write(number, s), country)).toEqual({ ok: true, phone: number.number });
        },
      ),
      { numRuns: 600 },
    );
  });
});

describe.each(Object.entries(INTERNATIONAL))('a number of any country, %s', (_, write) => {
  it('is the same one, wherever it is read', () => {
    fc.assert(
      fc.property(
        numbers,
        fc.constantFrom(...COUNTRIES),
        fc.constantFrom('-', '.', ' ', '\u00A0'),
        ({ number }, country, s) => {
          expect(readPhone(write(number, s), country)).toEqual({ ok: true, phone: number.number });
        },
      ),
      { numRuns: 600 },
    );
  });
});

/** Where 00 may also be the beginning of another prefix, or of a number at home. */
const ZEROS_ARE_OTHERS = new Set<CountryCode>(['SG', 'JP', 'AU', 'BR']);

it('a number dialled out of a country is the same one, and never another', () => {
  fc.assert(
    fc.property(numbers, fc.constantFrom(...COUNTRIES), ({ number }, country) => {
      for (const prefix of ['00', ABROAD[country] ?? '00']) {
        const read = readPhone(`${prefix} ${number.number.slice(1)}`, country);
        const clear = !ZEROS_ARE_OTHERS.has(country);
        if (read.ok || clear) expect(read).toEqual({ ok: true, phone: number.number });
        else expect(read.reason).toBe('ambiguous_prefix');
      }
    }),
    { numRuns: 3_000 },
  );
});

it('every kind of example of these countries is read, in each of its writings', () => {
  for (const country of COUNTRIES) {
    const number = exampleOf(country);
    for (const [name, write] of Object.entries(NATIONAL))
      expect([country, name, readPhone(write(number, ' '), country)]).toEqual([
        country,
        name,
        { ok: true, phone: number.number },
      ]);
    for (const [name, write] of Object.entries(INTERNATIONAL))
      expect([country, name, readPhone(write(number, ' '), 'IL')]).toEqual([
        country,
        name,
        { ok: true, phone: number.number },
      ]);
  }
});
