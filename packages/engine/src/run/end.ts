import type { BusinessId, RunId } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import type { Database } from '../db/database.ts';
import { discover } from '../db/database.ts';
import { stopRun } from './stop.ts';

const RUNS_AT_ONCE = 100;

/** Stops the runs whose `ends_at` has come, draining their calls; `onError` hears of those that could not be stopped. */
export async function endOverdueRuns(db: Database, actor: Actor, onError: (error: unknown) => void): Promise<void> {
  const overdue = await discover<{ business_id: BusinessId; run_id: RunId }>(
    db,
    `SELECT business_id, run_id FROM carillon.outbound_call_runs
     WHERE status IN ('pending', 'running', 'paused') AND ends_at <= now() ORDER BY ends_at LIMIT $1`,
    [RUNS_AT_ONCE],
  );
  for (const run of overdue) await stopRun(db, run.business_id, run.run_id, 'drain', actor).catch(onError);
}
