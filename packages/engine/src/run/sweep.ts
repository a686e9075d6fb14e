import type { BusinessId, RunId } from '@carillon/contract';
import type { Database } from '../db/database.ts';
import { discover, inBusiness } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import { fill } from './fill.ts';
import { lockRun } from './row.ts';

/**
 * Gives the rows of a stopped run the state that they effectively have: queued and waiting become cancelled, and those
 * not yet made from the list are made. One bounded batch of one run for each call; the counters moved with the stop.
 * Returns whether there was anything to do.
 */
export async function sweepOnce(db: Database, limits: Limits): Promise<boolean> {
  const [run] = await discover<{ business_id: BusinessId; run_id: RunId }>(
    db,
    `SELECT business_id, run_id FROM carillon.outbound_call_runs
     WHERE cancel_requested_at IS NOT NULL AND swept_seq < total_leads
     ORDER BY cancel_requested_at LIMIT 1`,
  );
  if (!run) return false;
  await inBusiness(db, run.business_id, async (tx) => {
    await fill(tx, run.run_id, limits.sweep_batch_jobs);
    const { swept_seq, filled_seq } = await lockRun(tx, run.run_id);
    const to = Math.min(swept_seq + limits.sweep_batch_jobs, filled_seq);
    const params = [run.business_id, run.run_id, swept_seq, to];
    tx.send(
      'DELETE FROM carillon.job_schedule WHERE business_id = $1 AND run_id = $2 AND seq > $3 AND seq <= $4',
      params,
    );
    tx.send(
      `UPDATE carillon.outbound_call_jobs SET status = 'cancelled', updated_at = now()
       WHERE business_id = $1 AND run_id = $2 AND seq > $3 AND seq <= $4 AND status IN ('queued', 'waiting')`,
      params,
    );
    tx.send('UPDATE carillon.outbound_call_runs SET swept_seq = $3 WHERE business_id = $1 AND run_id = $2', [
      run.business_id,
      run.run_id,
      to,
    ]);
  });
  return true;
}
