import { setTimeout as pause } from 'node:timers/promises';

/**
 * Asks again and again until `predicate` gives something truthy, and returns that. Throws after `deadline_ms`, with
 * `what` was waited for and what the predicate threw last: one that throws is asked again, like one that says no.
 */
export async function until<T>(
  predicate: () => T | Promise<T>,
  options: { deadline_ms: number; every_ms?: number; what?: string },
): Promise<Exclude<T, false | 0 | '' | null | undefined>> {
  const late = performance.now() + options.deadline_ms;
  for (;;) {
    let failure: unknown;
    try {
      const value = await predicate();
      if (value) return value as Exclude<T, false | 0 | '' | null | undefined>;
    } catch (error) {
      failure = error;
    }
    if (performance.now() >= late)
      throw new Error(`not within ${options.deadline_ms} ms: ${options.what ?? predicate.toString()}`, {
        cause: failure,
      });
    await pause(options.every_ms ?? 20);
  }
}
