import {
  type BusinessId,
  CarillonError,
  type CarrierAccountId,
  type RestoreReport,
  type RunId,
} from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { resumeLane } from '../business/carrier-accounts.ts';
import { FORGOTTEN_CALL_HALT } from '../call/unwanted.ts';
import { type Database, discover, inBusiness, queryGlobal } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import { resumeRun } from '../run/resume.ts';
import { FORGOTTEN } from './notice.ts';
import { ACKNOWLEDGE, readRestoreState } from './state.ts';

/** What stands between the installation and going on. */
export async function restoreReport(db: Database): Promise<RestoreReport> {
  const state = await readRestoreState(db);
  const suspected = state.suspected_at !== null;
  // In another place again, it was restored once more, and no process has counted that yet.
  const moved = state.place !== null && state.place !== state.here;
  const unsettled = suspected ? await readUnsettled(db, state.restores + (moved ? 1 : 0)) : [];
  return {
    suspected_at: state.suspected_at?.toISOString() ?? null,
    reason: state.reason,
    restores: state.restores,
    unsettled,
    acknowledged: false,
    paused_runs: await readPaused(db, state.restores),
    resumed_runs: [],
  };
}

async function readUnsettled(db: Database, restores: number): Promise<RestoreReport['unsettled']> {
  return await discover<RestoreReport['unsettled'][number]>(
    db,
    `SELECT business_id, carrier_account_id, restore_problem AS problem FROM carillon.lanes
     WHERE restores_settled < $1 ORDER BY business_id, carrier_account_id`,
    [restores],
  );
}

/**
 * A person says that the installation may go on: from now on this is the database to be known. Carrier accounts that
 * were halted for a forgotten call take calls again. Runs stay paused, each for somebody to resume; with `resume`,
 * those that the restore paused go on, but for those of accounts whose carrier could not be asked.
 * Nothing is acknowledged where nothing is suspected, nor while a carrier has not been asked, unless `force`. What
 * is acknowledged already is still resumed: whoever acknowledged may have died before the runs went on.
 */
export async function acknowledgeRestore(
  db: Database,
  options: { force: boolean; resume: boolean; actor: Actor; limits: Limits },
): Promise<RestoreReport> {
  const report = await restoreReport(db);
  if (report.reason === null && options.resume) return await resumeRuns(db, report, options);
  if (report.reason === null || (report.unsettled.length > 0 && !options.force)) return report;
  await resumeLanes(db, options.actor);
  const { actor } = options;
  const done = await queryGlobal(db, ACKNOWLEDGE, [
    actor.name,
    actor.source ?? null,
    report.restores,
    report.unsettled.length,
  ]);
  if (done.length === 0) return report;
  const after = options.resume ? await resumeRuns(db, report, options) : report;
  return { ...after, acknowledged: true };
}

async function resumeLanes(db: Database, actor: Actor): Promise<void> {
  const halted = await discover<{ business_id: BusinessId; carrier_account_id: CarrierAccountId }>(
    db,
    'SELECT business_id, carrier_account_id FROM carillon.lanes WHERE halted_reason = $1 AND halted_until_us IS NULL',
    [FORGOTTEN_CALL_HALT],
  );
  for (const lane of halted) await resumeLane(db, lane.business_id, lane.carrier_account_id, actor);
}

interface PausedRun {
  business_id: BusinessId;
  run_id: RunId;
  compared: boolean;
}

async function readPaused(db: Database, restores: number): Promise<PausedRun[]> {
  const businesses = await discover<{ business_id: BusinessId }>(
    db,
    `SELECT DISTINCT business_id FROM carillon.outbound_call_runs WHERE status = 'paused' ORDER BY business_id`,
  );
  const paused: PausedRun[] = [];
  for (const { business_id } of businesses) {
    const runs = await inBusiness(db, business_id, (tx) =>
      tx.query<PausedRun>(
        `SELECT business_id, run_id, NOT EXISTS (
           SELECT FROM carillon.lanes l WHERE l.business_id = $1
             AND l.carrier_account_id = r.carrier_account_id AND l.restores_settled < $3) AS compared
         FROM carillon.outbound_call_runs r
         WHERE business_id = $1 AND status = 'paused' AND starts_with(pause_reason, $2) ORDER BY run_id`,
        [business_id, FORGOTTEN, restores],
      ),
    );
    paused.push(...runs);
  }
  return paused;
}

async function resumeRuns(
  db: Database,
  report: RestoreReport,
  { actor, limits }: { actor: Actor; limits: Limits },
): Promise<RestoreReport> {
  const resumed_runs: RestoreReport['resumed_runs'] = [];
  for (const { business_id, run_id, compared } of await readPaused(db, report.restores)) {
    if (!compared) continue;
    try {
      await resumeRun(db, business_id, run_id, limits, actor);
      resumed_runs.push({ business_id, run_id });
    } catch (error) {
      // Somebody has stopped it meanwhile.
      if (!(error instanceof CarillonError && error.code === 'run_state_conflict')) throw error;
    }
  }
  return { ...report, paused_runs: await readPaused(db, report.restores), resumed_runs };
}
