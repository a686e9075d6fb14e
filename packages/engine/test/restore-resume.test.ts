import type { RunId } from '@carillon/contract';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { accountIsSettled } from '../src/restore/accounts.ts';
import { acknowledgeRestore } from '../src/restore/acknowledge.ts';
import { pauseForRestore, suspectRestore } from '../src/restore/notice.ts';
import { pauseRun } from '../src/run/pause.ts';
import { behind } from './support/behind.ts';
import { actor, createFixture, createTenant, type Fixture, readRow, startRun, type Tenant } from './support/fixture.ts';

let fixture: Fixture;
let tenant: Tenant;
beforeEach(async () => {
  fixture = await createFixture();
  tenant = await createTenant(fixture);
});
afterEach(async () => await fixture.close());

/** A restore is noticed, and the runs are paused for it. */
async function pauseAll(): Promise<void> {
  await suspectRestore(fixture.db, 'declared', actor);
  await pauseForRestore(fixture.db, 'declared', actor, (error) => {
    throw error;
  });
}

async function compare(): Promise<void> {
  const account = { business_id: tenant.business_id, carrier_account_id: tenant.carrier_account_id };
  await accountIsSettled(fixture.db, account, 1, { listed: 0, forgotten: 0, reviewed: 0 }, actor);
}

const acknowledge = async (options: { resume: boolean; force?: boolean }) =>
  await acknowledgeRestore(fixture.db, { force: false, ...options, actor, limits: fixture.limits });

const statusOf = async (run_id: RunId) => (await readRow(fixture, run_id)).status;

describe('runs that are paused for a restore', () => {
  it('go on when it is asked for again: who acknowledged may have died before they did', async () => {
    const run_id = await startRun(fixture, tenant);
    const lunch = await startRun(fixture, tenant);
    await pauseRun(fixture.db, tenant.business_id, lunch, 'drain', actor, 'lunch');
    await pauseAll();
    await compare();
    const paused_runs = [{ business_id: tenant.business_id, run_id, compared: true }];
    expect(await acknowledge({ resume: false })).toMatchObject({ acknowledged: true, resumed_runs: [], paused_runs });
    expect(await acknowledge({ resume: false })).toMatchObject({ reason: null, acknowledged: false, resumed_runs: [] });
    expect(await statusOf(run_id)).toBe('paused');
    const resumed_runs = [{ business_id: tenant.business_id, run_id }];
    expect(await acknowledge({ resume: true })).toMatchObject({ acknowledged: false, resumed_runs, paused_runs: [] });
    expect(await acknowledge({ resume: true })).toMatchObject({ resumed_runs: [], paused_runs: [] });
    expect([await statusOf(run_id), await statusOf(lunch)]).toEqual(['pending', 'paused']);
  });

  it('stay paused where the carrier could not be asked, also when it is asked for again', async () => {
    const run_id = await startRun(fixture, tenant);
    await pauseAll();
    const paused_runs = [{ business_id: tenant.business_id, run_id, compared: false }];
    expect(await acknowledge({ resume: true, force: true })).toMatchObject({ resumed_runs: [], paused_runs });
    expect(await acknowledge({ resume: true, force: true })).toMatchObject({
      reason: null,
      resumed_runs: [],
      paused_runs,
    });
    expect(await statusOf(run_id)).toBe('paused');
  });

  it('stay stopped where one is stopped meanwhile, and the others go on', async () => {
    const [stopped, next] = [await startRun(fixture, tenant), await startRun(fixture, tenant)];
    await pauseAll();
    await compare();
    const stop = `UPDATE carillon.outbound_call_runs SET status = 'cancelling', cancel_requested_at = now(),
      cancelled = cancelled + queued + waiting, queued = 0, waiting = 0 WHERE run_id = $1`;
    const { result, waited } = await behind(fixture, [[stop, [stopped]]], () => acknowledge({ resume: true }));
    expect(waited).toBe(true);
    expect(result).toMatchObject({ acknowledged: true, resumed_runs: [{ run_id: next }], paused_runs: [] });
    expect([await statusOf(stopped), await statusOf(next)]).toEqual(['cancelling', 'pending']);
  });
});
