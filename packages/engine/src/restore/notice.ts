import type { BusinessId, RunId } from '@carillon/contract';
import { CarillonError, faultPoint } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { type Database, discover, inBusiness, queryGlobal } from '../db/database.ts';
import { pauseRunIn } from '../run/pause.ts';
import { lockRun } from '../run/row.ts';
import { isSuspected } from './state.ts';

/** How the pause_reason of every run begins that was paused for a restore. */
export const FORGOTTEN = 'the database may have forgotten calls';

/**
 * Writes down that the database may have forgotten calls. From the commit on nothing is claimed, by anybody, until a
 * person acknowledges it. Only the first to say so is heard; returns whether it was us. `restores_known`: how many a
 * process remembers that were noticed before, though the database may not.
 */
export async function suspectRestore(db: Database, reason: string, actor: Actor, restores_known = 0): Promise<boolean> {
  faultPoint('restore_notice', 'before_commit');
  const noticed = await queryGlobal(
    db,
    `WITH noticed AS (
       UPDATE carillon.installation_state SET suspected_at = now(), reason = $1,
         restores = greatest(restores, $4::int) + 1
       WHERE singleton AND suspected_at IS NULL RETURNING restores)
     INSERT INTO carillon.installation_events (kind, action, actor, source, after)
     SELECT 'security', 'restore.noticed', $2, $3, jsonb_build_object('reason', $1::text, 'restores', restores)
     FROM noticed RETURNING event_id`,
    [reason, actor.name, actor.source ?? null, restores_known],
  );
  faultPoint('restore_notice', 'committed');
  return noticed.length > 0;
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
