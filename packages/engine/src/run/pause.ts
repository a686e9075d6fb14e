import type { BusinessId, LiveCalls, RunId, StoppedRun } from '@carillon/contract';
import { CarillonError } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trailRun } from '../audit/trail.ts';
import type { Database, Tx } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import { readRun } from './read.ts';
import { lockRun } from './row.ts';
import { countInFlight, hangUpFromNowOn } from './stop.ts';

/**
 * Pauses a run: when this has answered, no further attempt is committed until it is resumed. Queued and waiting jobs
 * keep their places. Pausing a paused run changes nothing, but `hang_up` still hangs up what `drain` had left alive. Throws `run_not_found`, `run_state_conflict`.
 */
export async function pauseRun(
  db: Database,
  business_id: BusinessId,
  run_id: RunId,
  live_calls: LiveCalls,
  actor: Actor,
  reason: string | null = null,
): Promise<StoppedRun> {
  return await inBusiness(db, business_id, 'pause', (tx) => pauseRunIn(tx, run_id, live_calls, actor, reason));
}

/** The same in a transaction of the caller. */
export async function pauseRunIn(
  tx: Tx,
  run_id: RunId,
  live_calls: LiveCalls,
  actor: Actor,
  reason: string | null,
): Promise<StoppedRun> {
  const run = await lockRun(tx, run_id);
  if (!['pending', 'running', 'paused'].includes(run.status))
    throw new CarillonError('run_state_conflict', { status: run.status, action: 'paused' });
  const in_flight = await countInFlight(tx, run_id, live_calls);
  if (run.status !== 'paused') {
    tx.send(
      `UPDATE carillon.outbound_call_runs SET status = 'paused', pause_reason = $3, live_calls = $4,
         control_epoch = control_epoch + 1, locked_by_worker = NULL, lock_ts = NULL, updated_at = now()
       WHERE business_id = $1 AND run_id = $2`,
      [tx.business_id, run_id, reason, live_calls],
      1,
    );
    const control_epoch = run.control_epoch + 1;
    const why = reason === null ? {} : { pause_reason: reason };
    trailRun(tx, actor, 'run.paused', run, { status: 'paused', control_epoch, live_calls, ...why });
  } else if (live_calls === 'hang_up') hangUpFromNowOn(tx, run, actor);
  return { ...(await readRun(tx, run_id)), in_flight };
}
