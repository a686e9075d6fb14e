import type { BusinessId, LiveCalls, RunId, StoppedRun } from '@carillon/contract';
import { CarillonError, isFinalRun } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trail, trailRun } from '../audit/trail.ts';
import type { Database, Tx } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import { readRun } from './read.ts';
import { lockRun, type RunRow } from './row.ts';

/**
 * Stops a run for good. When this has answered, no further attempt is committed: a claim takes the run's lock first
 * and then sees the state that is written here. `in_flight` counts the attempts committed before. The cost does not
 * depend on how many jobs are queued: their counters move now, their rows are swept later.
 *
 * Stopping a stopped run again changes nothing, but `hang_up` still hangs up what `drain` had left alive. Throws
 * `run_not_found`, and `run_state_conflict` for a run that completed or failed.
 */
export async function stopRun(
  db: Database,
  business_id: BusinessId,
  run_id: RunId,
  live_calls: LiveCalls,
  actor: Actor,
): Promise<StoppedRun> {
  return await inBusiness(db, business_id, 'stop', async (tx) => {
    const run = await lockRun(tx, run_id);
    if (run.status === 'completed' || run.status === 'failed')
      throw new CarillonError('run_state_conflict', { status: run.status, action: 'stopped' });
    const in_flight = await countInFlight(tx, run_id, live_calls);
    if (!isFinalRun(run.status) && run.status !== 'cancelling') {
      // Calls that a pause had hung up are not let live by a stop that drains.
      const wish = run.live_calls === 'hang_up' ? 'hang_up' : live_calls;
      const status = run.in_progress === 0 ? 'cancelled' : 'cancelling';
      tx.send(
        `UPDATE carillon.outbound_call_runs SET status = $3, live_calls = $4,
           ended_at = CASE WHEN in_progress = 0 THEN now() END,
           cancel_requested_at = now(), control_epoch = control_epoch + 1,
           cancelled = cancelled + queued + waiting, queued = 0, waiting = 0,
           locked_by_worker = NULL, lock_ts = NULL, updated_at = now()
         WHERE business_id = $1 AND run_id = $2`,
        [business_id, run_id, status, wish],
        1,
      );
      const action = status === 'cancelled' ? 'run.cancelled' : 'run.cancel_requested';
      trailRun(tx, actor, action, run, { status, control_epoch: run.control_epoch + 1, live_calls: wish });
    } else if (live_calls === 'hang_up') hangUpFromNowOn(tx, run, actor);
    return { ...(await readRun(tx, run_id)), in_flight };
  });
}

/**
 * For a call that shows up only later, when its attempt was believed absent by then: it is to be hung up, though the
 * pause or stop of this run had first wanted its calls drained. Its state stays as it is.
 */
export function hangUpFromNowOn(tx: Tx, run: RunRow, actor: Actor): void {
  if (run.live_calls === 'hang_up') return;
  tx.send(
    `UPDATE carillon.outbound_call_runs SET live_calls = 'hang_up' WHERE business_id = $1 AND run_id = $2`,
    [tx.business_id, run.run_id],
    1,
  );
  trail(tx, actor, {
    action: 'run.hang_up_requested',
    subject: { type: 'run', id: run.run_id },
    before: { live_calls: run.live_calls },
    after: { live_calls: 'hang_up' },
  });
}

/**
 * Counts the run's open attempts and, to hang up, flags each. Under the run's lock nothing can be added to them, so
 * none is missed; the flag is the durable intent that is repeated until the carrier shows a final status.
 */
export async function countInFlight(tx: Tx, run_id: RunId, live_calls: LiveCalls): Promise<number> {
  const open =
    live_calls === 'hang_up'
      ? await tx.query(
          `UPDATE carillon.open_attempts SET hang_up = coalesce(hang_up, 'run') WHERE business_id = $1 AND run_id = $2
           RETURNING seq`,
          [tx.business_id, run_id],
        )
      : await tx.query('SELECT seq FROM carillon.open_attempts WHERE business_id = $1 AND run_id = $2', [
          tx.business_id,
          run_id,
        ]);
  return open.length;
}
