import type { BusinessId, JobKey, JobStatus, Resolution } from '@carillon/contract';
import { CarillonError, formatJobId, isFinalRun } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trail } from '../audit/trail.ts';
import type { Database, Tx } from '../db/database.ts';
import { databaseNow, inBusiness } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import { lockRun, type RunRow } from '../run/row.ts';
import { moveCounters, scheduleJobs, toPool } from './close.ts';

/** Why a job is as it is: a person said so, and better evidence may still come. See `late.ts`. */
export const COUNTED_AS_CALLED = 'counted as called';
export const CALL_AGAIN = 'to be called again';

/**
 * A person says what nobody else can: whether the call of a job under review took place.
 * - `called`: the job is completed.
 * - `call_again`: it waits for its next call, due at once, while its run goes on. A run that has ended or is being
 *   stopped stays so: there the job is cancelled, for a follow-up run to take up.
 *
 * Late evidence still has the last word on the job, but for a lead that was called again by then. Throws
 * `job_not_found`, and `job_state_conflict` for a job that is not (any more) under review.
 */
export async function resolveJob(
  db: Database,
  business_id: BusinessId,
  key: JobKey,
  resolution: Resolution,
  options: { actor: Actor; limits: Limits },
): Promise<void> {
  await inBusiness(db, business_id, 'resolve', async (tx) => {
    const run = await lockRun(tx, key.run_id).catch((error: unknown) => {
      throw error instanceof CarillonError ? new CarillonError('job_not_found') : error;
    });
    const [job] = await tx.query<{ status: JobStatus }>(
      'SELECT status FROM carillon.outbound_call_jobs WHERE business_id = $1 AND run_id = $2 AND seq = $3',
      [business_id, key.run_id, key.seq],
    );
    if (!job) throw new CarillonError('job_not_found');
    if (job.status !== 'needs_review')
      throw new CarillonError('job_state_conflict', { status: job.status, action: 'resolved' });
    const end = resolution === 'called' ? CALLED : await callAgain(tx, run, key);
    tx.send(
      `UPDATE carillon.outbound_call_jobs SET status = $4, reason = $5, updated_at = now()
       WHERE business_id = $1 AND run_id = $2 AND seq = $3 AND status = 'needs_review'`,
      [business_id, key.run_id, key.seq, end.status, end.reason],
      1,
    );
    trail(tx, options.actor, {
      action: 'job.resolved',
      subject: { type: 'job', id: formatJobId(key) },
      before: { status: 'needs_review' },
      after: { status: end.status, as: resolution },
    });
    moveCounters(tx, run, { needs_review: -1, [end.status]: 1 }, { settled: true, ...options });
  });
}

const CALLED = { status: 'completed', reason: COUNTED_AS_CALLED } as const;

async function callAgain(tx: Tx, run: RunRow, key: JobKey) {
  const over = isFinalRun(run.status) || run.status === 'cancelling';
  const end = toPool(CALL_AGAIN, await databaseNow(tx), over);
  if (end.due_us !== null) scheduleJobs(tx, run, [{ seq: key.seq, due_us: end.due_us, reason: CALL_AGAIN }]);
  return { status: end.status, reason: over ? CALL_AGAIN : null };
}
