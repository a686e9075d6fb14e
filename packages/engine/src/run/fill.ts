import type { BusinessId, RunId } from '@carillon/contract';
import { type Database, inBusiness, type Tx } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import { lockRun } from './row.ts';

/**
 * Makes the next job rows of a list run, at most `batch_jobs`, under the run's lock. A member's position in the list is
 * its job's number, so a kill between two batches leaves a run that goes on from `filled_seq`. Returns how many were
 * made; 0 when all are there.
 */
export async function fill(tx: Tx, run_id: RunId, batch_jobs: number): Promise<number> {
  const run = await lockRun(tx, run_id);
  if (run.list_id === null || run.filled_seq >= run.total_leads) return 0;
  const to = Math.min(run.filled_seq + batch_jobs, run.total_leads);
  tx.send(
    `INSERT INTO carillon.outbound_call_jobs (business_id, run_id, seq, lead_id)
     SELECT $1, $2, position, lead_id FROM carillon.list_members
     WHERE business_id = $1 AND list_id = $3 AND position > $4 AND position <= $5 ORDER BY position`,
    [tx.business_id, run_id, run.list_id, run.filled_seq, to],
    to - run.filled_seq,
  );
  tx.send('UPDATE carillon.outbound_call_runs SET filled_seq = $3 WHERE business_id = $1 AND run_id = $2', [
    tx.business_id,
    run_id,
    to,
  ]);
  return to - run.filled_seq;
}

/** Keeps `fill_ahead_jobs` rows ahead of the claim cursor. Returns whether it made any, so that it never spins. */
export async function fillAhead(
  db: Database,
  business_id: BusinessId,
  run_id: RunId,
  limits: Limits,
): Promise<boolean> {
  return await inBusiness(db, business_id, async (tx) => {
    const run = await lockRun(tx, run_id);
    if (run.filled_seq - run.claim_cursor >= limits.fill_ahead_jobs) return false;
    return (await fill(tx, run_id, limits.fill_batch_jobs)) > 0;
  });
}
