import { describe, expect, it } from 'vitest';
import { formatJobId, parseJobId, RunId, Seq } from '../src/index.ts';

describe('an id', () => {
  it('is a whole positive number or its digits, and nothing that merely turns into one', () => {
    for (const good of [1, 42, '42', Number.MAX_SAFE_INTEGER]) expect(RunId.safeParse(good).success).toBe(true);
    for (const bad of [
      true,
      [5],
      null,
      '',
      ' 5',
      '0x10',
      '1e3',
      '05',
      0,
      -1,
      1.5,
      2 ** 53,
      '99999999999999999',
      Number.NaN,
    ])
      expect(RunId.safeParse(bad).success, String(bad)).toBe(false);
    expect(RunId.parse('42')).toBe(42);
    expect(Seq.safeParse(2_147_483_648).success).toBe(false);
  });

  it('of a job names its run and its number, and no bare number is one', () => {
    expect(parseJobId('12-34')).toEqual({ run_id: 12, seq: 34 });
    expect(formatJobId({ run_id: RunId.parse(12), seq: Seq.parse(34) })).toBe('12-34');
    for (const bad of ['12', '12-', '-34', '0-1', '1-0', '1-2-3', '1-9999999999', 'a-b', '01-2'])
      expect(parseJobId(bad), bad).toBeNull();
  });
});
