import { setTimeout as pause } from 'node:timers/promises';

/** Asks again and again until it gets something; what the question throws counts as nothing. Throws after `deadline_ms`. */
export async function until<T>(
  ask: () => T | Promise<T>,
  options: { deadline_ms: number; every_ms?: number; what: string },
): Promise<Exclude<T, false | 0 | '' | null | undefined>> {
  const late_ms = performance.now() + options.deadline_ms;
  for (;;) {
    let failure: unknown;
    try {
      const value = await ask();
      if (value) return value as Exclude<T, false | 0 | '' | null | undefined>;
    } catch (error) {
      failure = error;
    }
    if (performance.now() >= late_ms)
      throw new Error(`not within ${options.deadline_ms} ms: ${options.what}`, { cause: failure });
    await pause(options.every_ms ?? 50);
  }
}

/**
 * Microseconds since 1970, by the clock that all processes of a trial share; rounded up, so that what was over before
 * is not taken to be later.
 */
export const nowUs = (): number => Date.now() * 1_000 + 999;
