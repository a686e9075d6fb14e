import type { BusinessId, RunId } from '@carillon/contract';
import { type Database, discover, inBusiness, type Tx } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import { fill } from './fill.ts';
import { lockRun } from './row.ts';

const RUNS_AT_ONCE = 20;

/**
 * Gives the rows of stopped runs the state that they effectively have: queued and waiting become cancelled, and those
 * not yet made from the list are made. One bounded batch of each run for each call; the counters moved with the stop.
 * Returns whether there was anything to do; `onError` hears of runs that could not be swept, the others are.
 */
export async function sweepOnce(db: Database, limits: Limits, onError: (error: unknown) => void): Promise<boolean> {
  const runs = await discover<{ business_id: BusinessId; run_id: RunId }>(
    db,
    `SELECT business_id, run_id FROM carillon.outbound_call_runs
     WHERE cancel_requested_at IS NOT NULL AND swept_seq < total_leads
     ORDER BY cancel_requested_at LIMIT $1`,
    [RUNS_AT_ONCE],
  );
  let swept = 0;
  for (const run of runs) {
    try {
      await inBusiness(db, run.business_id, 'sweep', (tx) => sweepRun(tx, run.run_id, limits));
      swept++;
    } catch (error) {
      onError(error);
    }
  }
  return swept > 0;
}

async function sweepRun(tx: Tx, run_id: RunId, limits: Limits): Promise<void> {
  await fill(tx, run_id, limits.sweep_batch_jobs);
  const { swept_seq, filled_seq } = await lockRun(tx, run_id);
  const to = Math.min(swept_seq + limits.sweep_batch_jobs, filled_seq);
  const params = [tx.business_id, run_id, swept_seq, to];
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
    tx.business_id,
    run_id,
    to,
  ]);
}
