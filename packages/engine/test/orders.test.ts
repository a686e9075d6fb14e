import type { LeadId, RunId } from '@carillon/contract';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { withClient } from '../../../test/support/test-server.ts';
import { until } from '../../../test/support/wait.ts';
import { nextDue } from '../src/call/candidates.ts';
import { recordEvidence } from '../src/call/record.ts';
import { findDue } from '../src/call/tend.ts';
import { takeUnwanted } from '../src/call/unwanted.ts';
import { inBusiness } from '../src/db/database.ts';
import { eraseLead } from '../src/lead/erase.ts';
import { importLeads } from '../src/lead/import.ts';
import { createList, listNamed } from '../src/lead/lists.ts';
import { endOverdueRuns } from '../src/run/end.ts';
import { fillAhead } from '../src/run/fill.ts';
import { heartbeat } from '../src/run/heartbeat.ts';
import { leaseRuns } from '../src/run/lease.ts';
import { stopRun } from '../src/run/stop.ts';
import { sweepOnce } from '../src/run/sweep.ts';
import { waiters } from './support/behind.ts';
import {
  actor,
  addAccount,
  claimAll,
  claimOnce,
  createFixture,
  createTenant,
  ended,
  type Fixture,
  lease,
  readRow,
  record,
  startRun,
} from './support/fixture.ts';

/**
 * Each order that is asked for, where the tables give another: rows lie on the disk against it, and are read as they
 * lie. An index gives most orders by itself, as long as the planner takes it.
 */

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture({ dial_deadline_ms: 1, fill_batch_jobs: 1_000, fill_ahead_jobs: 1_000 });
  const AS_IT_LIES = {
    enable_seqscan: 'on',
    enable_indexscan: 'off',
    enable_indexonlyscan: 'off',
    enable_bitmapscan: 'off',
  };
  await withClient(fixture.superuserUrl, async (client) => {
    for (const login of [fixture.logins.app, fixture.logins.discovery])
      for (const [name, value] of Object.entries(AS_IT_LIES))
        await client.query(
          `ALTER ROLE ${pg.escapeIdentifier(login)} IN DATABASE ${pg.escapeIdentifier(fixture.name)} SET ${name} = ${value}`,
        );
  });
});
afterAll(async () => await fixture.close());

describe('claiming', () => {
  it('passes nobody over: fresh jobs are claimed by their numbers', async () => {
    const tenant = await createTenant(fixture, { leads: 3, lines: 2 });
    const run_id = await startRun(fixture, tenant);
    const mine = await lease(fixture, tenant, run_id);
    await fixture.rows("UPDATE carillon.outbound_call_jobs SET reason = 'moved' WHERE run_id = $1 AND seq = 1", [
      run_id,
    ]);
    const attempts = await claimAll(fixture, mine, 2);
    expect(attempts.map(({ seq }) => seq)).toEqual([1, 2]);
  });

  it('takes the longest due first', async () => {
    const tenant = await createTenant(fixture, { leads: 2, lines: 2 });
    const run_id = await startRun(fixture, tenant);
    const mine = await lease(fixture, tenant, run_id);
    for (const attempt of await claimAll(fixture, mine, 2))
      await record(fixture, attempt, { kind: 'not_dialed', cause: 'late', unreachable: false });
    await fixture.rows('UPDATE carillon.job_schedule SET due_us = 3 - seq WHERE run_id = $1', [run_id]);
    await fixture.rows('UPDATE carillon.outbound_call_runs SET concurrency = 1 WHERE run_id = $1', [run_id]);
    expect((await claimOnce(fixture, mine)).attempts.map(({ seq }) => seq)).toEqual([2]);
  });
});

it('a business’s oldest run is leased first', async () => {
  await fixture.rows("UPDATE carillon.outbound_call_runs SET lock_ts = now(), locked_by_worker = 'other'");
  const tenant = await createTenant(fixture);
  const [one] = [await startRun(fixture, tenant), await startRun(fixture, tenant)];
  await fixture.rows("UPDATE carillon.outbound_call_runs SET name = 'moved' WHERE run_id = $1", [one]);
  const { taken } = await leaseRuns(fixture.db, 'w', 0, { ...fixture.limits, worker_runs: 1 }, (error) => {
    throw error;
  });
  expect(taken.map(({ run_id }) => run_id)).toEqual([one]);
});

it('who is due next is asked of all who wait', async () => {
  const tenant = await createTenant(fixture, { leads: 2, lines: 2 });
  const run_id = await startRun(fixture, tenant);
  const mine = await lease(fixture, tenant, run_id);
  for (const attempt of await claimAll(fixture, mine, 2))
    await record(fixture, attempt, { kind: 'not_dialed', cause: 'late', unreachable: false });
  const [soon_us, later_us] = [4_000_000_000_000_000, 4_000_000_000_000_001];
  for (const [seq, due_us] of [
    [1, later_us],
    [2, soon_us],
  ])
    await fixture.rows('UPDATE carillon.job_schedule SET due_us = $3 WHERE run_id = $1 AND seq = $2', [
      run_id,
      seq,
      due_us,
    ]);
  expect(await inBusiness(fixture.db, tenant.business_id, (tx) => nextDue(tx, mine))).toBe(soon_us);
});

/** Starts `work` while `lock` is held, and says whether meanwhile `other` was locked by it. */
async function holdsBehind(
  lock: string,
  other: string,
  params: unknown[],
  work: () => Promise<unknown>,
): Promise<boolean> {
  const holder = new pg.Client({ connectionString: fixture.superuserUrl });
  await holder.connect();
  try {
    await holder.query('BEGIN');
    expect((await holder.query(lock, params)).rowCount).toBe(1);
    const done = work();
    await until(async () => (await waiters(fixture)) > 0, { deadline_ms: 30_000, what: 'the wait for the first row' });
    const free = await fixture.rows(`${other} FOR UPDATE SKIP LOCKED`, params);
    await holder.query('COMMIT');
    await done;
    return free.length === 0;
  } finally {
    await holder.end();
  }
}

const FIRST_ATTEMPT = 'SELECT 1 FROM carillon.open_attempts WHERE run_id = $1 AND seq = 1 FOR UPDATE';
const SECOND_ATTEMPT = 'SELECT 1 FROM carillon.open_attempts WHERE run_id = $1 AND seq = 2';

describe('locks', () => {
  /** Two open attempts, of which the first lies behind the second. */
  async function twoAttempts() {
    const tenant = await createTenant(fixture, { leads: 2, lines: 2 });
    const run_id = await startRun(fixture, tenant);
    const attempts = await claimAll(fixture, await lease(fixture, tenant, run_id), 2);
    await fixture.rows("UPDATE carillon.open_attempts SET cause = 'moved' WHERE run_id = $1 AND seq = 1", [run_id]);
    return { tenant, run_id, attempts };
  }

  it('attempts are locked in the order of their keys by evidence', async () => {
    const { tenant, run_id, attempts } = await twoAttempts();
    const items = attempts.map((key) => ({
      key,
      evidence: { kind: 'accepted', call_id: `C${key.seq}` } as const,
      actor,
    }));
    const early = await holdsBehind(FIRST_ATTEMPT, SECOND_ATTEMPT, [run_id], () =>
      recordEvidence(fixture.db, tenant.business_id, run_id, items, fixture.limits),
    );
    expect(early).toBe(false);
  });

  const FIRST_RUN = 'SELECT 1 FROM carillon.outbound_call_runs WHERE run_id = $1 AND $2::bigint > 0 FOR UPDATE';
  const SECOND_RUN = 'SELECT 1 FROM carillon.outbound_call_runs WHERE $1::bigint > 0 AND run_id = $2';

  it('runs are locked in the order of their keys by heartbeats', async () => {
    const tenant = await createTenant(fixture);
    const [one, two] = [await startRun(fixture, tenant), await startRun(fixture, tenant)];
    const leases = [await lease(fixture, tenant, two), await lease(fixture, tenant, one)];
    const beating = () => heartbeat(fixture.db, leases, 'worker-1', fixture.limits);
    expect(await holdsBehind(FIRST_RUN, SECOND_RUN, [one, two], beating)).toBe(false);
  });

  it('runs are locked in the order of their keys by an erasure', async () => {
    const tenant = await createTenant(fixture, { leads: 1 });
    const [one, two] = [await startRun(fixture, tenant), await startRun(fixture, tenant)];
    await fixture.rows("UPDATE carillon.outbound_call_runs SET name = 'moved' WHERE run_id = $1", [one]);
    const [lead] = await fixture.rows<{ lead_id: string }>(
      'SELECT lead_id FROM carillon.leads WHERE business_id = $1',
      [tenant.business_id],
    );
    const erasing = () =>
      eraseLead(fixture.db, tenant.business_id, Number(lead?.lead_id) as never, { actor, limits: fixture.limits });
    expect(await holdsBehind(FIRST_RUN, SECOND_RUN, [one, two], erasing)).toBe(false);
  });

  it('leads are locked in the order of their keys by claims', async () => {
    const tenant = await createTenant(fixture, { leads: 2, lines: 2 });
    await addAccount(fixture, tenant);
    const leads = await fixture.rows<{ lead_id: string }>(
      'SELECT lead_id FROM carillon.leads WHERE business_id = $1 ORDER BY lead_id',
      [tenant.business_id],
    );
    const [one, two] = leads.map(({ lead_id }) => Number(lead_id) as LeadId);
    if (!one || !two) throw new Error('two leads are two');
    const { carrier_account_id } = tenant;
    const mine = await lease(
      fixture,
      tenant,
      await startRun(fixture, tenant, { lead_ids: [two, one], carrier_account_id }),
    );
    const first = 'SELECT 1 FROM carillon.leads WHERE lead_id = $1 AND $2::bigint > 0 FOR UPDATE';
    const second = 'SELECT 1 FROM carillon.leads WHERE $1::bigint > 0 AND lead_id = $2';
    expect(await holdsBehind(first, second, [one, two], () => claimOnce(fixture, mine))).toBe(false);
  });

  it('leads are made in the order of their numbers by an import', async () => {
    const tenant = await createTenant(fixture, { leads: 0 });
    const phones = ['0501000003', '0501000001', '0501000002'];
    async function* file(): AsyncGenerator<Buffer> {
      yield Buffer.from(`phone\n${phones.join('\n')}\n`);
    }
    await importLeads(fixture.db, tenant.business_id, tenant.list_id, file(), { actor, country: 'IL' });
    const made = await fixture.rows<{ phone: string }>(
      'SELECT phone FROM carillon.leads WHERE business_id = $1 ORDER BY lead_id',
      [tenant.business_id],
    );
    expect(made.map(({ phone }) => phone)).toEqual(['+972501000001', '+972501000002', '+972501000003']);
  });
});

it('consents are written in the order of their leads by an import', async () => {
  const tenant = await createTenant(fixture, { leads: 0 });
  const lines = [3, 1, 2].map((n) => `050200000${n},paper,I agree`);
  async function* file(): AsyncGenerator<Buffer> {
    yield Buffer.from(`phone,consent source,consent text\n${lines.join('\n')}\n`);
  }
  await importLeads(fixture.db, tenant.business_id, tenant.list_id, file(), { actor, country: 'IL' });
  const written = await fixture.rows<{ lead_id: string }>(
    'SELECT lead_id FROM carillon.lead_consents WHERE business_id = $1 ORDER BY ctid',
    [tenant.business_id],
  );
  const ids = written.map(({ lead_id }) => Number(lead_id));
  expect(ids).toHaveLength(3);
  expect(ids).toEqual(ids.toSorted((a, b) => a - b));
});

it('of several lists of a name the oldest is meant', async () => {
  const { business_id } = await createTenant(fixture, { leads: 0 });
  const make = () => createList(fixture.db, business_id, { name: 'autumn' }, actor);
  const [one] = [await make(), await make()];
  await fixture.rows('UPDATE carillon.lists SET leads = leads WHERE list_id = $1', [one.list_id]);
  expect(await listNamed(fixture.db, business_id, { name: 'autumn' }, actor)).toMatchObject({ list_id: one.list_id });
});

it('jobs lie on the disk in the order in which they are called', async () => {
  const tenant = await createTenant(fixture, { leads: 0 });
  await fixture.rows(
    `WITH people AS (
       INSERT INTO carillon.leads (business_id, phone) SELECT $1, '+97254' || (3000000 + n) FROM generate_series(1, 20) n
       RETURNING lead_id)
     INSERT INTO carillon.list_members (business_id, list_id, position, lead_id)
     SELECT $1, $2, row_number() OVER (ORDER BY lead_id DESC), lead_id FROM people ORDER BY lead_id`,
    [tenant.business_id, tenant.list_id],
  );
  await fixture.rows('UPDATE carillon.lists SET leads = 20 WHERE list_id = $1', [tenant.list_id]);
  const run_id = await startRun(fixture, tenant);
  await fillAhead(fixture.db, tenant.business_id, run_id, fixture.limits);
  const jobs = await fixture.rows<{ seq: number }>(
    'SELECT seq FROM carillon.outbound_call_jobs WHERE run_id = $1 ORDER BY ctid',
    [run_id],
  );
  expect(jobs.map(({ seq }) => seq)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
});

describe('what is found first of more than are looked for at once', () => {
  it('is tended first that nobody has asked about for longest', async () => {
    const tenant = await createTenant(fixture, { leads: 501, lines: 501 });
    const run_id = await startRun(fixture, tenant);
    await claimAll(fixture, await lease(fixture, tenant, run_id), 501);
    await fixture.rows(
      `UPDATE carillon.open_attempts SET state = 'unknown', asked_us = CASE WHEN seq = 501 THEN -5 ELSE 1000 + seq END
       WHERE run_id = $1`,
      [run_id],
    );
    await fixture.rows('UPDATE carillon.open_attempts SET heard_us = heard_us WHERE run_id = $1 AND seq = 501', [
      run_id,
    ]);
    const mine = (await findDue(fixture.db, fixture.limits)).filter((due) => due.run_id === run_id);
    expect(mine[0]).toMatchObject({ seq: 501 });
    // And no more of one account than leaves room for others.
    expect(mine).toHaveLength(100);
  });

  it('is tended beside accounts of which very much is to be tended, and what is to expire beside all of it', async () => {
    const busy = await createTenant(fixture, { leads: 620, lines: 620 });
    const unknown = await startRun(fixture, busy);
    await claimAll(fixture, await lease(fixture, busy, unknown), 620);
    // Of six accounts whose carriers do not answer: nobody has asked for longer.
    await fixture.rows(
      `UPDATE carillon.open_attempts SET state = 'unknown', asked_us = -1, carrier_account_id = 1000000 + seq % 6
       WHERE run_id = $1`,
      [unknown],
    );
    const late = await createTenant(fixture, { leads: 2, lines: 2 });
    const run_id = await startRun(fixture, late);
    await claimAll(fixture, await lease(fixture, late, run_id), 2);
    await fixture.rows(
      `UPDATE carillon.open_attempts SET deadline_us = 1, heard_us = 1, asked_us = 2000,
         state = CASE seq WHEN 1 THEN 'dialing' ELSE 'in_call' END, hang_up = CASE seq WHEN 2 THEN 'run' END
       WHERE run_id = $1`,
      [run_id],
    );
    const due = (await findDue(fixture.db, fixture.limits)).filter((one) => one.run_id === run_id);
    expect(due.map(({ seq, errand }) => ({ seq, errand }))).toEqual([
      { seq: 1, errand: 'expire' },
      { seq: 2, errand: 'hang_up' },
    ]);
  });

  it('is hung up first that nobody has tried to end for longest', async () => {
    const { business_id, carrier_account_id } = await createTenant(fixture, { leads: 0 });
    await fixture.rows(
      `INSERT INTO carillon.unwanted_calls (business_id, carrier_account_id, call_id, reason, asked_us)
       SELECT $1, $2, 'C' || n, 'test', 1000 - n FROM generate_series(1, 101) n`,
      [business_id, carrier_account_id],
    );
    const [first] = await takeUnwanted(fixture.db, fixture.limits);
    expect(first).toMatchObject({ call_id: 'C101' });
  });

  it('is hung up beside an account of which very many are to be', async () => {
    const unwanted = `INSERT INTO carillon.unwanted_calls (business_id, carrier_account_id, call_id, reason, asked_us)
      SELECT $1, $2, 'C' || n, 'test', $3 FROM generate_series(1, $4) n`;
    const [busy, other] = [await createTenant(fixture, { leads: 0 }), await createTenant(fixture, { leads: 0 })];
    await fixture.rows(unwanted, [busy.business_id, busy.carrier_account_id, 1, 620]);
    await fixture.rows(unwanted, [other.business_id, other.carrier_account_id, 2, 1]);
    const taken = await takeUnwanted(fixture.db, fixture.limits);
    expect(taken.filter(({ business_id }) => business_id === other.business_id)).toHaveLength(1);
  });

  it('is swept first that was stopped first', async () => {
    const tenant = await createTenant(fixture, { leads: 1 });
    const runs: RunId[] = [];
    for (let n = 0; n < 21; n++) runs.push(await startRun(fixture, tenant));
    for (const run_id of runs) await stopRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
    const last = runs.at(-1);
    await fixture.rows(
      "UPDATE carillon.outbound_call_runs SET cancel_requested_at = now() - interval '1 hour' WHERE run_id = $1",
      [last],
    );
    await sweepOnce(fixture.db, fixture.limits, (error) => {
      throw error;
    });
    const [job] = await fixture.rows('SELECT status FROM carillon.outbound_call_jobs WHERE run_id = $1', [last]);
    expect(job).toEqual({ status: 'cancelled' });
  });

  it('is stopped first whose end came first', async () => {
    const tenant = await createTenant(fixture, { leads: 1 });
    const runs: RunId[] = [];
    for (let n = 0; n < 101; n++) runs.push(await startRun(fixture, tenant));
    const last = runs.at(-1) as RunId;
    await fixture.rows(
      `UPDATE carillon.outbound_call_runs SET ends_at = now() - (CASE WHEN run_id = $2 THEN 2 ELSE 1 END) * interval '1 min'
       WHERE run_id = ANY ($1)`,
      [runs, last],
    );
    await fixture.rows("UPDATE carillon.outbound_call_runs SET name = 'moved' WHERE run_id = $1", [last]);
    await endOverdueRuns(fixture.db, actor, (error) => {
      throw error;
    });
    expect(await readRow(fixture, last)).toMatchObject({ status: 'cancelled' });
  });
});

it('the settings of this file are in force: without an order, rows come as they lie', async () => {
  const tenant = await createTenant(fixture, { leads: 2, lines: 2 });
  const run_id = await startRun(fixture, tenant);
  const [first] = await claimAll(fixture, await lease(fixture, tenant, run_id), 2);
  if (!first) throw new Error('nothing was claimed');
  await record(fixture, first, ended('C1', 'completed'));
  const jobs = await withClient(fixture.appUrl, async (client) => {
    await client.query(`SET carillon.business_id = '${tenant.business_id}'`);
    return await client.query<{ seq: number }>('SELECT seq FROM carillon.outbound_call_jobs WHERE run_id = $1', [
      run_id,
    ]);
  });
  expect(jobs.rows.map(({ seq }) => seq)).toEqual([2, 1]);
});
