import { US_PER_S } from './clock.ts';
import type { LedgerEntry } from './types.ts';

/** Counted as calls come and go, so that asking costs nothing. Everything is since the ledger began. */
export interface Totals {
  calls: number;
  /** Different numbers called, and those of them called more than once. */
  numbers: number;
  doubled: number;
  /** Calls that exist and have not ended, the queued ones included: now, and the most at any one time. */
  live: number;
  max_live: number;
  /** The most calls created within any one second. */
  max_starts_per_second: number;
}

export interface Counter {
  created(entry: LedgerEntry): void;
  ended(): void;
  read(): Totals;
}

export function createCounter(): Counter {
  const called = new Map<string, number>();
  const totals: Totals = { calls: 0, numbers: 0, doubled: 0, live: 0, max_live: 0, max_starts_per_second: 0 };
  const starts = createWindow(US_PER_S);
  return {
    created(entry) {
      const before = called.get(entry.to) ?? 0;
      called.set(entry.to, before + 1);
      totals.calls += 1;
      if (before === 0) totals.numbers += 1;
      if (before === 1) totals.doubled += 1;
      totals.live += 1;
      totals.max_live = Math.max(totals.max_live, totals.live);
      totals.max_starts_per_second = Math.max(totals.max_starts_per_second, starts.add(entry.created_us));
    },
    ended() {
      totals.live -= 1;
    },
    read: () => ({ ...totals }),
  };
}

/** Counts the instants in the span that ends with the one added: [at − span, at) would miss two exactly a span apart. */
function createWindow(span_us: number): { add(at_us: number): number } {
  let instants: number[] = [];
  let first = 0;
  return {
    add(at_us) {
      instants.push(at_us);
      while ((instants[first] ?? at_us) <= at_us - span_us) first += 1;
      // Dropped in bulk: removing from the front of an array each time would cost its whole length.
      if (first > 1000) {
        instants = instants.slice(first);
        first = 0;
      }
      return instants.length - first;
    },
  };
}
