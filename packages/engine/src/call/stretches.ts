import type { Seq } from '@carillon/contract';
import type { Tx } from '../db/database.ts';

/** Numbers further apart than this are not worth reading the rows between them. */
const GAP_JOBS = 64;

/** Cuts numbers into runs of neighbours, each ascending: with most of the rows between its first and last wanted. */
export function stretches(seqs: readonly Seq[]): Seq[][] {
  const all: Seq[][] = [];
  let last: Seq[] = [];
  for (const seq of seqs.toSorted((a, b) => a - b)) {
    const before = last.at(-1);
    if (before === undefined || seq - before > GAP_JOBS) all.push((last = []));
    last.push(seq);
  }
  return all;
}

/**
 * Changes jobs of one run, each number once; that each is touched is part of the guard. Stretch by stretch, because
 * `seq = ANY (…)` is several look-ups to the planner and one through unique_run_lead looks cheaper while a run looks
 * small: it then read the whole run for every claim (docs/adr/0003).
 *
 * `sql` takes the business and run as $1 and $2 and says which of the stretch with
 * `seq >= $3 AND seq <= $4 AND seq + 0 = ANY ($5)`: a sum can't be looked up in an index. `more` follows from $6 on.
 */
export function changeJobs(
  tx: Tx,
  key: readonly [number, number],
  seqs: readonly Seq[],
  sql: string,
  more: readonly unknown[] = [],
): void {
  for (const stretch of stretches(seqs))
    tx.send(sql, [...key, stretch[0], stretch.at(-1), stretch, ...more], stretch.length);
}
