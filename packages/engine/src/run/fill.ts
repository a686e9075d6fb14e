import type { BusinessId, RunId } from '@carillon/contract';
import { type Database, inBusiness, type Tx } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import { lockRun, type RunRow } from './row.ts';

/**
 * Makes the next job rows of a run, at most `batch_jobs`, under the run's lock: from its list, where a member's position
 * is its job's number, or from the leads that were fixed for a follow-up run. A kill between two batches leaves a run
 * that goes on from `filled_seq`. Returns how many were made; 0 when all are there.
 */
export async function fill(tx: Tx, run_id: RunId, batch_jobs: number): Promise<number> {
  const run = await lockRun(tx, run_id);
  if (run.filled_seq >= run.total_leads) return 0;
  const wanted = Math.min(run.filled_seq + batch_jobs, run.total_leads);
  const to = run.list_id === null ? await fillFromEarlier(tx, run, wanted) : fillFromList(tx, run, wanted);
  tx.send('UPDATE carillon.outbound_call_runs SET filled_seq = $3 WHERE business_id = $1 AND run_id = $2', [
    tx.business_id,
    run_id,
    to,
  ]);
  return to - run.filled_seq;
}

/** Makes the jobs up to number `to`, which it returns. */
function fillFromList(tx: Tx, run: RunRow, to: number): number {
  tx.send(
    `INSERT INTO carillon.outbound_call_jobs (business_id, run_id, seq, lead_id)
     SELECT $1, $2, position, lead_id FROM carillon.list_members
     WHERE business_id = $1 AND list_id = $3 AND position > $4 AND position <= $5 ORDER BY position`,
    [tx.business_id, run.run_id, run.list_id, run.filled_seq, to],
    to - run.filled_seq,
  );
  return to;
}

/** The same from one row of run_leads, at most up to its last lead; then the row has done its work and goes: no other begins before it. */
async function fillFromEarlier(tx: Tx, run: RunRow, wanted: number): Promise<number> {
  const [part] = await tx.query<{ first_seq: number; leads: number }>(
    `SELECT first_seq, cardinality(lead_ids) AS leads FROM carillon.run_leads
     WHERE business_id = $1 AND run_id = $2 AND first_seq <= $3`,
    [tx.business_id, run.run_id, run.filled_seq + 1],
  );
  if (!part) throw new Error(`the leads of run ${run.run_id} from ${run.filled_seq + 1} on are not there`);
  const last = part.first_seq + part.leads - 1;
  const to = Math.min(wanted, last);
  const key = [tx.business_id, run.run_id, part.first_seq];
  const before = run.filled_seq + 1 - part.first_seq;
  tx.send(
    `INSERT INTO carillon.outbound_call_jobs (business_id, run_id, seq, lead_id)
     SELECT $1, $2, $3 + $4 + l.n - 1, l.lead_id
     FROM carillon.run_leads p, unnest(p.lead_ids[$4 + 1 : $4 + $5]) WITH ORDINALITY AS l (lead_id, n)
     WHERE p.business_id = $1 AND p.run_id = $2 AND p.first_seq = $3`,
    [...key, before, to - run.filled_seq],
    to - run.filled_seq,
  );
  if (to === last)
    tx.send('DELETE FROM carillon.run_leads WHERE business_id = $1 AND run_id = $2 AND first_seq = $3', key, 1);
  return to;
}

/** Keeps `fill_ahead_jobs` rows ahead of the claim cursor. Returns whether it made any, so that it never spins. */
export async function fillAhead(
  db: Database,
  business_id: BusinessId,
  run_id: RunId,
  limits: Limits,
): Promise<boolean> {
  return await inBusiness(db, business_id, 'fill', async (tx) => {
    const run = await lockRun(tx, run_id);
    if (run.filled_seq - run.claim_cursor >= limits.fill_ahead_jobs) return false;
    return (await fill(tx, run_id, limits.fill_batch_jobs)) > 0;
  });
}
