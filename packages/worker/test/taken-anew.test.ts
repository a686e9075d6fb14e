import { LeadId } from '@carillon/contract';
import pg from 'pg';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { createInstallation, type Installation } from './support/installation.ts';

let here: Installation;
let holder: pg.Client;
beforeEach(async () => {
  here = await createInstallation({
    behaviour: { default: { ring_ms: 20, talk_ms: 60_000, outcomes: { answered: 1 } } },
    // Whatever is dropped here stays so for as long as the test lasts.
    limits: { call_max_ms: 120_000, lease_ttl_ms: 60_000 },
  });
  holder = new pg.Client({ connectionString: here.superuserUrl });
  await holder.connect();
});
afterEach(async () => {
  await holder.end();
  await here.close();
});

it('a run that its worker takes anew stays its: the loop that lost the lease before drops nothing but that', {
  timeout: 120_000,
}, async () => {
  const tenant = await here.business({ leads: 2, lines: 1 });
  const leads = await here.rows<{ lead_id: string }>('SELECT lead_id FROM carillon.leads ORDER BY lead_id');
  // Somebody else has this one, so that more runs are looked for than are held.
  await here.run(await here.business({ leads: 1 }));
  await here.rows(
    "UPDATE carillon.outbound_call_runs SET status = 'running', locked_by_worker = 'other', lock_ts = now(), started_at = now()",
  );
  await holder.query('BEGIN');
  await holder.query('SELECT 1 FROM carillon.lanes WHERE business_id = $1 FOR NO KEY UPDATE', [tenant.business_id]);
  for (const { lead_id } of leads)
    await here.run(tenant, { list_id: undefined, lead_ids: [LeadId.parse(Number(lead_id))] });
  here.start();
  const waiting = `SELECT 1 FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%FROM carillon.lanes%'`;
  await until(async () => (await here.rows(waiting)).length === 1, { deadline_ms: 30_000, what: 'one run’s claim' });
  // The other run’s claim comes behind that one, and holds no lock meanwhile.
  const [behind] = await here.rows<{ run_id: string }>(
    'SELECT run_id FROM carillon.outbound_call_runs WHERE business_id = $1 FOR UPDATE SKIP LOCKED',
    [tenant.business_id],
  );
  const takenTimes = async () => {
    const [run] = await here.rows<{ lease_epoch: string }>(
      'SELECT lease_epoch FROM carillon.outbound_call_runs WHERE run_id = $1',
      [behind?.run_id],
    );
    return Number(run?.lease_epoch);
  };
  expect(await takenTimes()).toBe(1);
  await here.rows("UPDATE carillon.outbound_call_runs SET lock_ts = now() - interval '1 h' WHERE run_id = $1", [
    behind?.run_id,
  ]);
  await until(async () => (await takenTimes()) === 2, { deadline_ms: 30_000, what: 'the run to be taken anew' });
  await holder.query('ROLLBACK');
  await until(() => here.sim.ledger().length === 1, { deadline_ms: 30_000, what: 'the first run’s call' });
  await here.rows('UPDATE carillon.lanes SET concurrency_limit = 2 WHERE business_id = $1', [tenant.business_id]);
  await until(() => here.sim.ledger().length === 2, { deadline_ms: 15_000, what: 'the call of the run taken anew' });
  expect(await takenTimes()).toBe(2);
});
