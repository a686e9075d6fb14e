import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readPhone } from '../src/lead/phone.ts';
import { PHONE_REASONS } from '../src/lead/reasons.ts';

describe('numbers as people write them, in Israel', () => {
  it.each([
    ['0521234567', '+972521234567'],
    ['052-123-4567', '+972521234567'],
    ['(052) 123 4567', '+972521234567'],
    ['052.123.4567', '+972521234567'],
    ['052\u2011123\u20134567', '+972521234567'],
    ['052\u05BE1234567', '+972521234567'],
    ['+972521234567', '+972521234567'],
    ['+972-52-123-4567', '+972521234567'],
    ['+972 (0)52-123-4567', '+972521234567'],
    ['(+972) 52 1234567', '+972521234567'],
    ['00972521234567', '+972521234567'],
    ['00 972 52 1234567', '+972521234567'],
    ['972521234567', '+972521234567'],
    ['0972-52-1234567', '+972521234567'],
    ['\uFF0B972\uFF15\uFF12\uFF11234567', '+972521234567'],
    ['\u0660\u0665\u0662\u0661\u0662\u0663\u0664\u0665\u0666\u0667', '+972521234567'],
    ['03-1234567', '+97231234567'],
    ['03/1234567', '+97231234567'],
    ['072-1234567', '+972721234567'],
    ['1-800-123-456', '+9721800123456'],
  ])('%s', (text, phone) => {
    expect(readPhone(text, 'IL')).toEqual({ ok: true, phone });
  });
});

describe('numbers as spreadsheets and exports leave them', () => {
  it.each([
    ['the leading zero lost, mobile', '501234567', '+972501234567'],
    ['the leading zero lost, landline', '31234567', '+97231234567'],
    ['a float', '521234567.0', '+972521234567'],
    ['text by apostrophe', "'0521234567", '+972521234567'],
    ['text by formula', '="0521234567"', '+972521234567'],
    ['a link', 'tel:+972521234567', '+972521234567'],
    ['direction marks around', '\u202A+972\u202C 52-123-4567\u200F', '+972521234567'],
    ['no-break and narrow spaces', '052\u00A0123\u202F4567', '+972521234567'],
    ['a BOM and a zero-width space', '\uFEFF052\u200B1234567', '+972521234567'],
  ])('%s', (_, text, phone) => {
    expect(readPhone(text, 'IL')).toEqual({ ok: true, phone });
  });
});

describe('numbers of other countries', () => {
  it.each([
    ['+1 (202) 555-0101', 'IL', '+12025550101'],
    ['+44 7700 900123', 'IL', '+447700900123'],
    ['+44 (0)20 7946 0018', 'IL', '+442079460018'],
    ['+39 06 1234 5678', 'IL', '+390612345678'],
    ['+7 (495) 123-45-67', 'IL', '+74951234567'],
    ['(202) 555-0101', 'US', '+12025550101'],
    ['011 972 52 123 4567', 'US', '+972521234567'],
    ['00 972 52 123 4567', 'US', '+972521234567'],
    ['8 (495) 123-45-67', 'RU', '+74951234567'],
    ['01 99 00 12 34', 'FR', '+33199001234'],
  ] as const)('%s in %s', (text, country, phone) => {
    expect(readPhone(text, country)).toEqual({ ok: true, phone });
  });
});

describe('numbers with an extension', () => {
  it.each([
    ['03-1234567 שלוחה 12', '12'],
    ['03-1234567 ext. 12', '12'],
    ['03-1234567 Ext 0012', '0012'],
    ['03-1234567, extension: 12', '12'],
    ['03-1234567x12', '12'],
    ['03-1234567#12', '12'],
    ['03-1234567 (x12)', '12'],
    ['tel:+97231234567;ext=12', '12'],
    ['\uFF10\uFF13-1234567 \u200Fשלוחה\u200E \u0661\u0662', '12'],
  ])('%s', (text, extension) => {
    expect(readPhone(text, 'IL')).toEqual({ ok: true, phone: '+97231234567', extension });
  });
});

describe('what is no number, and why', () => {
  it.each([
    ['', 'empty'],
    [' \u00A0\u200F ', 'empty'],
    ['---', 'empty'],
    ['+', 'empty'],
    ['אין', 'letters'],
    ['1-800-FLOWERS', 'letters'],
    ['נייד: 0521234567', 'letters'],
    ['*2700', 'signs'],
    ['052+1234567', 'signs'],
    ['05212345?7', 'signs'],
    ['5.21235E+08', 'scientific_notation'],
    ['9,72521E+11', 'scientific_notation'],
    ['1e+11', 'scientific_notation'],
    ['0521234567 / 03-1234567', 'several_numbers'],
    ['0521234567, 0541234567', 'several_numbers'],
    ['0521234567\n0541234567', 'several_numbers'],
    ['0521234567 / 03-1234567 ext 4', 'several_numbers'],
    ['x12', 'letters'],
    ['2026-01-05', 'date'],
    ['05/01/2026 10:00', 'date'],
    ['+999123456789', 'unknown_country'],
    ['+0521234567', 'unknown_country'],
    ['1', 'too_short'],
    ['144', 'too_short'],
    ['+972', 'too_short'],
    ['+97252', 'too_short'],
    ['0521234567890123', 'too_long'],
    ['+9725212345678901', 'too_long'],
    ['9'.repeat(5_000), 'too_long'],
    ['052-12345678', 'impossible'],
    ['052-123456', 'impossible'],
    ['0621234567', 'impossible'],
  ])('%s: %s', (text, reason) => {
    expect(readPhone(text, 'IL')).toEqual({ ok: false, reason });
    expect(PHONE_REASONS).toHaveProperty(reason);
  });
});

describe('any number', () => {
  const prefixes = ['50', '52', '54', '55', '58', '72', '77'];
  const number = fc.tuple(fc.constantFrom(...prefixes), fc.stringMatching(/^\d{7}$/));
  // No slash: between two runs of seven digits it parts two numbers.
  const separator = fc.constantFrom('', '-', ' ', '.', '\u00A0', '\u200E', '\u2011');
  const lead = fc.constantFrom('0', '', '+972', '+972 ', '00972', '972', '+972 (0)', '\u202A+972-', "'0", '\u200F0');

  it('is the same one however it is written', () => {
    fc.assert(
      fc.property(number, lead, separator, separator, ([prefix, rest], start, one, two) => {
        const written = `${start}${prefix}${one}${rest.slice(0, 3)}${two}${rest.slice(3)}`;
        expect(readPhone(written, 'IL')).toEqual({ ok: true, phone: `+972${prefix}${rest}` });
      }),
    );
  });

  it('that was read is read again as itself, whatever the country', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.stringMatching(/^\+?\d{5,14}$/), (junk, digits) => {
        for (const text of [junk, digits]) {
          const read = readPhone(text, 'IL');
          if (!read.ok) expect(PHONE_REASONS).toHaveProperty(read.reason);
          else {
            expect(read.phone).toMatch(/^\+[1-9]\d{6,14}$/);
            expect(readPhone(read.phone, 'US')).toEqual(read);
          }
        }
      }),
      { numRuns: 1_000 },
    );
  });
});
