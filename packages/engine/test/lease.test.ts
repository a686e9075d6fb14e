import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FRESH_JOBS } from '../src/call/candidates.ts';
import { recordEvidence } from '../src/call/record.ts';
import { inBusiness } from '../src/db/database.ts';
import { probeLoad } from '../src/probe/server.ts';
import { heartbeat, releaseLeases } from '../src/run/heartbeat.ts';
import { type Lease, leaseRun, leaseRuns, restRuns } from '../src/run/lease.ts';
import { pauseRun } from '../src/run/pause.ts';
import { sweepOnce } from '../src/run/sweep.ts';
import { stopRun } from '../src/run/stop.ts';
import { behind } from './support/behind.ts';
import {
  actor,
  addList,
  claimAll,
  claimOnce,
  createFixture,
  createTenant,
  ended,
  expectRecounted,
  type Fixture,
  lease,
  readRow,
  record,
  startRun,
} from './support/fixture.ts';

/** Nothing may go wrong in passing. */
const fail = (error: unknown) => {
  throw error;
};

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture({ fill_batch_jobs: 100, sweep_batch_jobs: 100 });
});
afterAll(async () => await fixture.close());

/** Makes a run's lease look as old as if its worker had been dead for that long. */
async function age(run_id: number, seconds: number): Promise<void> {
  await fixture.rows("UPDATE carillon.outbound_call_runs SET lock_ts = now() - $2 * interval '1 s' WHERE run_id = $1", [
    run_id,
    seconds,
  ]);
}

describe('a lease', () => {
  it('is taken by one of many workers', async () => {
    const tenant = await createTenant(fixture);
    const run_id = await startRun(fixture, tenant);
    const taken = await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        inBusiness(fixture.db, tenant.business_id, (tx) => leaseRun(tx, run_id, `worker-${i}`, fixture.limits)),
      ),
    );
    expect(taken.filter((mine) => mine !== null)).toHaveLength(1);
    expect((await readRow(fixture, run_id)).lease_epoch).toBe(1);
  });

  it('that has gone stale is taken by another, and its worker’s claims and heartbeats are refused from then on', async () => {
    const tenant = await createTenant(fixture, { lines: 2 });
    const run_id = await startRun(fixture, tenant);
    const zombie = await lease(fixture, tenant, run_id, 'zombie');
    const attempts = await claimAll(fixture, zombie, 2, 'zombie');
    await age(run_id, 31);
    const heir = await lease(fixture, tenant, run_id, 'heir');
    expect(heir.lease_epoch).toBe(zombie.lease_epoch + 1);
    expect(await heartbeat(fixture.db, [zombie], 'zombie', fixture.limits)).toEqual({ lost: [zombie], failed: [] });
    expect(await claimOnce(fixture, zombie, 'zombie')).toMatchObject({ state: 'lost', attempts: [] });
    await releaseLeases(fixture.db, [zombie], 'zombie');
    expect(await readRow(fixture, run_id)).toMatchObject({ locked_by_worker: 'heir', reclaim_count: 1 });
    // Its evidence is welcome all the same: throwing away a call id is how calls get lost.
    expect(attempts).toHaveLength(2);
    for (const attempt of attempts)
      expect(await record(fixture, attempt, { kind: 'accepted', call_id: `Z${attempt.seq}` })).toBe('applied');
  });

  it('that expired is not revived by a worker that wakes, even if nobody took it', async () => {
    const tenant = await createTenant(fixture);
    const run_id = await startRun(fixture, tenant);
    const mine = await lease(fixture, tenant, run_id);
    expect(await heartbeat(fixture.db, [mine], 'worker-1', fixture.limits)).toEqual({ lost: [], failed: [] });
    await age(run_id, 31);
    expect(await heartbeat(fixture.db, [mine], 'worker-1', fixture.limits)).toEqual({ lost: [mine], failed: [] });
    expect((await claimOnce(fixture, mine)).state).toBe('lost');
    const [row] = await fixture.rows<{ age_s: number }>(
      'SELECT extract(epoch FROM now() - lock_ts)::float8 AS age_s FROM carillon.outbound_call_runs WHERE run_id = $1',
      [run_id],
    );
    expect(row?.age_s).toBeGreaterThan(30);
  });

  it('ends with a pause or a stop, and neither lets a claim through', async () => {
    const tenant = await createTenant(fixture, { leads: 20, lines: 2 });
    const run_id = await startRun(fixture, tenant);
    const mine = await lease(fixture, tenant, run_id);
    await pauseRun(fixture.db, tenant.business_id, run_id, 'drain', actor, 'lunch');
    expect(await claimOnce(fixture, mine)).toMatchObject({ state: 'lost', attempts: [] });
    expect(await readRow(fixture, run_id)).toMatchObject({
      status: 'paused',
      locked_by_worker: null,
      control_epoch: 1,
    });
  });

  it('goes round the businesses: one run of each before any business’s second', async () => {
    const own = await createFixture();
    const big = await createTenant(own, { leads: 1 });
    for (let run = 0; run < 6; run++) await startRun(own, big);
    const small = await createTenant(own, { leads: 1 });
    await startRun(own, small);
    await own.rows("INSERT INTO carillon.workers (worker_id) VALUES ('other-1'), ('other-2')");
    const { taken, fair_share } = await leaseRuns(own.db, 'worker-1', 0, own.limits, fail);
    expect(fair_share).toBe(3);
    expect(taken.map((mine) => mine.business_id)).toContain(small.business_id);
    await own.close();
  });

  it('is refused to a run whose leases started calls and finished none, five times; the run fails and says why', async () => {
    const tenant = await createTenant(fixture, { leads: 10, lines: 1 });
    const run_id = await startRun(fixture, tenant);
    for (let death = 0; death < 5; death++) {
      const mine = await lease(fixture, tenant, run_id, `worker-${death}`);
      const [attempt] = await claimAll(fixture, mine, 1, `worker-${death}`);
      if (attempt) await record(fixture, attempt, { kind: 'not_dialed', cause: 'died', unreachable: false });
      await age(run_id, 31);
    }
    await expect(lease(fixture, tenant, run_id)).rejects.toThrow('not leased');
    const row = await readRow(fixture, run_id);
    expect(row).toMatchObject({ status: 'failed', cancelled: 10, queued: 0 });
    expect(row.last_error).toMatch(/5 workers in a row/);
  });

  it('is not refused to a run that finishes something in between, nor to one that has started nothing', async () => {
    const tenant = await createTenant(fixture, { leads: 10, lines: 1 });
    const run_id = await startRun(fixture, tenant);
    for (let death = 0; death < 8; death++) {
      const mine = await lease(fixture, tenant, run_id, `worker-${death}`);
      const [attempt] = death % 3 === 2 ? await claimAll(fixture, mine, 1, `worker-${death}`) : [];
      if (attempt) await record(fixture, attempt, ended(`C${death}`, 'completed'));
      await age(run_id, 31);
    }
    expect((await lease(fixture, tenant, run_id)).lease_epoch).toBe(9);
  });
});

describe('a run that only waits', () => {
  /** Each of its leads was busy once, and is to be called again in 30 days. */
  async function waiting(own: Fixture, leads = 1) {
    const tenant = await createTenant(own, { leads, lines: leads });
    const policy = { retry: { busy: { times: 1, after_s: 2_592_000 } }, review_always: false };
    const run_id = await startRun(own, tenant, { policy });
    const mine = await lease(own, tenant, run_id);
    for (const attempt of await claimAll(own, mine, leads))
      await record(own, attempt, ended(`C${attempt.seq}`, 'busy'));
    return { tenant, run_id, mine };
  }
  const dueIn = async (own: Fixture, seconds: number, seq = 1) =>
    await own.rows(
      'UPDATE carillon.job_schedule SET due_us = (extract(epoch FROM now()) + $1) * 1000000 WHERE seq = $2',
      [seconds, seq],
    );

  it('is nobody’s until a lead is due within a minute: it takes no place of a worker, nor of its fair share', async () => {
    const own = await createFixture();
    const { run_id, mine } = await waiting(own, 2);
    const tenant = await createTenant(own);
    const other = await startRun(own, tenant);
    const both = [{ ...mine, business_id: tenant.business_id, run_id: other }, mine];
    expect(await restRuns(own.db, both, 'worker-1', own.limits, fail)).toEqual([mine]);
    expect(await readRow(own, run_id)).toMatchObject({ status: 'running', locked_by_worker: null, waiting: 2 });
    const look = async (held: number) => {
      const { taken, fair_share } = await leaseRuns(own.db, 'worker-1', held, own.limits, fail);
      return { taken: taken.map((one) => one.run_id), fair_share };
    };
    expect(await look(0)).toEqual({ taken: [other], fair_share: 1 });
    expect((await probeLoad(own.db, own.limits)).runs_due).toBe(1);
    await dueIn(own, 59);
    expect(await look(1)).toEqual({ taken: [run_id], fair_share: 2 });
    expect((await probeLoad(own.db, own.limits)).runs_due).toBe(2);
    await own.close();
  });

  it('is kept where it has a call by the time that it would be given back', async () => {
    const own = await createFixture();
    const { mine } = await waiting(own);
    const called = 'UPDATE carillon.outbound_call_runs SET in_progress = 1, waiting = 0';
    const { result, waited } = await behind(own, [[called, []]], () =>
      restRuns(own.db, [mine], 'worker-1', own.limits, fail),
    );
    expect([result, waited]).toEqual([[], true]);
    await own.close();
  });

  it('is looked at where its schedule was written before the clock was set back', async () => {
    const own = await createFixture();
    const { run_id, mine } = await waiting(own);
    expect(await restRuns(own.db, [mine], 'worker-1', own.limits, fail)).toEqual([mine]);
    await dueIn(own, 2_592_000 + 3_600);
    const { taken } = await leaseRuns(own.db, 'worker-1', 0, own.limits, fail);
    expect(taken.map((one) => one.run_id)).toEqual([run_id]);
    await own.close();
  });

  it.each<[string, (own: Fixture, mine: Lease) => Promise<unknown>]>([
    ['has a lead to call', (own) => own.rows('UPDATE carillon.outbound_call_runs SET queued = 1, waiting = 1')],
    ['has a call', (own) => own.rows('UPDATE carillon.outbound_call_runs SET in_progress = 1, waiting = 1')],
    ['has one of its leads due soon', (own) => dueIn(own, 59, 2)],
    ['has no schedule', (own) => own.rows('DELETE FROM carillon.job_schedule')],
    ['is paused', ({ db }, mine) => pauseRun(db, mine.business_id, mine.run_id, 'drain', actor, 'lunch')],
    ['is another worker’s', (own) => own.rows("UPDATE carillon.outbound_call_runs SET locked_by_worker = 'heir'")],
    ['was taken anew', (own) => own.rows('UPDATE carillon.outbound_call_runs SET lease_epoch = lease_epoch + 1')],
    [
      'waits longer than its policy says: that was told before the clock was set back',
      async (own) => {
        for (const seq of [1, 2]) await dueIn(own, 2_592_000 + 3_600, seq);
      },
    ],
    [
      'waits longer than anything waits but for its policy',
      async (own) => {
        await own.rows("UPDATE carillon.job_schedule SET reason = 'absent'");
        for (const seq of [1, 2]) await dueIn(own, 3_600, seq);
      },
    ],
  ])('is not given back where it %s', async (_, change) => {
    const own = await createFixture();
    const { run_id, mine } = await waiting(own, 2);
    await change(own, mine);
    const before = await readRow(own, run_id);
    expect(await restRuns(own.db, [mine], 'worker-1', own.limits, fail)).toEqual([]);
    expect(await readRow(own, run_id)).toEqual(before);
    await own.close();
  });
});

describe('the cursors', () => {
  it('go on where they were after a reclaim, without reading finished jobs again', async () => {
    const tenant = await createTenant(fixture, { leads: 2_000, lines: 100 });
    const own = { ...fixture, limits: { ...fixture.limits, fill_batch_jobs: 5_000 } };
    const run_id = await startRun(own, tenant);
    const first = await lease(own, tenant, run_id);
    for (let done = 0; done < 1_900; ) {
      const attempts = await claimAll(own, first, 100);
      const items = attempts.map((key) => ({ key, actor, evidence: ended(`C${key.seq}`, 'completed') }));
      await recordEvidence(own.db, tenant.business_id, run_id, items, own.limits);
      done += attempts.length;
    }
    await age(run_id, 31);
    const heir = await lease(own, tenant, run_id, 'heir');
    const [next] = (await claimOnce(own, heir, 'heir')).attempts;
    expect(next?.seq).toBe(1_901);
    await fixture.rows('ANALYZE carillon.outbound_call_jobs');
    const plan = await explain(FRESH_JOBS, [tenant.business_id, run_id, 1_901, 50]);
    // 50 rows by primary key: two look-ups of some pages for each, not the hundreds that 2,000 jobs take.
    expect(plan.text).toContain('outbound_call_jobs_pkey');
    expect(plan.text).toContain('leads_pkey');
    expect(plan.text).not.toContain('Seq Scan');
    expect(plan.buffers).toBeLessThan(50 * 4 + 20);
  });

  it('equal a recount at every commit of a run, and fill and sweep in batches to its end', async () => {
    const tenant = await createTenant(fixture, { leads: 250, lines: 20 });
    const run_id = await startRun(fixture, tenant);
    expect(await readRow(fixture, run_id)).toMatchObject({ total_leads: 250, queued: 250, claim_cursor: 1 });
    const mine = await lease(fixture, tenant, run_id);
    for (const attempt of await claimAll(fixture, mine, 20)) {
      await record(fixture, attempt, ended(`C${attempt.seq}`, attempt.seq % 2 ? 'completed' : 'no_answer'));
      await expectRecounted(fixture, run_id);
    }
    await stopRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'cancelled', cancelled: 230, cursor_position: 250 });
    while (await sweepOnce(fixture.db, fixture.limits, fail));
    const states = await fixture.rows(
      'SELECT status, count(*)::int AS jobs FROM carillon.outbound_call_jobs WHERE run_id = $1 GROUP BY status ORDER BY status',
      [run_id],
    );
    expect(states).toEqual([
      { status: 'cancelled', jobs: 230 },
      { status: 'completed', jobs: 10 },
      { status: 'failed', jobs: 10 },
    ]);
  });

  it('are never read by a status: no index of the jobs knows it', async () => {
    const indexes = await fixture.rows<{ indexdef: string }>(
      "SELECT indexdef FROM pg_indexes WHERE schemaname = 'carillon' AND tablename = 'outbound_call_jobs'",
    );
    expect(indexes.length).toBeGreaterThanOrEqual(2);
    expect(indexes.filter(({ indexdef }) => indexdef.includes('status'))).toEqual([]);
  });

  it('are kept apart by business: another business’s list makes no jobs here', async () => {
    const tenant = await createTenant(fixture, { leads: 3 });
    const other = await createTenant(fixture, { leads: 3 });
    const foreign = await addList(fixture, other.business_id, 3);
    await expect(startRun(fixture, tenant, { list_id: foreign as never })).rejects.toMatchObject({
      code: 'list_not_found',
    });
  });
});

async function explain(sql: string, params: unknown[]): Promise<{ text: string; buffers: number }> {
  const rows = await fixture.rows<{ 'QUERY PLAN': string }>(`EXPLAIN (ANALYZE, BUFFERS) ${sql}`, params);
  const text = rows.map((row) => row['QUERY PLAN']).join('\n');
  const [, hit = '0', read = '0'] = /Buffers: shared hit=(\d+)(?: read=(\d+))?/.exec(text) ?? [];
  return { text, buffers: Number(hit) + Number(read) };
}
