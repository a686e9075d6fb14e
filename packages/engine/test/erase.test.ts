import type { LeadId, Seq } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { inBusiness } from '../src/db/database.ts';
import { createLead } from '../src/lead/create-lead.ts';
import { updateLead } from '../src/lead/edit.ts';
import { eraseLead } from '../src/lead/erase.ts';
import { getLead, searchLeads } from '../src/lead/search.ts';
import { lockRun } from '../src/run/row.ts';
import { fillAhead } from '../src/run/fill.ts';
import { getJob } from '../src/run/read.ts';
import { stopRun } from '../src/run/stop.ts';
import {
  actor,
  claimAll,
  claimOnce,
  createFixture,
  createTenant,
  ended,
  type Fixture,
  lease,
  live,
  readRow,
  record,
  recount,
  startRun,
  type Tenant,
} from './support/fixture.ts';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture({ fill_batch_jobs: 100, fill_ahead_jobs: 50 });
});
afterAll(async () => await fixture.close());

const PERSON = {
  phone: '+972541234567',
  name: 'Zelophehad Planted',
  external_id: 'planted-id-881',
  attributes: { city: 'Plantedtown' },
};
const erase = (of: Tenant, lead_id: LeadId) =>
  eraseLead(fixture.db, of.business_id, lead_id, { actor, limits: fixture.limits });

async function person(of: Tenant): Promise<LeadId> {
  return (await createLead(fixture.db, of.business_id, PERSON, actor)).lead_id;
}

async function expectTrue(run_id: Parameters<typeof recount>[1]) {
  const { kept, counted } = await recount(fixture, run_id);
  expect(kept).toEqual(counted);
}

/** Every table and column in which one of the texts stands, for one business. */
async function whereIs(business_id: number, texts: readonly string[]): Promise<string[]> {
  const columns = await fixture.rows<{ table_name: string; column_name: string }>(
    `SELECT c.table_name, c.column_name FROM information_schema.columns c
     WHERE c.table_schema = 'carillon' AND EXISTS (SELECT FROM information_schema.columns b
       WHERE b.table_schema = 'carillon' AND b.table_name = c.table_name AND b.column_name = 'business_id')`,
  );
  const found: string[] = [];
  for (const { table_name, column_name } of columns) {
    const rows = await fixture.rows(
      `SELECT 1 FROM carillon.${table_name} t WHERE business_id = $1
       AND EXISTS (SELECT FROM unnest($2::text[]) AS x WHERE position(lower(x) IN lower(t.${column_name}::text)) > 0)`,
      [business_id, texts],
    );
    if (rows.length > 0) found.push(`${table_name}.${column_name}`);
  }
  return found;
}

/** What may be known of the person, in every way in which it was planted. */
const TRACES = ['541234567', '54-123-4567', '٥٤١٢٣٤٥٦٧', 'Zelophehad', 'planted-id-881', 'Plantedtown'];

async function plant(of: Tenant, lead_id: LeadId): Promise<void> {
  await fixture.rows(
    `INSERT INTO carillon.list_imports (business_id, import_id, list_id, state) VALUES ($1, $2, $3, 'done')`,
    [of.business_id, lead_id, of.list_id],
  );
  const lines = [
    'Zelophehad Planted,(054) 12-34-567,Plantedtown',
    'somebody,0541234567 ',
    '"x","٠٥٤١٢٣٤٥٦٧"',
    '{"name":"zelophehad planted","phone":"none"}',
    'no number;planted-id-881;',
    'Somebody Else,0529999999',
    'Zelophehadson Plantedly,0528888888',
  ];
  await fixture.rows(
    `INSERT INTO carillon.import_lines (business_id, import_id, line, verdict, reason, original)
     SELECT $1, $2, n, 'rejected', 'too_short', line FROM unnest($3::text[]) WITH ORDINALITY AS l (line, n)`,
    [of.business_id, lead_id, lines],
  );
  await fixture.rows(
    `INSERT INTO carillon.lead_consents (business_id, lead_id, source, consent_text)
     VALUES ($1, $2, 'web form', 'I, Zelophehad Planted, agree')`,
    [of.business_id, lead_id],
  );
}

describe('erasing a lead', () => {
  it('leaves nothing of the person in any table, and the lines of others as they were', async () => {
    const tenant = await createTenant(fixture, { leads: 2 });
    const lead_id = await person(tenant);
    await plant(tenant, lead_id);
    const run_id = await startRun(fixture, tenant, { lead_ids: [lead_id] });
    const [attempt] = await claimAll(fixture, await lease(fixture, tenant, run_id), 1);
    if (!attempt) throw new Error('nothing was claimed');
    await record(fixture, attempt, live('C1', 'ringing'));
    const planted = await whereIs(tenant.business_id, TRACES);
    expect(planted).toEqual(
      expect.arrayContaining([
        'leads.phone',
        'leads.search_name',
        'import_lines.original',
        'open_attempts.to_number',
        'lead_consents.consent_text',
      ]),
    );
    await record(fixture, attempt, ended('C1', 'completed'));
    expect(await erase(tenant, lead_id)).toEqual({
      lead_id,
      erased_at: expect.any(String),
      jobs_skipped: 0,
      import_lines: 5,
    });
    expect((await whereIs(tenant.business_id, TRACES)).filter((place) => place !== 'import_lines.original')).toEqual(
      [],
    );
    const kept = await fixture.rows(
      `SELECT original FROM carillon.import_lines WHERE business_id = $1 AND original <> '' ORDER BY line`,
      [tenant.business_id],
    );
    expect(kept).toEqual([
      { original: 'Somebody Else,0529999999' },
      { original: 'Zelophehadson Plantedly,0528888888' },
    ]);
    expect(await getLead(fixture.db, tenant.business_id, lead_id)).toMatchObject({
      phone: null,
      name: null,
      external_id: null,
      time_zone: null,
      attributes: {},
      erased_at: expect.any(String),
    });
    expect(await getJob(fixture.db, tenant.business_id, { run_id, seq: 1 as Seq })).toMatchObject({
      status: 'completed',
      lead_id,
      phone: null,
    });
  });

  it('skips its jobs that wait to be called, in every run, and ends a run that has no others', async () => {
    const tenant = await createTenant(fixture, { leads: 2 });
    const lead_id = await person(tenant);
    const [other] = (await searchLeads(fixture.db, tenant.business_id, { search: 'lead 1', limit: 1 })).items;
    const both = [lead_id, other?.lead_id as LeadId];
    const alone = await startRun(fixture, tenant, { lead_ids: [lead_id] });
    const paused = await startRun(fixture, tenant, { lead_ids: both });
    const draft = await startRun(fixture, tenant, { lead_ids: both, draft: true });
    const retrying = await startRun(fixture, tenant, {
      lead_ids: both,
      policy: { retry: { busy: { times: 3, after_s: 3_600 } }, review_always: false },
    });
    const attempts = await claimAll(fixture, await lease(fixture, tenant, retrying), 2);
    for (const attempt of attempts) await record(fixture, attempt, ended(`R${attempt.seq}`, 'busy'));
    expect(await erase(tenant, lead_id)).toMatchObject({ jobs_skipped: 4 });
    expect(await readRow(fixture, alone)).toMatchObject({ status: 'completed', skipped: 1, queued: 0 });
    expect(await readRow(fixture, paused)).toMatchObject({ status: 'pending', skipped: 1, queued: 1 });
    expect(await readRow(fixture, draft)).toMatchObject({ status: 'draft', skipped: 1, queued: 1 });
    expect(await readRow(fixture, retrying)).toMatchObject({ status: 'running', skipped: 1, waiting: 1 });
    const reasons = await fixture.rows(
      `SELECT DISTINCT reason FROM carillon.outbound_call_jobs WHERE business_id = $1 AND status = 'skipped'`,
      [tenant.business_id],
    );
    expect(reasons).toEqual([{ reason: 'erased' }]);
    expect(await fixture.rows('SELECT seq FROM carillon.job_schedule WHERE run_id = $1', [retrying])).toEqual([
      { seq: 2 },
    ]);
    for (const run_id of [alone, paused, draft, retrying]) await expectTrue(run_id);
  });

  it('leaves its jobs as they are that are done, and those of a run that stops', async () => {
    const tenant = await createTenant(fixture, { leads: 2, lines: 1 });
    const run_id = await startRun(fixture, tenant);
    const [done] = await fixture.rows<{ lead_id: string }>(
      'SELECT lead_id FROM carillon.outbound_call_jobs WHERE run_id = $1 ORDER BY seq',
      [run_id],
    );
    const mine = await lease(fixture, tenant, run_id);
    const [attempt] = await claimAll(fixture, mine, 1);
    if (!attempt) throw new Error('nothing was claimed');
    await record(fixture, attempt, ended('C1', 'completed'));
    expect(await erase(tenant, Number(done?.lead_id) as LeadId)).toMatchObject({ jobs_skipped: 0 });
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'running', completed: 1, queued: 1 });
    const stopping = await createTenant(fixture, { leads: 2, lines: 1 });
    const other_id = await startRun(fixture, stopping);
    await claimAll(fixture, await lease(fixture, stopping, other_id), 1);
    await stopRun(fixture.db, stopping.business_id, other_id, 'drain', actor);
    const [, last] = await fixture.rows<{ lead_id: string }>(
      'SELECT lead_id FROM carillon.outbound_call_jobs WHERE run_id = $1 ORDER BY seq',
      [other_id],
    );
    expect(await erase(stopping, Number(last?.lead_id) as LeadId)).toMatchObject({ jobs_skipped: 0 });
    expect(await readRow(fixture, other_id)).toMatchObject({ status: 'cancelling', cancelled: 1, skipped: 0 });
  });

  it('is never called, though its run had yet to make its job, or only then took it up', async () => {
    const tenant = await createTenant(fixture, { leads: 250 });
    const run_id = await startRun(fixture, tenant);
    const [last] = (await searchLeads(fixture.db, tenant.business_id, { search: 'lead 250', limit: 1 })).items;
    const [first] = (await searchLeads(fixture.db, tenant.business_id, { search: 'lead 100', limit: 1 })).items;
    expect(await erase(tenant, last?.lead_id as LeadId)).toMatchObject({ jobs_skipped: 0 });
    const later = await startRun(fixture, tenant, { lead_ids: [last?.lead_id as LeadId] });
    await erase(tenant, first?.lead_id as LeadId);
    for (const [run, leads, skipped] of [
      [run_id, 250, 2],
      [later, 1, 1],
    ] as const) {
      const mine = await lease(fixture, tenant, run);
      const called: string[] = [];
      while ((await readRow(fixture, run)).status !== 'completed') {
        const { attempts, unfilled, state } = await claimOnce(fixture, mine);
        if (unfilled) await fill(tenant, run);
        else expect(['more', 'idle', 'lost', 'rate']).toContain(state);
        for (const attempt of attempts) {
          called.push(attempt.to);
          await record(fixture, attempt, ended(`${run}-${attempt.seq}`, 'completed'));
        }
        await expectTrue(run);
      }
      expect(called).toHaveLength(leads - skipped);
      expect(called.every((to) => to.startsWith('+'))).toBe(true);
      expect(await readRow(fixture, run)).toMatchObject({ skipped, completed: leads - skipped });
    }
  });

  it('is refused while a call is open, and done after it', async () => {
    const tenant = await createTenant(fixture, { leads: 0 });
    const lead_id = await person(tenant);
    const run_id = await startRun(fixture, tenant, { lead_ids: [lead_id] });
    const [attempt] = await claimAll(fixture, await lease(fixture, tenant, run_id), 1);
    if (!attempt) throw new Error('nothing was claimed');
    await expect(erase(tenant, lead_id)).rejects.toMatchObject({
      code: 'lead_in_call',
      details: { run_id, job_id: `${run_id}-1` },
    });
    expect(await getLead(fixture.db, tenant.business_id, lead_id)).toMatchObject({ phone: PERSON.phone });
    await record(fixture, attempt, ended('C1', 'busy'));
    await erase(tenant, lead_id);
    await expectTrue(run_id);
  });

  it('has a call hung up that shows up afterwards, and believes how it ended', async () => {
    const tenant = await createTenant(fixture, { leads: 1, lines: 2 });
    const lead_id = await person(tenant);
    const [other] = (await searchLeads(fixture.db, tenant.business_id, { search: 'lead', limit: 1 })).items;
    const run_id = await startRun(fixture, tenant, { lead_ids: [lead_id, other?.lead_id as LeadId] });
    const [attempt, second] = await claimAll(fixture, await lease(fixture, tenant, run_id), 2);
    if (!attempt || !second) throw new Error('two were to be claimed');
    await record(fixture, attempt, { kind: 'unknown', cause: 'timeout' });
    await record(fixture, attempt, { kind: 'absent' });
    expect(await erase(tenant, lead_id)).toMatchObject({ jobs_skipped: 1 });
    expect(await record(fixture, attempt, live('C9', 'ringing'))).toBe('unwanted');
    const unwanted = await fixture.rows('SELECT call_id, reason FROM carillon.unwanted_calls WHERE business_id = $1', [
      tenant.business_id,
    ]);
    expect(unwanted).toEqual([{ call_id: 'C9', reason: 'the lead was erased' }]);
    await record(fixture, attempt, ended('C9', 'cancelled'));
    expect(await getJob(fixture.db, tenant.business_id, { run_id, seq: 1 as Seq })).toMatchObject({
      status: 'skipped',
      attempts_made: [{ outcome: 'cancelled', call_id: 'C9' }],
    });
    await expectTrue(run_id);
  });

  it('against a claim at the same moment: either the call is known and the erasure refused, or there is no call', async () => {
    for (let round = 0; round < 12; round++) {
      const tenant = await createTenant(fixture, { leads: 0 });
      const lead_id = await person(tenant);
      const run_id = await startRun(fixture, tenant, { lead_ids: [lead_id] });
      const mine = await lease(fixture, tenant, run_id);
      const [erased, claimed] = await Promise.allSettled([erase(tenant, lead_id), claimOnce(fixture, mine)]);
      if (claimed.status === 'rejected') throw claimed.reason;
      expect(erased.status).toBe(claimed.value.attempts.length === 1 ? 'rejected' : 'fulfilled');
      if (erased.status === 'rejected') expect(erased.reason).toMatchObject({ code: 'lead_in_call' });
      await expectTrue(run_id);
    }
  });

  it('waits for a run that is just taking the lead up, and skips its job there too', async () => {
    const tenant = await createTenant(fixture, { leads: 0 });
    const lead_id = await person(tenant);
    const held = Promise.withResolvers<void>();
    const inserted = Promise.withResolvers<void>();
    // A transaction that has made a job for the lead and not committed it yet: the foreign key locks the lead.
    const run_id = await startRun(fixture, tenant, { lead_ids: [await other(tenant)] });
    const inserting = inBusiness(fixture.db, tenant.business_id, async (tx) => {
      await lockRun(tx, run_id);
      await tx.query(
        `WITH job AS (INSERT INTO carillon.outbound_call_jobs (business_id, run_id, seq, lead_id) VALUES ($1, $2, 2, $3) RETURNING 1)
         UPDATE carillon.outbound_call_runs SET total_leads = 2, queued = 2, filled_seq = 2 WHERE business_id = $1 AND run_id = $2`,
        [tenant.business_id, run_id, lead_id],
      );
      inserted.resolve();
      await held.promise;
    });
    await inserted.promise;
    const erasing = erase(tenant, lead_id);
    await until(isWaiting, { deadline_ms: 30_000, what: 'the erasure waits for the lead' });
    held.resolve();
    await inserting;
    expect(await erasing).toMatchObject({ jobs_skipped: 1 });
    expect(await readRow(fixture, run_id)).toMatchObject({ skipped: 1, queued: 1 });
    await expectTrue(run_id);
  });

  it('is done once, refuses changes afterwards, and makes room for the number', async () => {
    const tenant = await createTenant(fixture, { leads: 0 });
    const lead_id = await person(tenant);
    const [one, two] = await Promise.all([erase(tenant, lead_id), erase(tenant, lead_id)]);
    expect(one.erased_at).toBe(two.erased_at);
    const changed = updateLead(fixture.db, tenant.business_id, lead_id, { name: 'x' }, actor);
    await expect(changed).rejects.toMatchObject({ code: 'lead_erased' });
    expect(await person(tenant)).not.toBe(lead_id);
    expect((await searchLeads(fixture.db, tenant.business_id, { limit: 10 })).items).toHaveLength(1);
    const stranger = await createTenant(fixture, { leads: 0 });
    await expect(erase(stranger, lead_id)).rejects.toMatchObject({ code: 'lead_not_found' });
    const events = await fixture.rows(
      `SELECT subject_id, before, after FROM carillon.audit_events WHERE business_id = $1 AND action = 'lead.erased'`,
      [tenant.business_id],
    );
    expect(events).toEqual([
      { subject_id: String(lead_id), before: null, after: { jobs_skipped: 0, import_lines: 0 } },
    ]);
  });
});

async function other(tenant: Tenant): Promise<LeadId> {
  return (await createLead(fixture.db, tenant.business_id, { phone: '+972541234599' }, actor)).lead_id;
}

async function isWaiting(): Promise<boolean> {
  const waiting = await fixture.rows(
    `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
  );
  return waiting.length > 0;
}

async function fill(tenant: Tenant, run_id: Parameters<typeof recount>[1]): Promise<void> {
  await fillAhead(fixture.db, tenant.business_id, run_id, fixture.limits);
}
