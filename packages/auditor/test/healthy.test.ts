import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { createWorld, ended, finishedRun, openRun, type World } from './support/world.ts';

let world: World;
beforeAll(async () => void (world = await createWorld()));
afterAll(async () => await world.close());

describe('what the engine has done', () => {
  it('is found in order, whatever became of the attempts', async () => {
    const run = await finishedRun(world);
    const [row] = await world.rows(
      'SELECT status, completed, failed, needs_review FROM carillon.outbound_call_runs WHERE run_id = $1',
      [run.run_id],
    );
    expect(row).toEqual({ status: 'completed', completed: 7, failed: 2, needs_review: 1 });
    await openRun(world);
    const report = await world.audit();
    expect(report.violations).toEqual([]);
    expect(report).toMatchObject({
      ok: true,
      incomplete: [],
      checked: { businesses: 2, runs: 2, jobs: 20, attempts: 18, ledger_calls: 0, carrier_numbers: 0 },
    });
    expect(report.checked.events).toBeGreaterThanOrEqual(7);
  });

  it('is in order where a lead is left to a person at which the account was refused each time', async () => {
    const run = await world.run(await world.tenant({ leads: 8, lines: 1 }));
    const mine = await world.lease(run);
    for (let claims = 0; claims < 11; claims++) {
      await world.rows('UPDATE carillon.lanes SET halted_until_us = 1 WHERE halted_until_us > 0');
      const [attempt] = await world.call(mine, 1);
      if (attempt?.seq === 1) await world.tell(attempt, { kind: 'rejected', code: '21210', class: 'lane' });
      else await world.tell(attempt, ended(`R${run.run_id}-${attempt?.seq}`, 'completed'));
    }
    const [row] = await world.rows(
      'SELECT status, completed, needs_review FROM carillon.outbound_call_runs WHERE run_id = $1',
      [run.run_id],
    );
    expect(row).toEqual({ status: 'completed', completed: 7, needs_review: 1 });
    expect((await world.audit({ business_id: run.business_id })).violations).toEqual([]);
  });

  it('is read to its end, however many jobs there are', async () => {
    const { business_id, run_id } = await world.run(await world.tenant({ leads: 4_100 }));
    expect(await world.audit({ business_id })).toMatchObject({ ok: true, checked: { jobs: 4_100 } });
    await world.rows("UPDATE carillon.outbound_call_jobs SET status = 'waiting' WHERE run_id = $1 AND seq = 4100", [
      run_id,
    ]);
    const { violations } = await world.audit({ business_id });
    expect(violations.map(({ invariant, job_id }) => [invariant, job_id])).toEqual([
      [3, undefined],
      [6, `${run_id}-4100`],
    ]);
    await world.rows("UPDATE carillon.outbound_call_jobs SET status = 'queued' WHERE run_id = $1 AND seq = 4100", [
      run_id,
    ]);
  });

  it('is judged at one moment, whatever is committed while the auditor reads', async () => {
    const { business_id, run_id } = await openRun(world);
    await withClient(world.superuserUrl, async (client) => {
      await client.query('BEGIN');
      await client.query('LOCK TABLE carillon.outbound_call_jobs');
      const report = world.audit({ business_id });
      const waits =
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'carillon audit' AND wait_event_type = 'Lock'";
      // It has read the run, and waits for its jobs.
      await until(async () => (await world.rows(waits)).length > 0, {
        deadline_ms: 30_000,
        what: 'the auditor to wait',
      });
      await client.query("UPDATE carillon.outbound_call_jobs SET status = 'cancelled' WHERE run_id = $1 AND seq = 10", [
        run_id,
      ]);
      await client.query(
        'UPDATE carillon.outbound_call_runs SET queued = queued - 1, cancelled = cancelled + 1 WHERE run_id = $1',
        [run_id],
      );
      await client.query('COMMIT');
      expect(await report).toMatchObject({ ok: true, violations: [] });
    });
    expect(await world.audit({ business_id })).toMatchObject({ ok: true });
  });
});
