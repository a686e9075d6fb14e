import type { BusinessId, ReconcileReport, RunId, Seq } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trail } from '../audit/trail.ts';
import type { Database, Tx } from '../db/database.ts';
import { databaseNow, inBusiness } from '../db/database.ts';
import { readRun } from '../run/read.ts';
import { expireDialing } from './tend.ts';

/** An attempt that was asked about a moment ago is not asked about again. */
const ASKED_LATELY_US = 1_000_000;
/** Before any time: whoever tends next asks about this attempt at once, a live one also before it has been silent. */
const ASK_NOW_US = -1;

/**
 * Has what is stuck or unknown settled now, of one run or of the whole business: attempts past their dial deadline
 * become unknown, and workers ask the carrier about unknown attempts and live calls without waiting for their turn.
 * Nothing is believed any sooner for it: absence needs the same grace, which workers measure for themselves.
 *
 * Throws `run_not_found`.
 */
export async function reconcileNow(
  db: Database,
  business_id: BusinessId,
  options: { run_id?: RunId | undefined; actor: Actor },
): Promise<ReconcileReport> {
  const run_id = options.run_id ?? null;
  const dialing = await inBusiness(db, business_id, async (tx) => {
    if (run_id !== null) await readRun(tx, run_id);
    return await tx.query<{ run_id: RunId; seq: Seq; carrier_account_id: number }>(
      `SELECT run_id, seq, carrier_account_id FROM carillon.open_attempts
       WHERE business_id = $1 AND ($2::bigint IS NULL OR run_id = $2) AND state = 'dialing'`,
      [business_id, run_id],
    );
  });
  const expired = await expireDialing(
    db,
    dialing.map((key) => ({ ...key, business_id, errand: 'expire' })),
  );
  return await inBusiness(db, business_id, 'reconcile', async (tx) => {
    const asked = await bringForward(tx, run_id);
    const unknown = asked.filter(({ state }) => state === 'unknown').length;
    const report = { expired, unknown, live: asked.length - unknown };
    trail(tx, options.actor, {
      action: 'run.reconcile_requested',
      subject: run_id === null ? { type: 'business', id: business_id } : { type: 'run', id: run_id },
      after: report,
    });
    return report;
  });
}

/** A row that is locked is being settled at this moment. Nobody is waited for, so the order of the locks is no matter. */
async function bringForward(tx: Tx, run_id: RunId | null): Promise<{ state: string }[]> {
  const now_us = await databaseNow(tx);
  return await tx.query<{ state: string }>(
    `WITH due AS MATERIALIZED (
       SELECT run_id, seq FROM carillon.open_attempts
       WHERE business_id = $1 AND ($2::bigint IS NULL OR run_id = $2) AND state <> 'dialing' AND asked_us < $3
       FOR UPDATE SKIP LOCKED)
     UPDATE carillon.open_attempts o SET asked_us = $4 FROM due
     WHERE o.business_id = $1 AND o.run_id = due.run_id AND o.seq = due.seq RETURNING o.state`,
    [tx.business_id, run_id, now_us - ASKED_LATELY_US, ASK_NOW_US],
  );
}
