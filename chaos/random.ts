import { createHash } from 'node:crypto';

/** Chance that a seed replays. */
export interface Random {
  /** From 0 up to, and never, 1. */
  next(): number;
  /** From `low` up to, and never, `high`. */
  between(low: number, high: number): number;
  /** A whole number from `low` to `high`, both included. */
  whole(low: number, high: number): number;
  chance(probability: number): boolean;
  /** @throws RangeError where there is nothing to choose from */
  pick<T>(items: readonly T[]): T;
  /** By weights. @throws RangeError where none is above 0 */
  weighted<Name extends string>(weights: Readonly<Record<Name, number>>): Name;
}

/** What one part draws does not depend on how much another one has drawn: each has words of its own. */
export function createRandom(seed: number, ...words: (string | number)[]): Random {
  let state = createHash('sha256')
    .update([seed, ...words].join('\0'))
    .digest()
    .readUInt32LE(0);
  // mulberry32
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    next,
    between: (low, high) => low + next() * (high - low),
    whole: (low, high) => low + Math.floor(next() * (high - low + 1)),
    chance: (probability) => next() < probability,
    pick(items) {
      const index = Math.floor(next() * items.length);
      if (index >= items.length) throw new RangeError('nothing to choose from');
      return items[index] as (typeof items)[number];
    },
    weighted<Name extends string>(weights: Readonly<Record<Name, number>>) {
      const entries = Object.entries<number>(weights).filter(([, weight]) => weight > 0) as [Name, number][];
      let left = next() * entries.reduce((sum, [, weight]) => sum + weight, 0);
      for (const [name, weight] of entries) {
        if (left < weight) return name;
        left -= weight;
      }
      const last = entries.at(-1);
      if (!last) throw new RangeError('nothing has a weight');
      return last[0];
    },
  };
}
