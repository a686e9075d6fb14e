import type { BusinessId, FromRun, Run, RunId } from '@carillon/contract';
import { CarillonError } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trailRun } from '../audit/trail.ts';
import type { Database } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import { refuseWhileSuspected } from '../restore/state.ts';
import { fixLeads } from './create.ts';
import { readRun } from './read.ts';
import { lockRun, type RunRow } from './row.ts';

/**
 * Lets a paused run go on where it was, and starts a draft, whose leads are fixed now. A run that goes on already is
 * answered as it is. Throws `run_not_found`, `run_state_conflict`, `list_empty`, `follow_up_empty`, and
 * `restore_unacknowledged` while the database may have forgotten calls.
 */
export async function resumeRun(
  db: Database,
  business_id: BusinessId,
  run_id: RunId,
  limits: Limits,
  actor: Actor,
): Promise<Run> {
  return await inBusiness(db, business_id, 'resume', async (tx) => {
    const run = await lockRun(tx, run_id);
    if (run.status === 'pending' || run.status === 'running') return await readRun(tx, run_id);
    if (run.status !== 'paused' && run.status !== 'draft')
      throw new CarillonError('run_state_conflict', { status: run.status, action: 'resumed' });
    await refuseWhileSuspected(tx);
    if (run.status === 'draft' && run.filled_seq === 0) await fixLeads(tx, run_id, earlierOf(run), limits);
    const status = run.started_at === null ? 'pending' : 'running';
    await tx.query(
      `UPDATE carillon.outbound_call_runs SET status = $3, pause_reason = NULL, live_calls = NULL,
         control_epoch = control_epoch + 1, updated_at = now()
       WHERE business_id = $1 AND run_id = $2`,
      [business_id, run_id, status],
    );
    trailRun(tx, actor, 'run.resumed', run, { status, control_epoch: run.control_epoch + 1 });
    const resumed = await readRun(tx, run_id);
    if (resumed.total_leads === 0) throw new CarillonError('list_empty');
    return resumed;
  });
}

function earlierOf({ from_run_id, from_outcomes }: RunRow): FromRun | null {
  return from_run_id === null || from_outcomes === null ? null : { run_id: from_run_id, outcomes: from_outcomes };
}
