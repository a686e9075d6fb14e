import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { AuditReport } from '@carillon/auditor';
import { Policy, type Run } from '@carillon/contract';
import { discoveryUrl } from '@carillon/engine';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { withClient } from '../support/test-server.ts';
import { until } from '../support/wait.ts';
import { createInstallation, type Installation, type Tenant } from './support/installation.ts';
import { attemptsOf, expectOneCallEach } from './support/judge.ts';
import { startCarillon } from './support/processes.ts';
import { giveSetClock, type SetClock, trueTimes } from './support/set-clock.ts';

/** On a machine that has other things to do. */
const START_MS = 180_000;
let database: TestDatabase;
let clock: SetClock;
let here: Installation;
beforeAll(async () => {
  database = await createTestDatabase();
  clock = await giveSetClock(database);
  here = await createInstallation(database);
}, START_MS);
afterAll(async () => await here.close(), START_MS);

const HOUR_MS = 3_600_000;

const TELLS = ['now', 'clock_timestamp', 'statement_timestamp', 'transaction_timestamp'];

/** How far each way to ask for the time is ahead of the true time, in hours. */
async function hoursAhead(url: string): Promise<number[]> {
  return await withClient(url, async (client) => {
    const { rows } = await client.query<{ at: Date }>(
      TELLS.map((name) => `SELECT ${name}() AS at`).join(' UNION ALL '),
    );
    return rows.map(({ at }) => Math.round((at.getTime() - Date.now()) / 36_000) / 100 + 0);
  });
}

/** Sets the clock, and waits until it is so. */
async function setClock(hours: number): Promise<void> {
  await clock.set(hours * HOUR_MS);
  await until(async () => (await hoursAhead(database.appUrl)).every((ahead) => ahead === hours), {
    deadline_ms: 30_000,
    what: `the clock to be set to ${hours} hours`,
  });
}

const root = path.join(import.meta.dirname, '../..');

describe('the clock that is set', () => {
  it('is what both logins are told, whatever they ask, and what is written by default', async () => {
    for (const hours of [1, -1, 0]) {
      await setClock(hours);
      for (const url of [database.appUrl, discoveryUrl(database.appUrl)])
        expect(await hoursAhead(url)).toEqual(TELLS.map(() => hours));
      const { business_id } = await here.tenant({ leads: 1, lines: 1, calls_per_second: 1 });
      const [row] = await here.rows<{ created_at: Date }>(
        'SELECT created_at FROM carillon.businesses WHERE business_id = $1',
        [business_id],
      );
      expect(Math.round(((row?.created_at.getTime() ?? 0) - Date.now()) / HOUR_MS) + 0).toBe(hours);
    }
    expect(await trueTimes(database.superuserUrl)).toEqual([]);
  });

  it('stands still within a transaction where a true one does', async () => {
    await withClient(database.appUrl, async (client) => {
      const tell = async () =>
        (await client.query<{ began: string; now: Date }>('SELECT now()::text AS began, clock_timestamp() AS now'))
          .rows[0];
      await client.query('BEGIN');
      const before = await tell();
      await setClock(1);
      const after = await tell();
      expect(after?.began).toBe(before?.began);
      expect((after?.now.getTime() ?? 0) - (before?.now.getTime() ?? 0)).toBeGreaterThan(HOUR_MS - 60_000);
      await client.query('ROLLBACK');
    });
    await setClock(0);
  });

  it('is not gone around by a keyword, which no function can stand in for', () => {
    const folders = ['packages/engine/src', 'packages/engine/migrations', 'packages/auditor/src', 'packages/api/src'];
    const keyword =
      /\b(current_(timestamp|time|date)|localtime(stamp)?|timeofday|pg_catalog\.(now|clock_timestamp))\b/i;
    const files = folders.flatMap((folder) =>
      readdirSync(path.join(root, folder), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => path.join(entry.parentPath, entry.name)),
    );
    expect(files.length).toBeGreaterThan(100);
    expect(files.filter((file) => keyword.test(readFileSync(file, 'utf8')))).toEqual([]);
  });
});

/** By the auditor nothing is wrong, though it can't order by time what is on record twice, and says so. */
async function expectInOrder({ business_id }: Tenant): Promise<void> {
  const business = ['--business', String(business_id)];
  const command = startCarillon(['audit', '--json', '--ledger', here.carrierUrl, ...business], here.env);
  await command.ended;
  const report = JSON.parse(command.stdout()) as AuditReport;
  expect(report.violations).toEqual([]);
  const unsaid = report.incomplete.filter(({ what }) => !/clock was set back/.test(what));
  expect(unsaid).toEqual([]);
  expect(new Set(report.incomplete.map(({ invariant }) => invariant))).toEqual(new Set([4, 5]));
  console.log(`audited: ${report.checked.attempts} attempts, ${report.checked.ledger_calls} calls of the ledger`);
}

/** Attempts that nobody knows the outcome of at this moment. */
async function unknown(run_id: number): Promise<number> {
  const rows = await here.rows(`SELECT 1 FROM carillon.open_attempts WHERE run_id = $1 AND state = 'unknown'`, [
    run_id,
  ]);
  return rows.length;
}

const BUSY = { leads: 20, lines: 20, calls_per_second: 20 };
const POLICY = { ...Policy.parse({}), retry: { busy: { times: 1, after_s: 20 } } };

/** Some more calls begin, which they do only where nobody waits for the hour. */
async function goesOn(tenant: Tenant, more: number): Promise<void> {
  const { calls } = await here.totals(tenant);
  const since_ms = performance.now();
  await here.calls(tenant, calls + more, 60_000);
  console.log(`${more} more calls ${Math.round(performance.now() - since_ms)} ms after the jump`);
}

describe('a database whose clock is set while leads are called', () => {
  it('an hour forward, back, and back below its beginning: nothing is doubled, and nothing waits for the hour', async () => {
    const leads = 500;
    const tenant = await here.tenant({
      leads,
      lines: 40,
      calls_per_second: 40,
      behaviour: {
        ring_ms: [50, 300],
        talk_ms: [50, 500],
        outcomes: { answered: 3, no_answer: 1, busy: 1 },
        // What is not answered and not told of by any callback is found in the carrier's list, or shown to be absent.
        lose_response: 0.15,
        http_error: { status: 503, probability: 0.1 },
        callback: { drop: 0.7 },
        listing_lag_ms: 200,
      },
    });
    const workers = [await here.worker(), await here.worker()];
    const { run_id } = await here.start(tenant);
    const busy = await here.tenant({ ...BUSY, behaviour: { outcomes: { busy: 1 } } });
    const again: Run[] = [];
    for (const hours of [1, 0, -1]) {
      await goesOn(tenant, 80);
      await until(async () => (await unknown(run_id)) >= 3, { deadline_ms: 60_000, what: 'attempts that are unknown' });
      if (again[0]) console.log(`${(await here.run(busy, again[0].run_id)).waiting} leads wait for their next try`);
      await setClock(hours);
      // Leads that wait for another try, by the time that it is now, while the clock is set back.
      if (again.length === 0) again.push(await here.start(busy, { policy: POLICY }));
    }
    const since_ms = performance.now();
    const run = await here.ended(tenant, run_id, 120_000);
    const after_ms = Math.round(performance.now() - since_ms);
    expect(run).toMatchObject({ status: 'completed', cursor_position: leads });
    await expectOneCallEach(here, tenant);
    expect(await here.rows('SELECT 1 FROM carillon.open_attempts')).toEqual([]);
    const attempts = await attemptsOf(here, run_id);
    const times = (outcome: string) => attempts.filter((one) => one.outcome === outcome).length;
    console.log(
      `ended ${after_ms} ms after the last jump; ${attempts.length} attempts, ${times('absent')} proven absent, ` +
        `${run.needs_review} of ${leads} leads to review, ${run.reclaim_count} leases taken over`,
    );
    expect(times('absent')).toBeGreaterThan(0);
    const tried = await here.ended(busy, again[0]?.run_id ?? 0, 120_000);
    expect(tried).toMatchObject({ status: 'completed', failed: BUSY.leads });
    const tries = Map.groupBy(await here.ledger(busy), ({ to }) => to);
    expect([...tries.values()].map((calls) => calls.length)).toEqual(Array.from({ length: BUSY.leads }, () => 2));
    const alive = await Promise.all([here.api, ...workers].map(({ ended }) => Promise.race([ended, 'alive'])));
    expect(alive).toEqual(['alive', 'alive', 'alive']);
    await expectInOrder(tenant);
  }, 300_000);
});
