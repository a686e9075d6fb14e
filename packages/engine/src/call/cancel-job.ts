import type { BusinessId, JobKey, JobStatus } from '@carillon/contract';
import { CarillonError, effectiveJobStatus, formatJobId } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trail } from '../audit/trail.ts';
import type { Database } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import { lockRun } from '../run/row.ts';
import { moveCounters } from './close.ts';

/**
 * Cancels one job: a queued or waiting one at once; one in progress has its call hung up, and the job ends as that call
 * ends. A cancelled job stays as it is. Throws `job_not_found`, `job_state_conflict`.
 */
export async function cancelJob(
  db: Database,
  business_id: BusinessId,
  key: JobKey,
  limits: Limits,
  actor: Actor,
): Promise<void> {
  await inBusiness(db, business_id, 'cancel_job', async (tx) => {
    const run = await lockRun(tx, key.run_id).catch((error: unknown) => {
      throw error instanceof CarillonError ? new CarillonError('job_not_found') : error;
    });
    const params = [business_id, key.run_id, key.seq];
    const [job] = await tx.query<{ status: JobStatus }>(
      'SELECT status FROM carillon.outbound_call_jobs WHERE business_id = $1 AND run_id = $2 AND seq = $3',
      params,
    );
    if (!job) throw new CarillonError('job_not_found');
    const status = effectiveJobStatus(run.status, job.status);
    if (status === 'cancelled') return;
    const subject = { type: 'job', id: formatJobId(key) } as const;
    if (status === 'in_progress') {
      const after = { status, hang_up: 'job' };
      trail(tx, actor, { action: 'job.cancelled', subject, before: { status }, after });
      tx.send(
        `UPDATE carillon.open_attempts SET hang_up = 'job' WHERE business_id = $1 AND run_id = $2 AND seq = $3`,
        params,
        1,
      );
      return;
    }
    if (status !== 'queued' && status !== 'waiting')
      throw new CarillonError('job_state_conflict', { status, action: 'cancelled' });
    tx.send('DELETE FROM carillon.job_schedule WHERE business_id = $1 AND run_id = $2 AND seq = $3', params);
    tx.send(
      `UPDATE carillon.outbound_call_jobs SET status = 'cancelled', updated_at = now()
       WHERE business_id = $1 AND run_id = $2 AND seq = $3 AND status = $4`,
      [...params, status],
      1,
    );
    trail(tx, actor, { action: 'job.cancelled', subject, before: { status }, after: { status: 'cancelled' } });
    moveCounters(tx, run, { [status]: -1, cancelled: 1 }, { settled: false, limits, actor });
  });
}
