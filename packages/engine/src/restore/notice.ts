import type { BusinessId, RunId } from '@carillon/contract';
import { CarillonError, faultPoint } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { type Database, discover, inBusiness, queryGlobal } from '../db/database.ts';
import { pauseRunIn } from '../run/pause.ts';
import { lockRun } from '../run/row.ts';
import { isSuspected, SUSPECT } from './state.ts';

/** How the pause_reason of every run begins that was paused for a restore. */
export const FORGOTTEN = 'the database may have forgotten calls';

/** What a process saw that objects to a database: how many restores this one counts, and how many it knows of itself. */
export interface Seen {
  restores: number;
  known: number;
}

/**
 * Writes down that the database may have forgotten calls, and counts it: every carrier is to be asked from then on. From
 * the commit on nothing is claimed, by anybody, until a person acknowledges it. Counted also where it is suspected
 * already, since a backup may be of such a moment; but of several processes that `seen` the same, the first is heard.
 * Whoever comes later finds more restores than it knows, and says nothing. Returns whether it was us.
 */
export async function suspectRestore(
  db: Database,
  reason: string,
  actor: Actor,
  seen: Seen | null = null,
): Promise<boolean> {
  faultPoint('restore_notice', 'before_commit');
  const noticed = await queryGlobal(db, SUSPECT, [
    reason,
    actor.name,
    actor.source ?? null,
    seen?.known ?? 0,
    seen?.restores ?? null,
  ]);
  faultPoint('restore_notice', 'committed');
  return noticed.length > 0;
}

/** Whether anybody was ever to be called. */
export async function hasRuns(db: Database): Promise<boolean> {
  const runs = await discover(db, 'SELECT run_id FROM carillon.outbound_call_runs LIMIT 1');
  return runs.length > 0;
}

/**
 * Pauses every run that would go on, with the reason; live calls end by themselves. To be done again and again while a
 * restore is not acknowledged: runs may be made meanwhile. Returns how many it paused.
 */
export async function pauseForRestore(
  db: Database,
  reason: string,
  actor: Actor,
  onError: (error: unknown) => void,
): Promise<number> {
  const going = await discover<{ business_id: BusinessId; run_id: RunId }>(
    db,
    `SELECT business_id, run_id FROM carillon.outbound_call_runs WHERE status IN ('pending', 'running')
     ORDER BY business_id, run_id`,
  );
  let paused = 0;
  for (const { business_id, run_id } of going) {
    try {
      const done = await inBusiness(db, business_id, 'restore_pause', async (tx) => {
        await lockRun(tx, run_id);
        // Acknowledged meanwhile, it may have been resumed.
        if (!(await isSuspected(tx))) return false;
        await pauseRunIn(tx, run_id, 'drain', actor, `${FORGOTTEN} (${reason})`);
        return true;
      });
      if (done) paused++;
    } catch (error) {
      // It has ended meanwhile.
      if (!(error instanceof CarillonError)) onError(error);
    }
  }
  return paused;
}
