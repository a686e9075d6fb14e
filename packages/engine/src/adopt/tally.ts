import type { Conclusion } from './conclude.ts';
import type { DropReason, TakenStatus } from './judge.ts';

type Count<Key extends string> = Partial<Record<Key, number>>;

/**
 * What became of an old installation's rows, counted while they are sorted. `read` is the sum of the others.
 * Samples are old ids, never numbers or names.
 */
export interface Tally {
  runs: { read: number; kept_id: number; new_id: number; became: Count<Conclusion['status']> };
  jobs: { read: number; taken: number; became: Count<TakenStatus>; archived: Count<DropReason> };
  leads: { read: number; made: number; merged: number; refused: number; kept_id: number; new_id: number };
  /** Why numbers were refused, by the code of the reason. */
  bad_numbers: Record<string, number>;
  unknown_statuses: { runs: Record<string, number>; jobs: Record<string, number> };
  samples: Record<string, number[]>;
}

export function emptyTally(): Tally {
  return {
    runs: { read: 0, kept_id: 0, new_id: 0, became: {} },
    jobs: { read: 0, taken: 0, became: {}, archived: {} },
    leads: { read: 0, made: 0, merged: 0, refused: 0, kept_id: 0, new_id: 0 },
    bad_numbers: {},
    unknown_statuses: { runs: {}, jobs: {} },
    samples: {},
  };
}

export function count<Key extends string>(counts: Partial<Record<Key, number>>, key: Key, times = 1): void {
  if (times !== 0) counts[key] = (counts[key] ?? 0) + times;
}

/** Keeps the first few of each category: the same ones however often the adoption was broken off. */
export function sample(tally: Tally, category: string, old_id: number, samples_ids: number): void {
  const ids = (tally.samples[category] ??= []);
  if (ids.length < samples_ids) ids.push(old_id);
}

/** The sum of several businesses' tallies. */
export function addTallies(tallies: readonly Tally[], samples_ids: number): Tally {
  const sum = emptyTally();
  for (const tally of tallies) addInto(sum, tally, samples_ids);
  return sum;
}

function addInto(sum: object, more: object, samples_ids: number): void {
  const into = sum as Record<string, unknown>;
  for (const [key, value] of Object.entries(more)) {
    if (typeof value === 'number') into[key] = ((into[key] as number | undefined) ?? 0) + value;
    else if (Array.isArray(value))
      into[key] = [...((into[key] as number[] | undefined) ?? []), ...value]
        .toSorted((a, b) => a - b)
        .slice(0, samples_ids);
    else addInto((into[key] ??= {}) as object, value as object, samples_ids);
  }
}
