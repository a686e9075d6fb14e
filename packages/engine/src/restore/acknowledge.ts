import type { BusinessId, CarrierAccountId, RestoreReport, RunId } from '@carillon/contract';
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
  const unsettled = suspected ? await readUnsettled(db, state.restores) : [];
  return {
    suspected_at: state.suspected_at?.toISOString() ?? null,
    reason: state.reason,
    restores: state.restores,
    unsettled,
    acknowledged: false,
    resumed_runs: 0,
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
 * Nothing is acknowledged where nothing is suspected, nor while a carrier has not been asked, unless `force`.
 */
export async function acknowledgeRestore(
  db: Database,
  options: { force: boolean; resume: boolean; actor: Actor; limits: Limits },
): Promise<RestoreReport> {
  const report = await restoreReport(db);
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
  const resumed_runs = options.resume ? await resumeRuns(db, report, options) : 0;
  return { ...report, acknowledged: true, resumed_runs };
}

async function resumeLanes(db: Database, actor: Actor): Promise<void> {
  const halted = await discover<{ business_id: BusinessId; carrier_account_id: CarrierAccountId }>(
    db,
    'SELECT business_id, carrier_account_id FROM carillon.lanes WHERE halted_reason = $1 AND halted_until_us IS NULL',
    [FORGOTTEN_CALL_HALT],
  );
  for (const lane of halted) await resumeLane(db, lane.business_id, lane.carrier_account_id, actor);
}

async function resumeRuns(
  db: Database,
  { unsettled }: RestoreReport,
  { actor, limits }: { actor: Actor; limits: Limits },
): Promise<number> {
  const without = new Set(unsettled.map((account) => `${account.business_id}/${account.carrier_account_id}`));
  const businesses = await discover<{ business_id: BusinessId }>(
    db,
    `SELECT DISTINCT business_id FROM carillon.outbound_call_runs WHERE status = 'paused' ORDER BY business_id`,
  );
  let resumed = 0;
  for (const { business_id } of businesses) {
    const runs = await inBusiness(db, business_id, (tx) =>
      tx.query<{ run_id: RunId; carrier_account_id: number }>(
        `SELECT run_id, carrier_account_id FROM carillon.outbound_call_runs
         WHERE business_id = $1 AND status = 'paused' AND starts_with(pause_reason, $2) ORDER BY run_id`,
        [business_id, FORGOTTEN],
      ),
    );
    for (const { run_id, carrier_account_id } of runs) {
      if (without.has(`${business_id}/${carrier_account_id}`)) continue;
      await resumeRun(db, business_id, run_id, limits, actor);
      resumed++;
    }
  }
  return resumed;
}
