import type { Clock } from '@carillon/engine';

/**
 * One check at a time, and a fresh answer for all who ask within `fresh_ms`: whoever asks again and again costs the
 * database no more than one check.
 */
export function shareCheck<T>(clock: Clock, fresh_ms: number, check: () => Promise<T>): () => Promise<T> {
  let last: { answer: Promise<T>; ended_monotonic_ms: number | null } | null = null;
  return async () => {
    const ended_ms = last?.ended_monotonic_ms ?? null;
    if (last && (ended_ms === null || clock.monotonicMs() - ended_ms < fresh_ms)) return await last.answer;
    const mine: NonNullable<typeof last> = { answer: check(), ended_monotonic_ms: null };
    last = mine;
    try {
      return await mine.answer;
    } catch (error) {
      // The next one who asks tries anew.
      if (last === mine) last = null;
      throw error;
    } finally {
      mine.ended_monotonic_ms = clock.monotonicMs();
    }
  };
}
