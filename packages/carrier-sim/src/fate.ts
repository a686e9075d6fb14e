import type { Outcome, Plan } from './types.ts';
import type { Range, Settings } from './behaviour.ts';

/**
 * Chance that does not depend on order: the same seed and the same words always give the same number. So a number's
 * fate is the same whichever worker calls it, and whenever.
 */
export function chance(seed: number, ...words: (string | number)[]): number {
  let hash = 0x811c9dc5 ^ seed;
  for (const word of words) {
    const text = String(word);
    for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
    // A separator, so that ('a', 'bc') is not ('ab', 'c').
    hash = Math.imul(hash ^ 0x1f, 0x01000193);
  }
  // FNV alone leaves the high bits of similar texts alike; this is murmur3's finaliser.
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32;
}

/** Draws for one create request: `nth` is how manyeth request of its account for this number it is. */
export type Draw = (what: string) => number;

export function drawFor(seed: number, to: string, nth: number): Draw {
  return (what) => chance(seed, to, nth, what);
}

export function pickRange([low, high]: Range, draw: number): number {
  return low + (high - low) * draw;
}

export function drawPlan(settings: Settings, draw: Draw): Plan {
  const outcome = pickOutcome(settings.outcomes, draw('outcome'));
  return {
    outcome,
    ring_ms: Math.round(pickRange(settings.ring_ms, draw('ring'))),
    talk_ms: Math.round(pickRange(settings.talk_ms, draw('talk'))),
    // A machine presses no keys.
    digits: outcome === 'answered' ? settings.digits : '',
  };
}

function pickOutcome(weights: Settings['outcomes'], draw: number): Outcome {
  const entries = Object.entries(weights) as [Outcome, number][];
  let left = draw * entries.reduce((sum, [, weight]) => sum + weight, 0);
  for (const [outcome, weight] of entries) {
    if (left < weight) return outcome;
    left -= weight;
  }
  // Rounding may leave a crumb behind the last weight.
  return entries.findLast(([, weight]) => weight > 0)?.[0] ?? 'answered';
}
