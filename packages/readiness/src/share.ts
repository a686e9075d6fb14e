import type { Clock } from '@carillon/engine';

interface Kept<T> {
  answer: Promise<T>;
  /** Null while the check runs. */
  ended_monotonic_ms: number | null;
}

/**
 * One check at a time, and one answer for all who ask for the same within `fresh_ms`: whoever asks again and again costs
 * the database no more than one check after the other.
 */
export function shareChecks<Key, T>(
  clock: Clock,
  fresh_ms: number,
  check: (key: Key) => Promise<T>,
): (key: Key) => Promise<T> {
  const kept = new Map<Key, Kept<T>>();
  let last: Promise<unknown> = Promise.resolve();

  function isFresh({ ended_monotonic_ms }: Kept<T>): boolean {
    return ended_monotonic_ms === null || clock.monotonicMs() - ended_monotonic_ms < fresh_ms;
  }

  return async (key) => {
    for (const [name, one] of kept) if (!isFresh(one)) kept.delete(name);
    const known = kept.get(key);
    if (known) return await known.answer;
    const answer = last.then(() => check(key));
    // Nobody waits for an error of somebody else's check.
    last = answer.catch(() => {});
    const mine: Kept<T> = { answer, ended_monotonic_ms: null };
    kept.set(key, mine);
    try {
      return await answer;
    } catch (error) {
      // The next one who asks tries anew.
      kept.delete(key);
      throw error;
    } finally {
      mine.ended_monotonic_ms = clock.monotonicMs();
    }
  };
}
