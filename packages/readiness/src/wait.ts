import { setTimeout as pause } from 'node:timers/promises';
import type { Clock } from '@carillon/engine';

/** Until when something is waited for, and by which clock. */
export interface Patience {
  clock: Clock;
  until_monotonic_ms: number;
  stop: AbortSignal | undefined;
}

const LOOK_EVERY_MS = 50;

/** Asks again and again until `look` gives something truthy; null when the patience ends before. */
export async function waitFor<T>(
  { clock, until_monotonic_ms, stop }: Patience,
  look: () => Promise<T | null>,
): Promise<T | null> {
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (stop?.aborted || clock.monotonicMs() >= until_monotonic_ms) return null;
    await pause(LOOK_EVERY_MS);
  }
}
