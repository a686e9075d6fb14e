import { type BusinessId, LeadId, type RunId } from '@carillon/contract';
import { parse } from 'csv-parse/sync';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createLead } from '../src/lead/create-lead.ts';
import { eraseLead } from '../src/lead/erase.ts';
import { type ExportOptions, exportRun } from '../src/run/export.ts';
import { fillAhead } from '../src/run/fill.ts';
import { stopRun } from '../src/run/stop.ts';
import {
  actor,
  claimAll,
  createFixture,
  createTenant,
  ended,
  type Fixture,
  lease,
  live,
  record,
  startRun,
} from './support/fixture.ts';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture({ fill_batch_jobs: 500, fill_ahead_jobs: 100 });
});
afterAll(async () => await fixture.close());

type Row = Record<string, string>;

async function textOf(business_id: BusinessId, run_id: RunId, options: Partial<ExportOptions> = {}): Promise<string> {
  const pieces = exportRun(fixture.db, business_id, run_id, { language: 'en', rows: 'leads', ...options });
  return (await Array.fromAsync(pieces)).join('');
}

async function rowsOf(...args: Parameters<typeof textOf>): Promise<Row[]> {
  return parse<Row>(await textOf(...args), { bom: true, columns: true });
}

async function fillAll(business_id: BusinessId, run_id: RunId): Promise<void> {
  while (await fillAhead(fixture.db, business_id, run_id, { ...fixture.limits, fill_ahead_jobs: 1_000_000 }));
}

describe('an export', () => {
  it('has a line for each lead with its last attempt and its attributes, or one for each attempt', async () => {
    const tenant = await createTenant(fixture, { leads: 0 });
    const ids: LeadId[] = [];
    const all: Row[] = [{ city: 'חיפה', plan: 'a' }, { plan: 'b' }, {}];
    for (const [n, attributes] of all.entries()) {
      const person = { phone: `050100000${n}`, name: `Person ${n}`, external_id: `x${n}`, attributes };
      ids.push((await createLead(fixture.db, tenant.business_id, person, actor)).lead_id);
    }
    const policy = { retry: { busy: { times: 1, after_s: 0 } }, review_always: false };
    const run_id = await startRun(fixture, tenant, { lead_ids: ids, policy });
    const mine = await lease(fixture, tenant, run_id);
    const [one, two] = await claimAll(fixture, mine, 3);
    if (!one || !two) throw new Error('three were to be claimed');
    await record(fixture, one, live('C1', 'ringing'));
    await record(fixture, one, ended('C1', 'busy'));
    await record(fixture, two, ended('C2', 'completed'));
    const [again] = await claimAll(fixture, mine, 1);
    if (!again) throw new Error('the busy one was to be claimed again');
    await record(fixture, again, ended('C3', 'no_answer'));

    const lines = await rowsOf(tenant.business_id, run_id);
    expect(lines).toMatchObject([
      {
        seq: '1',
        lead_id: String(ids[0]),
        phone: "'+972501000000",
        name: 'Person 0',
        external_id: 'x0',
        status: 'failed',
        attempts: '2',
        last_outcome: 'no_answer',
        attempt_no: '2',
        outcome: 'no_answer',
        from: "'+97231110000",
        call_id: 'C3',
        duration_s: '3',
        city: 'חיפה',
        plan: 'a',
        other_attributes: '',
      },
      { seq: '2', status: 'completed', attempts: '1', call_id: 'C2', city: '', plan: 'b' },
      { seq: '3', status: 'in_progress', attempts: '1', attempt_state: 'dialing', outcome: '', plan: '' },
    ]);
    for (const column of ['intent_at', 'placed_at', 'ended_at'])
      expect(lines[0]?.[column]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    const attempts = await rowsOf(tenant.business_id, run_id, { rows: 'attempts' });
    expect(attempts.map(({ seq, attempt_no, call_id }) => [seq, attempt_no, call_id])).toEqual([
      ['1', '1', 'C1'],
      ['1', '2', 'C3'],
      ['2', '1', 'C2'],
      ['3', '1', ''],
    ]);
  });

  it('is safe to open in a spreadsheet, and readable in both languages', async () => {
    const tenant = await createTenant(fixture, { leads: 0 });
    const attacks = ['=1+1', '+1', '-1', '@SUM(A1)', '\t=1', '\r=1', '\n=1', '＝1+1', 'a,"b"\r\n=c'];
    const ids: LeadId[] = [];
    for (const [n, text] of attacks.entries()) {
      const person = { phone: `05020000${10 + n}`, name: text, attributes: { [text]: text, name: text } };
      ids.push((await createLead(fixture.db, tenant.business_id, person, actor)).lead_id);
    }
    const run_id = await startRun(fixture, tenant, { lead_ids: ids });
    const text = await textOf(tenant.business_id, run_id);
    expect(text.startsWith('\uFEFFseq,lead_id,phone,')).toBe(true);
    const cells = parse(text, { bom: true }).flat();
    expect(cells.length).toBeGreaterThan(attacks.length * 20);
    expect(cells.filter((cell) => /^[=+\-@\t\r\n＝＋－＠]/.test(cell))).toEqual([]);
    const rows = await rowsOf(tenant.business_id, run_id);
    expect(rows.map((row) => row.name?.replace(/^'/, ''))).toEqual(attacks);
    // An attribute that is called like a column is told apart from it.
    expect(rows[0]?.['attribute: name']).toBe("'=1+1");
    const [header = []] = parse(await textOf(tenant.business_id, run_id, { language: 'he' }), { bom: true });
    expect(header.slice(0, 4)).toEqual(['מספר', 'מזהה ליד', 'טלפון', 'שם']);
    expect(header).toContain('מאפיין: name');
    expect(header.at(-1)).toBe('מאפיינים נוספים');
  });

  it.each(['list', 'earlier run'])(
    'shows every lead of a run over a %s, those too that have no job yet',
    async (source) => {
      const tenant = await createTenant(fixture, { leads: 2_500 });
      let run_id = await startRun(fixture, tenant);
      if (source !== 'list') {
        await fillAll(tenant.business_id, run_id);
        await stopRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
        run_id = await startRun(fixture, tenant, { from_run: { run_id, outcomes: ['cancelled'] } });
      }
      const made = await fixture.rows('SELECT 1 FROM carillon.outbound_call_jobs WHERE run_id = $1', [run_id]);
      expect(made).toHaveLength(500);
      const before = await rowsOf(tenant.business_id, run_id);
      expect(before.map((row) => Number(row.seq))).toEqual(Array.from({ length: 2_500 }, (_, i) => i + 1));
      expect(new Set(before.map((row) => row.status))).toEqual(new Set(['queued']));
      await fillAll(tenant.business_id, run_id);
      const after = await rowsOf(tenant.business_id, run_id);
      expect(after.map((row) => row.lead_id)).toEqual(before.map((row) => row.lead_id));
      await stopRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
      expect(new Set((await rowsOf(tenant.business_id, run_id)).map((row) => row.status))).toEqual(
        new Set(['cancelled']),
      );
    },
  );

  it('has 200 columns of attributes at most, and the others as JSON in the last', async () => {
    const tenant = await createTenant(fixture, { leads: 0 });
    const keys = Array.from({ length: 250 }, (_, i) => `k${String(i).padStart(3, '0')}`);
    const attributes = Object.fromEntries(keys.map((key) => [key, `v${key}`]));
    const { lead_id } = await createLead(fixture.db, tenant.business_id, { phone: '0503000001', attributes }, actor);
    const run_id = await startRun(fixture, tenant, { lead_ids: [lead_id] });
    const [row = {}] = await rowsOf(tenant.business_id, run_id);
    const columns = Object.keys(row).filter((name) => name.startsWith('k'));
    expect(columns).toHaveLength(200);
    const others = JSON.parse(row.other_attributes ?? '') as Row;
    expect(Object.keys(others)).toHaveLength(50);
    expect({ ...Object.fromEntries(columns.map((name) => [name, row[name]])), ...others }).toEqual(attributes);
  });

  it('goes on over leads that are erased while it is read, and shows them as the pages after that find them', async () => {
    const tenant = await createTenant(fixture, { leads: 1_500 });
    const run_id = await startRun(fixture, tenant);
    await fillAll(tenant.business_id, run_id);
    const pieces = exportRun(fixture.db, tenant.business_id, run_id, { language: 'en', rows: 'leads' });
    let text = (await pieces.next()).value as string;
    text += (await pieces.next()).value as string;
    const leads = await fixture.rows<{ lead_id: string }>(
      'SELECT lead_id FROM carillon.outbound_call_jobs WHERE run_id = $1 AND seq IN (1, 1500) ORDER BY seq',
      [run_id],
    );
    for (const { lead_id } of leads)
      await eraseLead(fixture.db, tenant.business_id, LeadId.parse(Number(lead_id)), { actor, limits: fixture.limits });
    for await (const piece of pieces) text += piece;
    const rows = parse<Row>(text, { bom: true, columns: true });
    expect(rows).toHaveLength(1_500);
    expect(rows[0]).toMatchObject({ status: 'queued', name: 'Lead 1' });
    expect(rows[1_499]).toMatchObject({ status: 'skipped', reason: 'erased', phone: '', name: '' });
  });

  it('holds no connection and no transaction between two pages, and reads nothing more once it is left', async () => {
    const tenant = await createTenant(fixture, { leads: 3_000 });
    const run_id = await startRun(fixture, tenant);
    await fillAll(tenant.business_id, run_id);
    const pieces = exportRun(fixture.db, tenant.business_id, run_id, { language: 'en', rows: 'leads' });
    await pieces.next();
    await pieces.next();
    const open = await fixture.rows(
      `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'`,
    );
    expect(open).toEqual([]);
    await pieces.return(undefined);
    expect(await pieces.next()).toEqual({ done: true, value: undefined });
  });

  it('of another business or of none is refused before its first piece', async () => {
    const tenant = await createTenant(fixture);
    const run_id = await startRun(fixture, tenant);
    const stranger = await createTenant(fixture);
    await expect(textOf(stranger.business_id, run_id)).rejects.toMatchObject({ code: 'run_not_found' });
    const empty = await startRun(fixture, tenant, { draft: true });
    expect(await rowsOf(tenant.business_id, empty)).toEqual([]);
  });
});
