import { describe, expect, it } from 'vitest';
import { shareChecks } from '../src/share.ts';

function createClock() {
  const now = { ms: 0 };
  return { now, clock: { monotonicMs: () => now.ms, wallMs: () => now.ms } };
}

/** Checks that end when they are told to. */
function createChecks() {
  const begun: { key: string; end: (answer: string) => void; fail: (error: Error) => void }[] = [];
  const check = (key: string) =>
    new Promise<string>((resolve, reject) => void begun.push({ key, end: resolve, fail: reject }));
  return { begun, check };
}

/** Lets everything happen that waits for nothing but its turn. */
const settle = async () => await new Promise((resolve) => setImmediate(resolve));

describe('checks are shared', () => {
  it('by all who ask for the same while one runs, and for some seconds after', async () => {
    const { clock, now } = createClock();
    const { begun, check } = createChecks();
    const ask = shareChecks(clock, 5_000, check);
    const both = [ask('a'), ask('a')];
    await settle();
    expect(begun).toHaveLength(1);
    begun[0]?.end('first');
    expect(await Promise.all(both)).toEqual(['first', 'first']);
    now.ms = 4_999;
    expect(await ask('a')).toBe('first');
    now.ms = 5_000;
    const later = ask('a');
    await settle();
    expect(begun).toHaveLength(2);
    begun[1]?.end('second');
    expect(await later).toBe('second');
  });

  it('one after the other, whoever asks', async () => {
    const { clock } = createClock();
    const { begun, check } = createChecks();
    const ask = shareChecks(clock, 5_000, check);
    const [first, second] = [ask('a'), ask('b')];
    await settle();
    expect(begun.map(({ key }) => key)).toEqual(['a']);
    begun[0]?.fail(new Error('broken'));
    await expect(first).rejects.toThrow('broken');
    await settle();
    expect(begun.map(({ key }) => key)).toEqual(['a', 'b']);
    begun[1]?.end('fine');
    expect(await second).toBe('fine');
    // What failed is tried anew.
    const again = ask('a');
    await settle();
    begun[2]?.end('mended');
    expect(await again).toBe('mended');
  });
});
