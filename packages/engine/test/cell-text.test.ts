import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cellText, original, plain } from '../src/lead/text.ts';

describe('a value as it is kept', () => {
  it.each([
    ['  Dana  ', 'Dana'],
    ['\u200Fדנה\u200E \u202Aכהן\u202C', 'דנה כהן'],
    ['a\u00A0b\u202Fc\u3000', 'a b c'],
    ['="007"', '007'],
    ["'=1+1", '=1+1'],
    ["'+972", '+972'],
    ["'אבו", "'אבו"],
    ['=1+1', '=1+1'],
    ['x\0y\u0007', 'xy'],
    ['a\tb\nc', 'a\tb\nc'],
    ['half \uD83D', 'half \uFFFD'],
    // Joiners make one picture of two, and belong to some scripts.
    ['👩\u200D💻 می\u200Cخواهم', '👩\u200D💻 می\u200Cخواهم'],
  ])('%j is %j', (text, kept) => {
    expect(cellText(text)).toBe(kept);
  });

  it('is cleaned once and for all, and can be stored', () => {
    const unit = fc.constantFrom(
      'a',
      'ש',
      ' ',
      '=',
      '"',
      "'",
      '+',
      '\0',
      '\uD800',
      '\u200F',
      '\u00A0',
      '\uFEFF',
      '\n',
      '😀',
    );
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit }), fc.string({ unit: 'binary' })), (text) => {
        const kept = cellText(text);
        expect(kept.isWellFormed()).toBe(true);
        expect(kept).not.toMatch(/[\0\u200E\u200F\uFEFF\u00A0]|^\s|\s$/);
        expect(original(text, 20).isWellFormed()).toBe(true);
        expect(original(text, 20)).not.toContain('\0');
        expect(plain(kept)).toBe(plain(plain(kept)));
      }),
      { numRuns: 3_000 },
    );
  });
});
