import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { createInstallation, type Installation } from './support/installation.ts';

let here: Installation;
let holder: pg.Client;
beforeEach(async () => {
  here = await createInstallation({
    behaviour: { default: { ring_ms: 20, talk_ms: 60_000, outcomes: { answered: 1 } } },
    limits: { call_max_ms: 120_000, lease_ttl_ms: 3_000 },
  });
  holder = new pg.Client({ connectionString: here.superuserUrl });
  await holder.connect();
});
afterEach(async () => {
  await holder.end();
  await here.close();
});

/** How many claims wait for a lane's lock. */
async function waiters(): Promise<number> {
  const waiting = await here.rows(
    `SELECT 1 FROM pg_stat_activity
     WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%FROM carillon.lanes%'`,
  );
  return waiting.length;
}

describe('lanes that somebody holds locked', { timeout: 120_000 }, () => {
  it('keep no other run’s lease from being renewed, though their claims take every connection', async () => {
    // It has one line and leads to come: whenever its call ends, the run goes on.
    const other = await here.business({ leads: 5, lines: 1 });
    const run_id = await here.run(other);
    here.start();
    await until(() => here.sim.ledger().length === 1, { deadline_ms: 30_000, what: 'a call of the other run' });
    const tenants = await Promise.all(Array.from({ length: 8 }, () => here.business({ leads: 1 })));
    await holder.query('BEGIN');
    await holder.query('SELECT 1 FROM carillon.lanes WHERE business_id <> $1 FOR NO KEY UPDATE', [other.business_id]);
    for (const tenant of tenants) await here.run(tenant);
    await until(async () => (await waiters()) >= 6, { deadline_ms: 30_000, what: 'claims on all connections' });
    const beats = new Set<string>();
    await until(
      async () => {
        const [run] = await here.rows<{ lock_ts: string; reclaim_count: number }>(
          'SELECT lock_ts::text, reclaim_count FROM carillon.outbound_call_runs WHERE run_id = $1',
          [run_id],
        );
        expect(run?.reclaim_count).toBe(0);
        beats.add(run?.lock_ts ?? '');
        return beats.size >= 3;
      },
      { deadline_ms: 30_000, what: 'two more heartbeats' },
    );
    expect(await waiters()).toBeGreaterThanOrEqual(6);
    await holder.query('ROLLBACK');
    await until(() => here.sim.ledger().length >= 9, { deadline_ms: 30_000, what: 'everybody’s call' });
  });

  it('keep no free run waiting for a worker, though their claims take every connection', async () => {
    const tenants = await Promise.all(Array.from({ length: 8 }, () => here.business({ leads: 1 })));
    const other = await here.business({ leads: 1 });
    await holder.query('BEGIN');
    await holder.query('SELECT 1 FROM carillon.lanes WHERE business_id <> $1 FOR NO KEY UPDATE', [other.business_id]);
    for (const tenant of tenants) await here.run(tenant);
    here.start();
    await until(async () => (await waiters()) >= 6, { deadline_ms: 30_000, what: 'claims on all connections' });
    const run_id = await here.run(other);
    const held = 'SELECT 1 FROM carillon.outbound_call_runs WHERE run_id = $1 AND locked_by_worker IS NOT NULL';
    await until(async () => (await here.rows(held, [run_id])).length === 1, {
      deadline_ms: 10_000,
      what: 'a lease of the run',
    });
    expect(await waiters()).toBeGreaterThanOrEqual(6);
    await holder.query('ROLLBACK');
    await until(() => here.sim.ledger().length === 9, { deadline_ms: 30_000, what: 'everybody’s call' });
  });

  it('have one claim waiting for each, and leave the other connections to other businesses’ calls', async () => {
    const tenant = await here.business({ leads: 1 });
    const other = await here.business({ leads: 1 });
    await holder.query('BEGIN');
    await holder.query('SELECT 1 FROM carillon.lanes WHERE business_id = $1 FOR NO KEY UPDATE', [tenant.business_id]);
    for (let run = 0; run < 8; run++) await here.run(tenant);
    here.start();
    await until(async () => (await waiters()) >= 1, { deadline_ms: 30_000, what: 'a claim that waits' });
    await here.run(other);
    await until(() => here.sim.ledger().length === 1, { deadline_ms: 20_000, what: 'the other business’s call' });
    expect(await waiters()).toBe(1);
    await holder.query('ROLLBACK');
  });
});
