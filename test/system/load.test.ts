import { ListId, type Run } from '@carillon/contract';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../support/wait.ts';
import { createInstallation, type Installation, type Tenant, type Worker } from './support/installation.ts';
import { attemptsOf, expectAudited, expectOneCallEach, expectRightCounters, startsOf } from './support/judge.ts';
import { watchCounters } from './support/watcher.ts';

let here: Installation;
beforeAll(async () => void (here = await createInstallation()));
afterEach(async () => {
  await here.killWorkers();
  await expectAudited(here);
});
afterAll(async () => await here.close());

/** Two workers that know of each other, so that each takes its share. */
async function startPair(): Promise<[Worker, Worker]> {
  const pair: [Worker, Worker] = [await here.worker(), await here.worker()];
  const ids = pair.map(({ worker_id }) => worker_id);
  await until(
    async () => (await here.rows('SELECT 1 FROM carillon.workers WHERE worker_id = ANY ($1)', [ids])).length === 2,
    { deadline_ms: 10_000, what: 'both workers to be known' },
  );
  return pair;
}

/** Two runs of a business of their own: processes that have never called anybody are slow, and that is not judged. */
async function warmUp(): Promise<void> {
  const tenant = await here.tenant({ leads: 100, lines: 50, calls_per_second: 100 });
  const list_id = ListId.parse(await here.list(tenant, 100, 100));
  const runs = [await here.start(tenant), await here.start(tenant, { list_id })];
  for (const { run_id } of runs) await here.ended(tenant, run_id);
}

describe('four runs of 2,000 leads of two businesses, with two workers and one API', () => {
  const LEADS = 2_000;
  const LINES = 60;
  const RATE = 60;
  /** Between the database's clock and the carrier's. */
  const CLOCKS_MS = 5;

  it('call each lead once, within lines and rates, with counters that are right at every commit seen', async () => {
    const tenants: Tenant[] = [];
    for (let business = 0; business < 2; business++)
      tenants.push(
        await here.tenant({
          leads: LEADS,
          lines: LINES,
          calls_per_second: RATE,
          // Some half of the lines, so that it is the rate that holds calls back.
          behaviour: { ring_ms: [50, 200], talk_ms: [50, 400] },
        }),
      );
    const runs: { tenant: Tenant; run: Run }[] = [];
    const workers = await startPair();
    await warmUp();
    const stopWatching = watchCounters(here.superuserUrl);
    const since_ms = performance.now();
    for (const tenant of tenants) {
      // A second list of other people; the judge counts both.
      const list_id = await here.list(tenant, LEADS, LEADS);
      runs.push(
        { tenant, run: await here.start(tenant) },
        { tenant, run: await here.start(tenant, { list_id: ListId.parse(list_id) }) },
      );
      tenant.leads = 2 * LEADS;
    }
    for (const { tenant, run } of runs) {
      const ended = await here.ended(tenant, run.run_id, 150_000);
      expect(ended).toMatchObject({ status: 'completed', completed: LEADS, cursor_position: LEADS, needs_review: 0 });
    }
    const took_s = (performance.now() - since_ms) / 1_000;
    console.log(`8,000 calls in ${took_s.toFixed(1)} s, ${Math.round(8_000 / took_s)} a second`);

    const moments = await expectRightCounters(stopWatching);
    console.log(`${moments} different states of runs were seen and recounted`);
    expect(moments).toBeGreaterThan(100);
    const placed = new Map(workers.map(({ worker_id }) => [worker_id, 0]));
    for (const tenant of tenants) {
      const ledger = await expectOneCallEach(here, tenant);
      const { max_live } = await here.totals(tenant);
      expect(max_live).toBeLessThanOrEqual(LINES);
      const mine = runs.filter((one) => one.tenant === tenant);
      const attempts = (await Promise.all(mine.map(({ run }) => attemptsOf(here, run.run_id)))).flat();
      const starts = startsOf(ledger, attempts, RATE);
      console.log(`business ${tenant.business_id}: at most ${max_live} calls live; starts ${JSON.stringify(starts)}`);
      // No call before its time: so whatever was more in a second than the rate allows had been held up on its way.
      expect(starts.earliest_ms).toBeLessThanOrEqual(CLOCKS_MS);
      expect(starts.per_ten_seconds).toBeLessThanOrEqual(1.05 * 10 * RATE + 2);
      for (const { worker_id, outcome } of attempts)
        if (outcome === 'completed') placed.set(worker_id, (placed.get(worker_id) ?? 0) + 1);
    }
    console.log('calls placed by each worker', ...placed.values());
    expect(placed.size).toBe(2);
    for (const calls of placed.values()) expect(calls).toBeGreaterThanOrEqual((4 * LEADS) / 5);
  }, 200_000);
});

describe('two workers that claim for two runs on one line', () => {
  it('never have two calls live', async () => {
    const tenant = await here.tenant({
      leads: 40,
      lines: 1,
      calls_per_second: 1_000,
      behaviour: { ring_ms: [0, 10], talk_ms: [0, 20], callback: { delay_ms: [0, 5] } },
    });
    const other = await here.list(tenant, 40, 40);
    tenant.leads = 80;
    const workers = await startPair();
    const runs = [await here.start(tenant), await here.start(tenant, { list_id: ListId.parse(other) })];
    for (const { run_id } of runs) await here.ended(tenant, run_id);
    await expectOneCallEach(here, tenant);
    expect(await here.totals(tenant)).toMatchObject({ calls: 80, max_live: 1 });
    const attempts = (await Promise.all(runs.map(({ run_id }) => attemptsOf(here, run_id)))).flat();
    expect(new Set(attempts.map(({ worker_id }) => worker_id))).toEqual(
      new Set(workers.map(({ worker_id }) => worker_id)),
    );
  });
});
