import type { BusinessId, JobStatus, ListedCall, RunId, Seq } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { knownCalls } from '../call/known.ts';
import { FORGOTTEN_CALL } from '../call/unwanted.ts';
import { withdrawJobs } from '../call/withdraw.ts';
import { type Database, inBusiness, type Tx } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import { fill } from '../run/fill.ts';
import { lockRun } from '../run/row.ts';
import type { AccountToSettle, Settlement } from './accounts.ts';

/** Why a job is under review of which the database does not know that it was called. */
export const CALLED_ACCORDING_TO_CARRIER = 'the carrier lists a call to this number that the database has forgotten';

const LIVE = ['draft', 'pending', 'running', 'paused'];

/**
 * Compares a page of the carrier's list with the attempts. Whoever was called by a call that no attempt has, and waits
 * for a call in whichever run of the business, is not called again by itself: a person decides. The calls are noted, so
 * that their late callbacks surprise nobody.
 */
export async function reviewForgotten(
  db: Database,
  account: AccountToSettle,
  calls: readonly ListedCall[],
  options: { limits: Limits; actor: Actor },
): Promise<Settlement> {
  const { business_id } = account;
  const numbers = [...new Set(calls.map((call) => call.to))];
  const { listed, forgotten, lead_ids, run_ids } = await inBusiness(db, business_id, 'restore_compare', async (tx) => {
    const leads = await tx.query<{ lead_id: number; phone: string }>(
      'SELECT lead_id, phone FROM carillon.leads WHERE business_id = $1 AND phone = ANY ($2)',
      [business_id, numbers],
    );
    const lead_of = new Map(leads.map((lead) => [lead.phone, lead.lead_id]));
    const ours = calls.filter((call) => lead_of.has(call.to));
    const known = await knownCalls(
      tx,
      account.carrier_account_id,
      ours.map((call) => call.call_id),
    );
    // A call that was forgotten when this page was first read still is; of every other that is known, so is its end.
    const known_ids = new Set(known.flatMap((call) => (call.unwanted === FORGOTTEN_CALL ? [] : call.call_id)));
    const unknown = ours.filter((call) => !known_ids.has(call.call_id));
    noteForgotten(tx, account, unknown);
    const runs = await tx.query<{ run_id: RunId }>(
      'SELECT run_id FROM carillon.outbound_call_runs WHERE business_id = $1 AND status = ANY ($2) ORDER BY run_id',
      [business_id, LIVE],
    );
    return {
      listed: ours.length,
      forgotten: unknown.length,
      lead_ids: [...new Set(unknown.flatMap((call) => lead_of.get(call.to) ?? []))],
      run_ids: runs.map((run) => run.run_id),
    };
  });
  let reviewed = 0;
  if (lead_ids.length > 0)
    for (const run_id of run_ids) reviewed += await reviewInRun(db, business_id, run_id, lead_ids, options);
  return { listed, forgotten, reviewed };
}

/** Nobody is asked to hang these up: those that bear our token are by their callbacks, others may be somebody else's. */
function noteForgotten(tx: Tx, { carrier_account_id }: AccountToSettle, calls: readonly ListedCall[]): void {
  if (calls.length === 0) return;
  tx.send(
    `WITH noted AS (
       INSERT INTO carillon.unwanted_calls (business_id, carrier_account_id, call_id, reason, over_at)
       SELECT $1, $2, c.call_id, $4, now() FROM unnest($3::text[]) AS c (call_id)
       ON CONFLICT (business_id, carrier_account_id, call_id) DO NOTHING RETURNING 1)
     SELECT count(*) FROM noted`,
    [tx.business_id, carrier_account_id, calls.map((call) => call.call_id), FORGOTTEN_CALL],
  );
}

async function reviewInRun(
  db: Database,
  business_id: BusinessId,
  run_id: RunId,
  lead_ids: readonly number[],
  { limits, actor }: { limits: Limits; actor: Actor },
): Promise<number> {
  // Also jobs that have no row yet.
  while ((await inBusiness(db, business_id, 'fill', (tx) => fill(tx, run_id, limits.fill_batch_jobs))) > 0);
  return await inBusiness(db, business_id, 'restore_review', async (tx) => {
    const run = await lockRun(tx, run_id);
    if (!LIVE.includes(run.status)) return 0;
    const jobs = await tx.query<{ seq: Seq; status: JobStatus }>(
      `SELECT j.seq, j.status FROM unnest($3::bigint[]) AS l (lead_id)
       CROSS JOIN LATERAL (
         SELECT seq, status FROM carillon.outbound_call_jobs
         WHERE business_id = $1 AND run_id = $2 AND lead_id >= l.lead_id AND lead_id <= l.lead_id
         ORDER BY lead_id LIMIT 1) j
       WHERE j.status IN ('queued', 'waiting') ORDER BY j.seq`,
      [business_id, run_id, lead_ids],
    );
    const end = { status: 'needs_review', reason: CALLED_ACCORDING_TO_CARRIER } as const;
    withdrawJobs(tx, run, jobs, end, { limits, actor });
    return jobs.length;
  });
}
