import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { endOverdueRuns } from '../src/run/end.ts';
import { heartbeat } from '../src/run/heartbeat.ts';
import { leaseRuns } from '../src/run/lease.ts';
import { stopRun } from '../src/run/stop.ts';
import { sweepOnce } from '../src/run/sweep.ts';
import { actor, createFixture, createTenant, type Fixture, lease, readRow, startRun } from './support/fixture.ts';

/** Trouble with the rows of one business is no trouble for another. */

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
});
afterAll(async () => await fixture.close());

/** Two runs, each of a business of its own; the first has a name by which a constraint can break it. */
async function twoRuns(name: string) {
  const [ours, theirs] = [await createTenant(fixture, { leads: 3 }), await createTenant(fixture, { leads: 3 })];
  const bad = { tenant: ours, run_id: await startRun(fixture, ours, { name }) };
  const good = { tenant: theirs, run_id: await startRun(fixture, theirs) };
  return { bad, good };
}

/** Makes leases look as if their last heartbeat was some seconds ago. */
async function age(...runs: number[]): Promise<void> {
  await fixture.rows(
    "UPDATE carillon.outbound_call_runs SET lock_ts = now() - interval '20 s' WHERE run_id = ANY ($1)",
    [runs],
  );
}

async function isRenewed(run_id: number): Promise<boolean> {
  const renewed = await fixture.rows(
    "SELECT 1 FROM carillon.outbound_call_runs WHERE run_id = $1 AND lock_ts > now() - interval '10 s'",
    [run_id],
  );
  return renewed.length === 1;
}

describe('a heartbeat', () => {
  it('of one business does not wait for another’s locked run', async () => {
    const { bad, good } = await twoRuns('locked');
    const leases = [await lease(fixture, bad.tenant, bad.run_id), await lease(fixture, good.tenant, good.run_id)];
    await age(bad.run_id, good.run_id);
    const holder = new pg.Client({ connectionString: fixture.superuserUrl });
    await holder.connect();
    let beat: ReturnType<typeof heartbeat>;
    try {
      await holder.query('BEGIN');
      await holder.query('SELECT 1 FROM carillon.outbound_call_runs WHERE run_id = $1 FOR UPDATE', [bad.run_id]);
      beat = heartbeat(fixture.db, leases, 'worker-1', fixture.limits);
      await until(() => isRenewed(good.run_id), { deadline_ms: 10_000, what: 'the other business’s renewal' });
      expect(await isRenewed(bad.run_id)).toBe(false);
    } finally {
      await holder.end();
    }
    expect(await beat).toEqual({ lost: [], failed: [] });
    expect(await isRenewed(bad.run_id)).toBe(true);
  });

  it('that fails for one business renews the others, and says which it could not', async () => {
    const { bad, good } = await twoRuns('not renewed');
    const leases = [await lease(fixture, bad.tenant, bad.run_id), await lease(fixture, good.tenant, good.run_id)];
    await age(bad.run_id, good.run_id);
    await fixture.rows(
      `ALTER TABLE carillon.outbound_call_runs ADD CONSTRAINT no_beat
       CHECK (name <> 'not renewed' OR lock_ts < '2000-01-01') NOT VALID`,
    );
    const { lost, failed } = await heartbeat(fixture.db, leases, 'worker-1', fixture.limits);
    expect(await isRenewed(good.run_id)).toBe(true);
    expect(lost).toEqual([]);
    expect(failed).toMatchObject([{ leases: [leases[0]], error: { constraint: 'no_beat' } }]);
  });
});

describe('a run that breaks', () => {
  it('when it is leased does not lose the leases taken with it', async () => {
    const { bad, good } = await twoRuns('not leased');
    await fixture.rows(
      `ALTER TABLE carillon.outbound_call_runs ADD CONSTRAINT no_lease
       CHECK (name <> 'not leased' OR status = 'pending') NOT VALID`,
    );
    const errors: unknown[] = [];
    const { taken } = await leaseRuns(fixture.db, 'heir', 0, fixture.limits, (error) => errors.push(error));
    expect(taken.map(({ run_id }) => run_id)).toContain(good.run_id);
    expect(await readRow(fixture, good.run_id)).toMatchObject({ locked_by_worker: 'heir' });
    expect(await readRow(fixture, bad.run_id)).toMatchObject({ locked_by_worker: null });
    expect(errors).toMatchObject([{ constraint: 'no_lease' }]);
  });

  it('when it is swept does not keep others unswept', async () => {
    const { bad, good } = await twoRuns('not swept');
    for (const { tenant, run_id } of [bad, good]) await stopRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
    await fixture.rows(
      `ALTER TABLE carillon.outbound_call_runs ADD CONSTRAINT no_sweep
       CHECK (name <> 'not swept' OR swept_seq = 0) NOT VALID`,
    );
    const errors: unknown[] = [];
    const onError = (error: unknown) => errors.push(error);
    expect(await sweepOnce(fixture.db, fixture.limits, onError)).toBe(true);
    const states = await fixture.rows('SELECT DISTINCT status FROM carillon.outbound_call_jobs WHERE run_id = $1', [
      good.run_id,
    ]);
    expect(states).toEqual([{ status: 'cancelled' }]);
    expect(errors).toMatchObject([{ constraint: 'no_sweep' }]);
    // With nothing but the broken one left there is nothing to do: whoever sweeps until then comes to an end.
    expect(await sweepOnce(fixture.db, fixture.limits, onError)).toBe(false);
  });

  it('when its end has come does not keep others going past theirs', async () => {
    const { bad, good } = await twoRuns('not ended');
    await fixture.rows(
      "UPDATE carillon.outbound_call_runs SET ends_at = now() - $2 * interval '1 s' WHERE run_id = $1",
      [bad.run_id, 20],
    );
    await fixture.rows(
      "UPDATE carillon.outbound_call_runs SET ends_at = now() - $2 * interval '1 s' WHERE run_id = $1",
      [good.run_id, 10],
    );
    await fixture.rows(
      `ALTER TABLE carillon.outbound_call_runs ADD CONSTRAINT no_end
       CHECK (name <> 'not ended' OR cancel_requested_at IS NULL) NOT VALID`,
    );
    const errors: unknown[] = [];
    await endOverdueRuns(fixture.db, actor, (error) => errors.push(error));
    expect(await readRow(fixture, good.run_id)).toMatchObject({ status: 'cancelled', cancelled: 3 });
    expect(errors).toMatchObject([{ constraint: 'no_end' }]);
  });
});
