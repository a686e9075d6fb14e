import type { RunId } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { reconcileNow } from '../src/call/reconcile.ts';
import { findDue, takeTurn } from '../src/call/tend.ts';
import {
  actor,
  claimAll,
  createFixture,
  createTenant,
  type Fixture,
  lease,
  live,
  record,
  startRun,
} from './support/fixture.ts';

let fixture: Fixture;
beforeAll(async () => {
  // Nothing would be asked about for an hour by itself.
  fixture = await createFixture({
    reconcile_every_ms: 3_600_000,
    poll_after_ms: 3_600_000,
    hang_up_every_ms: 3_600_000,
  });
});
afterAll(async () => await fixture.close());

const dueOf = async (run_id: RunId) =>
  (await findDue(fixture.db, fixture.limits)).filter((due) => due.run_id === run_id);

/** One attempt that was asked about a while ago and is unknown, one live call that has been heard of, one being dialled. */
async function threeOpen() {
  const tenant = await createTenant(fixture, { leads: 3 });
  const run_id = await startRun(fixture, tenant);
  const mine = await lease(fixture, tenant, run_id);
  const [unknown, talking, dialing] = await claimAll(fixture, mine, 3);
  if (!unknown || !talking || !dialing) throw new Error('three were to be claimed');
  await record(fixture, unknown, { kind: 'unknown', cause: 'response_timeout' });
  await record(fixture, talking, live('C1', 'in_call'));
  const us = 'extract(epoch FROM now()) * 1000000';
  await fixture.rows(`UPDATE carillon.open_attempts SET asked_us = ${us} - 60000000 WHERE run_id = $1`, [run_id]);
  return { tenant, run_id, dialing };
}

describe('reconciling now', () => {
  it('has workers ask at once about what is unknown and what is live, and leaves what is being dialled', async () => {
    const { tenant, run_id } = await threeOpen();
    expect(await dueOf(run_id)).toEqual([]);
    const report = await reconcileNow(fixture.db, tenant.business_id, { run_id, actor });
    expect(report).toEqual({ expired: 0, unknown: 1, live: 1 });
    const due = await dueOf(run_id);
    expect(due.map(({ errand }) => errand).toSorted()).toEqual(['poll', 'reconcile']);
    for (const one of due) expect(await takeTurn(fixture.db, one, 3_600_000)).not.toBeNull();
    // Their turn was taken: nobody asks twice, and whoever reconciles again a moment later changes nothing.
    for (const one of due) expect(await takeTurn(fixture.db, one, 3_600_000)).toBeNull();
    expect(await reconcileNow(fixture.db, tenant.business_id, { run_id, actor })).toMatchObject({
      unknown: 0,
      live: 0,
    });
  });

  it('finds attempts past their dial deadline, and those are unknown from then on, not before', async () => {
    const { tenant, run_id, dialing } = await threeOpen();
    await fixture.rows('UPDATE carillon.open_attempts SET deadline_us = 1 WHERE run_id = $1 AND seq = $2', [
      run_id,
      dialing.seq,
    ]);
    const before_us = await nowUs();
    expect(await reconcileNow(fixture.db, tenant.business_id, { actor })).toEqual({ expired: 1, unknown: 2, live: 1 });
    const [row] = await fixture.rows<{ state: string; unknown_us: string; deadline_us: string }>(
      'SELECT state, unknown_us, deadline_us FROM carillon.open_attempts WHERE run_id = $1 AND seq = $2',
      [run_id, dialing.seq],
    );
    expect(row).toMatchObject({ state: 'unknown', deadline_us: '1' });
    expect(Number(row?.unknown_us)).toBeGreaterThanOrEqual(before_us);
  });

  it('touches nobody else: not another run, not another business, and no row that is being settled', async () => {
    const one = await threeOpen();
    const other = await threeOpen();
    await expect(
      reconcileNow(fixture.db, one.tenant.business_id, { run_id: other.run_id, actor }),
    ).rejects.toMatchObject({
      code: 'run_not_found',
    });
    await reconcileNow(fixture.db, one.tenant.business_id, { actor });
    expect(await dueOf(other.run_id)).toEqual([]);
    expect(await dueOf(one.run_id)).toHaveLength(2);
  });

  it('stands in the trail', async () => {
    const { tenant, run_id } = await threeOpen();
    await reconcileNow(fixture.db, tenant.business_id, { run_id, actor });
    const events = await fixture.rows(
      `SELECT subject_type, subject_id, after FROM carillon.audit_events
       WHERE business_id = $1 AND action = 'run.reconcile_requested'`,
      [tenant.business_id],
    );
    expect(events).toEqual([
      { subject_type: 'run', subject_id: String(run_id), after: { expired: 0, unknown: 1, live: 1 } },
    ]);
  });
});

async function nowUs(): Promise<number> {
  const [row] = await fixture.rows<{ us: string }>(
    'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS us',
  );
  return Number(row?.us);
}
