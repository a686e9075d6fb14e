import { BusinessId, CarrierAccountId, ListId, RunId } from '@carillon/contract';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { TestDatabase } from '../../../test/support/database.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { until } from '../../../test/support/wait.ts';
import { adopt, type AdoptOptions } from '../src/adopt/adopt.ts';
import { createRun } from '../src/run/create.ts';
import { resumeRun } from '../src/run/resume.ts';
import { adoptActor, adoptOptions } from './support/adoption.ts';
import {
  claimAll,
  claimOnce,
  createFixture,
  createTenant,
  ended,
  type Fixture,
  lease,
  readRow,
  record,
  recount,
} from './support/fixture.ts';
import { createOldDatabase, e164, oldPhone } from '../../../test/support/old-database.ts';

const TABLES = `
  CREATE TABLE outbound_call_runs (id serial PRIMARY KEY, status text, lock_ts timestamptz, created_at timestamptz);
  CREATE TABLE outbound_call_jobs (id serial PRIMARY KEY, run_id integer, lead_id integer, status text);
  CREATE TABLE leads (id serial PRIMARY KEY, phone text, name text);`;
const leads = (to: number) =>
  `INSERT INTO leads (phone, name) VALUES ${Array.from({ length: to }, (_, i) => `('${oldPhone(i + 1)}', 'Lead ${i + 1}')`).join(', ')};`;

async function open(statements: string): Promise<{ fixture: Fixture; old: TestDatabase }> {
  const fixture = await createFixture();
  onTestFinished(() => fixture.close());
  const old = await createOldDatabase(`${TABLES}${statements}`);
  onTestFinished(() => old.drop());
  return { fixture, old };
}

const change = (old: TestDatabase, sql: string) => withClient(old.ownerUrl, (client) => client.query(sql));

async function adoptBoth(fixture: Fixture, old: TestDatabase, more: Partial<AdoptOptions> = {}) {
  const rehearsed = await adopt(fixture.db, adoptOptions(fixture, old, { ...more, dry_run: true }));
  const report = await adopt(fixture.db, adoptOptions(fixture, old, more));
  expect({ ...rehearsed, businesses: 0 }).toEqual({ ...report, dry_run: true, nothing_new: false, businesses: 0 });
  return report;
}

describe('an adopted run that is resumed', () => {
  it('calls exactly those who were waiting to be called, each once, and ends', async () => {
    const states = ['queued', 'completed', 'in_progress', 'failed', 'cancelled', 'queued', 'odd'];
    const rows = Array.from({ length: 70 }, (_, i) => `(1, ${i + 1}, '${states[i % states.length]}')`);
    // Whoever was called by any row of theirs is not waiting, whichever row came first.
    const again = ['(1, 1, $$completed$$)', '(1, 8, $$in_progress$$)', '(1, 15, $$queued$$)', '(1, 2, $$queued$$)'];
    const { fixture, old } = await open(`${leads(70)}
      INSERT INTO outbound_call_runs (status, lock_ts) VALUES ('running', '2024-01-01');
      INSERT INTO outbound_call_jobs (run_id, lead_id, status) VALUES ${[...rows, ...again].join(', ')}`);
    const tenant = await createTenant(fixture, { leads: 0, lines: 7 });
    await adoptBoth(fixture, old, { business: tenant.business_id });
    const run_id = RunId.parse(1);
    const wanted = Array.from({ length: 70 }, (_, i) => i + 1).filter(
      (n) => ['queued'].includes(states[(n - 1) % states.length] ?? '') && n !== 1 && n !== 8,
    );
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'paused', queued: wanted.length, in_progress: 0 });
    await resumeRun(fixture.db, tenant.business_id, run_id, fixture.limits, adoptActor);
    const mine = await lease(fixture, tenant, run_id);
    const called: string[] = [];
    for (let round = 0; (await readRow(fixture, run_id)).status === 'running'; round++) {
      expect(round).toBeLessThan(20);
      for (const attempt of await claimAll(fixture, mine, 7)) {
        called.push(attempt.to);
        await record(fixture, attempt, ended(`CA${attempt.seq}`, attempt.seq % 3 === 0 ? 'busy' : 'completed'));
      }
      const { kept, counted } = await recount(fixture, run_id);
      expect(kept).toEqual(counted);
    }
    expect(called.toSorted()).toEqual(wanted.map(e164).toSorted());
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'completed', total_leads: 70, queued: 0 });
    // What it did since stays when it is adopted again.
    const before = await readRow(fixture, run_id);
    expect(await adopt(fixture.db, adoptOptions(fixture, old))).toMatchObject({ nothing_new: true });
    expect(await readRow(fixture, run_id)).toEqual(before);
  });
});

describe('ids', () => {
  it('are kept where they are free, and otherwise mapped and reported', async () => {
    const { fixture, old } = await open(`${leads(6)}
      INSERT INTO leads (id, phone) VALUES (60000000, '050-7777777');
      INSERT INTO outbound_call_runs (status) VALUES ('running'), ('running');
      INSERT INTO outbound_call_jobs (run_id, lead_id, status) SELECT 1 + id % 2, id, 'queued' FROM leads`);
    // Leads 1 to 3 and run 1 are there; the first of the leads with the number of old lead 5.
    const other = await createTenant(fixture, { leads: 0 });
    const tenant = await createTenant(fixture, { leads: 0 });
    for (const [lead_id, phone] of [
      [1, e164(5)],
      [2, '+972509999991'],
      [3, '+972509999992'],
    ] as const)
      await fixture.rows('INSERT INTO carillon.leads (business_id, lead_id, phone, name) VALUES ($1, $2, $3, $4)', [
        tenant.business_id,
        lead_id,
        phone,
        'There before',
      ]);
    await fixture.rows("SELECT setval('carillon.leads_lead_id_seq', 3)");
    const lead_ids = [{ lead_id: 1 }].map(({ lead_id }) => lead_id) as NonNullable<
      Parameters<typeof createRun>[2]['lead_ids']
    >;
    const { run } = await createRun(
      fixture.db,
      tenant.business_id,
      { lead_ids },
      { actor: adoptActor, limits: fixture.limits },
    );
    expect(run.run_id).toBe(1);
    expect(other.business_id).not.toBe(tenant.business_id);
    const report = await adoptBoth(fixture, old, { business: tenant.business_id });
    expect(report.runs).toMatchObject({ kept_id: 1, new_id: 1 });
    expect(report.leads).toMatchObject({ read: 7, made: 6, merged: 1, kept_id: 2, new_id: 4 });
    const mapped = await fixture.rows<{ old: number; lead: number; made: boolean; phone: string; name: string | null }>(
      `SELECT m.old_lead_id::int AS old, m.lead_id::int AS lead, m.made, l.phone, l.name FROM carillon.adopted_leads m
       JOIN carillon.leads l USING (business_id, lead_id) ORDER BY 1`,
    );
    const fresh = expect.any(Number);
    expect(mapped).toEqual([
      { old: 1, lead: fresh, made: true, phone: e164(1), name: 'Lead 1' },
      { old: 2, lead: fresh, made: true, phone: e164(2), name: 'Lead 2' },
      { old: 3, lead: fresh, made: true, phone: e164(3), name: 'Lead 3' },
      { old: 4, lead: 4, made: true, phone: e164(4), name: 'Lead 4' },
      { old: 5, lead: 1, made: false, phone: e164(5), name: 'There before' },
      { old: 6, lead: 6, made: true, phone: e164(6), name: 'Lead 6' },
      { old: 60_000_000, lead: fresh, made: true, phone: '+972507777777', name: null },
    ]);
    expect(Math.max(...mapped.map(({ lead }) => lead))).toBeLessThan(100);
    const runs = await fixture.rows<{ old: number; run: number }>(
      'SELECT old_run_id::int AS old, run_id::int AS run FROM carillon.adopted_runs ORDER BY 1',
    );
    expect(runs).toEqual([
      { old: 1, run: expect.any(Number) },
      { old: 2, run: 2 },
    ]);
    expect(runs[0]?.run).toBeGreaterThan(2);
    const [archived] = await fixture.rows(
      "SELECT reason, row->>'name' AS name FROM carillon.adopted_rows WHERE kind = 'lead'",
    );
    expect(archived).toEqual({ reason: 'same_number', name: 'Lead 5' });
  });
});

it('a lead that somebody else makes at the same moment is the same lead', async () => {
  const { fixture, old } = await open(`${leads(3)}
    INSERT INTO outbound_call_runs (status) VALUES ('running');
    INSERT INTO outbound_call_jobs (run_id, lead_id, status) SELECT 1, id, 'queued' FROM leads`);
  const { business_id: business } = await createTenant(fixture, { leads: 0 });
  await withClient(fixture.superuserUrl, async (client) => {
    await client.query('BEGIN; LOCK TABLE carillon.leads IN SHARE MODE');
    const adopting = adopt(fixture.db, adoptOptions(fixture, old, { business }));
    await until(
      async () => {
        const waiting = await fixture.rows(
          "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'INSERT INTO carillon.leads' AND datname = $1",
          [fixture.name],
        );
        return waiting.length > 0;
      },
      { deadline_ms: 60_000, what: 'the adoption makes its leads' },
    );
    const lead = 'INSERT INTO carillon.leads (business_id, lead_id, phone, name) VALUES ($1, $2, $3, $4)';
    await client.query(lead, [business, 500, e164(2), 'Made meanwhile']);
    await client.query('COMMIT');
    expect(await adopting).toMatchObject({ ok: true, leads: { read: 3, made: 2, merged: 1 }, jobs: { taken: 3 } });
  });
  const [called] = await fixture.rows(
    `SELECT l.name, m.old_lead_id::int AS old FROM carillon.leads l JOIN carillon.outbound_call_jobs j USING (business_id, lead_id)
     JOIN carillon.adopted_leads m USING (business_id, lead_id) WHERE lead_id = 500`,
  );
  expect(called).toEqual({ name: 'Made meanwhile', old: 2 });
});

describe('an old system that went on', () => {
  it('brings its new runs the next time; what it added to runs that are taken over goes to the archive', async () => {
    const { fixture, old } = await open(`${leads(4)}
      INSERT INTO outbound_call_runs (status) VALUES ('running');
      INSERT INTO outbound_call_jobs (run_id, lead_id, status) VALUES (1, 1, 'queued')`);
    await adoptBoth(fixture, old);
    await change(
      old,
      `INSERT INTO outbound_call_runs (status) VALUES ('pending');
       INSERT INTO outbound_call_jobs (run_id, lead_id, status) VALUES (1, 2, 'queued'), (2, 3, 'queued'), (2, 1, 'queued')`,
    );
    const report = await adoptBoth(fixture, old);
    expect(report).toMatchObject({ ok: true, nothing_new: false, jobs: { read: 4, taken: 3, archived: { late: 1 } } });
    const runs = await fixture.rows(
      'SELECT run_id::int AS id, total_leads AS jobs, status FROM carillon.outbound_call_runs ORDER BY 1',
    );
    expect(runs).toEqual([
      { id: 1, jobs: 1, status: 'paused' },
      { id: 2, jobs: 2, status: 'paused' },
    ]);
  });

  it('is noticed by a young lock, and by rows that are gone', async () => {
    const { fixture, old } = await open(`${leads(2)}
      INSERT INTO outbound_call_runs (status, lock_ts) VALUES ('running', now() - interval '8 s');
      INSERT INTO outbound_call_jobs (run_id, lead_id, status) VALUES (1, 1, 'queued'), (1, 2, 'queued')`);
    const report = await adoptBoth(fixture, old);
    expect(report.warnings).toContainEqual(expect.stringMatching(/still at work on run 1: stop its workers/));
    await change(old, 'DELETE FROM outbound_call_jobs WHERE id = 1');
    const later = await adoptBoth(fixture, old);
    expect(later).toMatchObject({ ok: false, sums: { jobs: { old: 1, taken: 2, adds_up: false } } });
    expect(later.warnings).toContainEqual(expect.stringMatching(/have changed since/));
  });
});

describe('a business without a carrier account', () => {
  it('gets its runs with a stand-in that calls nobody, and they move to its account as soon as it has one', async () => {
    const { fixture, old } = await open(`${leads(3)}
      INSERT INTO outbound_call_runs (status) VALUES ('running'), ('completed');
      INSERT INTO outbound_call_jobs (run_id, lead_id, status) VALUES (1, 1, 'queued'), (1, 2, 'queued'), (2, 3, 'completed')`);
    const report = await adoptBoth(fixture, old);
    expect(report.warnings).toContainEqual(expect.stringMatching(/without keys and carrier accounts/));
    const business_id = BusinessId.parse(report.businesses[0]?.business_id);
    const tenant = { business_id, carrier_account_id: CarrierAccountId.parse(1), list_id: ListId.parse(1) };
    const run_id = RunId.parse(1);
    const stand_in = await accountOf(fixture, run_id);
    await resumeRun(fixture.db, business_id, run_id, fixture.limits, adoptActor);
    const held = await lease(fixture, tenant, run_id);
    expect(await claimOnce(fixture, held)).toMatchObject({ attempts: [] });
    const account = await addAccount(fixture, business_id);
    expect(await adopt(fixture.db, adoptOptions(fixture, old))).toMatchObject({ nothing_new: false });
    expect(await accountOf(fixture, run_id)).toBe(account);
    expect(await accountOf(fixture, RunId.parse(2))).toBe(account);
    const left = await fixture.rows('SELECT FROM carillon.carrier_accounts WHERE carrier_account_id = $1', [stand_in]);
    expect(left).toEqual([]);
    // The old lease named the stand-in.
    expect(await claimOnce(fixture, held)).toMatchObject({ state: 'lost', attempts: [] });
    const calls = await claimAll(fixture, await lease(fixture, tenant, run_id), 2);
    expect(calls.map(({ to }) => to)).toEqual([e164(1), e164(2)]);
    expect(await adopt(fixture.db, adoptOptions(fixture, old))).toMatchObject({ nothing_new: true });
  });

  async function accountOf(fixture: Fixture, run_id: RunId): Promise<number> {
    const [run] = await fixture.rows<{ id: number }>(
      'SELECT carrier_account_id::int AS id FROM carillon.outbound_call_runs WHERE run_id = $1',
      [run_id],
    );
    return run?.id ?? 0;
  }

  async function addAccount(fixture: Fixture, business_id: number): Promise<number> {
    const [account] = await fixture.rows<{ id: number }>(
      `INSERT INTO carillon.carrier_accounts (business_id, name, driver, base_url, account_sid, auth_token_sealed,
         from_numbers) VALUES ($1, 'main', 'twilio', 'http://127.0.0.1:1', 'AC1', '\\x00', '{+97231110000}')
       RETURNING carrier_account_id::int AS id`,
      [business_id],
    );
    await fixture.rows(
      'INSERT INTO carillon.lanes (business_id, carrier_account_id, concurrency_limit, calls_per_second) VALUES ($1, $2, 9, 100)',
      [business_id, account?.id],
    );
    return account?.id ?? 0;
  }
});
