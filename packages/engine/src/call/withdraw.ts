import type { JobStatus, RunStatus, Seq } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import type { Tx } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import type { RunRow } from '../run/row.ts';
import { moveCounters } from './close.ts';
import { changeJobs } from './stretches.ts';

/** What becomes of jobs that are not called by themselves any more, and why. */
export interface Withdrawal {
  status: 'skipped' | 'needs_review';
  reason: string;
}

/** The lead was erased. */
export const ERASED: Withdrawal = { status: 'skipped', reason: 'erased' };

/**
 * Takes queued and waiting jobs of a locked run out of it: these leads may not be called. Counters and, when nothing is
 * left, the run's end are written with them. Returns the run's status after it.
 */
export function withdrawJobs(
  tx: Tx,
  run: RunRow,
  jobs: readonly { seq: Seq; status: JobStatus }[],
  { status, reason }: Withdrawal,
  options: { limits: Limits; actor: Actor },
): RunStatus {
  if (jobs.length === 0) return run.status;
  const key = [run.business_id, run.run_id] as const;
  const seqs = jobs.map((job) => job.seq);
  tx.send('DELETE FROM carillon.job_schedule WHERE business_id = $1 AND run_id = $2 AND seq = ANY ($3)', [
    ...key,
    seqs,
  ]);
  changeJobs(
    tx,
    key,
    seqs,
    `UPDATE carillon.outbound_call_jobs SET status = $6, reason = $7, updated_at = now()
     WHERE business_id = $1 AND run_id = $2 AND seq >= $3 AND seq <= $4 AND seq + 0 = ANY ($5) AND status IN ('queued', 'waiting')`,
    [status, reason],
  );
  const waiting = jobs.filter((job) => job.status === 'waiting').length;
  const delta = { queued: waiting - jobs.length, waiting: -waiting, [status]: jobs.length };
  return moveCounters(tx, run, delta, { settled: false, ...options });
}
