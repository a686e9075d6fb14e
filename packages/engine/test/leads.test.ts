import type { LeadId, RunId } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createLead } from '../src/lead/create-lead.ts';
import { updateLead } from '../src/lead/edit.ts';
import { leadHistory } from '../src/lead/history.ts';
import { getLead, type LeadQuery, searchLeads } from '../src/lead/search.ts';
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
  type Tenant,
} from './support/fixture.ts';

let fixture: Fixture;
let tenant: Tenant;
beforeAll(async () => {
  fixture = await createFixture();
  tenant = await createTenant(fixture, { leads: 0 });
});
afterAll(async () => await fixture.close());

interface Person {
  phone: string;
  name?: string;
  external_id?: string;
}

async function people(...all: Person[]): Promise<{ of: Tenant; ids: LeadId[] }> {
  const of = await createTenant(fixture, { leads: 0 });
  const ids: LeadId[] = [];
  for (const person of all) ids.push((await createLead(fixture.db, of.business_id, person, actor)).lead_id);
  return { of, ids };
}

/** The ids of everything found, page by page, and how many pages that took. */
async function find(of: Tenant, query: Omit<LeadQuery, 'limit' | 'after'>, limit = 100) {
  const ids: number[] = [];
  let after: string | undefined;
  for (let pages = 1; ; pages++) {
    const page = await searchLeads(fixture.db, of.business_id, { ...query, limit, after });
    expect(page.items.length).toBeLessThanOrEqual(limit);
    ids.push(...page.items.map((lead) => lead.lead_id));
    if (page.next === null) return { ids, pages };
    after = page.next;
  }
}

describe('searching leads', () => {
  it('finds by the beginning of a name in either script, whatever its case', async () => {
    const { of, ids } = await people(
      { phone: '050-1000001', name: 'Dana Cohen' },
      { phone: '050-1000002', name: 'DANIEL Levi' },
      { phone: '050-1000003', name: 'נועה לוי' },
      { phone: '050-1000004', name: 'Jordana' },
      { phone: '050-1000005' },
    );
    const [dana, daniel, noa] = ids;
    expect((await find(of, { search: 'dan' })).ids).toEqual([dana, daniel]);
    expect((await find(of, { search: ' DANA c' })).ids).toEqual([dana]);
    expect((await find(of, { search: 'נוע' })).ids).toEqual([noa]);
    expect((await find(of, { search: 'zzz' })).ids).toEqual([]);
    expect((await find(of, { search: '%' })).ids).toEqual([]);
    expect((await find(of, { search: '\u0000' })).ids).toEqual([]);
  });

  it('finds by the beginning of a number, as it is dialled at home or from abroad', async () => {
    const { of, ids } = await people({ phone: '050-123-4567' }, { phone: '052-123-4567' }, { phone: '+15005550006' });
    const [first, second, abroad] = ids;
    for (const search of ['050', '050-123', '0501234567', '+97250', '97250', '0097250', '50123', '(050) 123'])
      expect([search, (await find(of, { search })).ids]).toEqual([search, [first]]);
    expect((await find(of, { search: '05' })).ids).toEqual([first, second]);
    expect((await find(of, { search: '+1' })).ids).toEqual([abroad]);
    expect((await find(of, { search: '1500' })).ids).toEqual([abroad]);
    expect((await find(of, { search: '0501234568' })).ids).toEqual([]);
  });

  it('finds by the beginning of an external id, and shows a lead once that fits in several ways', async () => {
    const { of, ids } = await people(
      { phone: '050-1000001', name: '972 Ltd', external_id: '9725' },
      { phone: '050-1000002', external_id: 'crm-1' },
      { phone: '+15005550006', name: '972 too' },
    );
    const [both, crm, named] = ids;
    expect((await find(of, { search: 'crm' })).ids).toEqual([crm]);
    for (const limit of [1, 2, 3, 100])
      expect((await find(of, { search: '972' }, limit)).ids).toEqual([both, crm, named]);
  });

  it('finds exactly one number or external id, where no more than that is wanted', async () => {
    const { of, ids } = await people(
      { phone: '050-1000001', external_id: 'a' },
      { phone: '050-1000002', external_id: 'ab' },
      { phone: '050-1000003', external_id: 'a' },
    );
    expect((await find(of, { external_id: 'a' })).ids).toEqual([ids[0], ids[2]]);
    expect((await find(of, { phone: '0501000002' })).ids).toEqual([ids[1]]);
    expect((await find(of, { phone: '050100000' })).ids).toEqual([]);
    expect((await find(of, { phone: 'nonsense' })).ids).toEqual([]);
  });

  it('goes through all of them in pages, each lead once, newest first when nothing is looked for', async () => {
    const of = await createTenant(fixture, { leads: 250 });
    const all = await find(of, {}, 100);
    expect(all.pages).toBe(3);
    expect(all.ids).toHaveLength(250);
    expect(all.ids).toEqual(all.ids.toSorted((a, b) => b - a));
    const named = await find(of, { search: 'lead 1' }, 7);
    expect(new Set(named.ids).size).toBe(named.ids.length);
    expect(named.ids).toHaveLength(1 + 10 + 100);
  });

  it('shows nobody else’s, and refuses a cursor that is none', async () => {
    const { of, ids } = await people({ phone: '050-1000001', name: 'Dana', external_id: 'x1' });
    const other = await createTenant(fixture, { leads: 0 });
    for (const query of [{}, { search: 'dana' }, { search: '050' }, { phone: '0501000001' }, { external_id: 'x1' }]) {
      expect((await find(of, query)).ids).toEqual(ids);
      expect((await find(other, query)).ids).toEqual([]);
    }
    for (const after of [
      'x',
      '',
      Buffer.from('[1]').toString('base64url'),
      Buffer.from('[1,"",-1]').toString('base64url'),
    ])
      await expect(searchLeads(fixture.db, of.business_id, { after, limit: 1 })).rejects.toMatchObject({
        code: 'invalid_request',
      });
  });
});

describe('changing a lead', () => {
  const change = (lead_id: LeadId, input: Parameters<typeof updateLead>[3], of = tenant) =>
    updateLead(fixture.db, of.business_id, lead_id, input, actor);

  it('changes what is named, clears what is null, and leaves the rest', async () => {
    const { lead_id } = await createLead(
      fixture.db,
      tenant.business_id,
      {
        phone: '050-2000001',
        name: 'Dana',
        external_id: 'c1',
        time_zone: 'Asia/Jerusalem',
        attributes: { a: '1', b: '2' },
      },
      actor,
    );
    const changed = await change(lead_id, { name: 'דנה', external_id: null, attributes: { a: null, c: '3' } });
    expect(changed).toEqual({
      lead_id,
      phone: '+972502000001',
      name: 'דנה',
      external_id: null,
      time_zone: 'Asia/Jerusalem',
      attributes: { b: '2', c: '3' },
      erased_at: null,
    });
    expect(await getLead(fixture.db, tenant.business_id, lead_id)).toEqual(changed);
    expect((await find(tenant, { search: 'דנה' })).ids).toEqual([lead_id]);
    expect((await find(tenant, { search: 'dana' })).ids).toEqual([]);
  });

  it('gives it another number, which is the one called from then on', async () => {
    const { of, ids } = await people({ phone: '050-2000002' });
    const run_id = await startRun(fixture, of, { lead_ids: ids });
    expect(await change(ids[0] as LeadId, { phone: '(052) 200-0002' }, of)).toMatchObject({ phone: '+972522000002' });
    const attempts = await claimAll(fixture, await lease(fixture, of, run_id), 1);
    expect(attempts.map(({ to }) => to)).toEqual(['+972522000002']);
  });

  it('refuses a number that another lead has, and says which', async () => {
    const { of, ids } = await people({ phone: '050-2000003' }, { phone: '050-2000004' });
    await expect(change(ids[0] as LeadId, { phone: '0502000004' }, of)).rejects.toMatchObject({
      code: 'phone_taken',
      details: { lead_id: ids[1] },
    });
    // Its own number is no change.
    expect(await change(ids[0] as LeadId, { phone: '+972502000003' }, of)).toMatchObject({ phone: '+972502000003' });
    await expect(change(ids[0] as LeadId, { phone: '12' }, of)).rejects.toMatchObject({ code: 'phone_invalid' });
    await expect(change(ids[0] as LeadId, { time_zone: 'Moon' }, of)).rejects.toMatchObject({
      code: 'invalid_request',
    });
    const stranger = await createTenant(fixture, { leads: 0 });
    await expect(change(ids[0] as LeadId, { name: 'x' }, stranger)).rejects.toMatchObject({ code: 'lead_not_found' });
    // The same number in another business is nobody's concern.
    const theirs = await createLead(fixture.db, stranger.business_id, { phone: '0502000009' }, actor);
    expect(await change(theirs.lead_id, { phone: '0502000004' }, stranger)).toMatchObject({ phone: '+972502000004' });
  });

  it('of two that want one number at once gives it to one, and tells the other who has it', async () => {
    for (let round = 0; round < 5; round++) {
      const { of, ids } = await people({ phone: `050-21000${round}1` }, { phone: `050-21000${round}2` });
      const wanted = `+97252210000${round}`;
      const both = await Promise.allSettled(ids.map((lead_id) => change(lead_id, { phone: wanted }, of)));
      const winner = both.findIndex(({ status }) => status === 'fulfilled');
      expect(both[1 - winner]).toMatchObject({
        status: 'rejected',
        reason: { code: 'phone_taken', details: { lead_id: ids[winner] } },
      });
    }
  });

  it('names the fields in the trail, and nothing of what is in them', async () => {
    const { of, ids } = await people({ phone: '050-2000005', name: 'Planted Name' });
    await change(ids[0] as LeadId, { name: 'Other Name', attributes: { city: 'Haifa' }, phone: '050-2000005' }, of);
    await change(ids[0] as LeadId, { name: 'Other Name' }, of);
    const events = await fixture.rows(
      `SELECT actor, subject_id, before, after FROM carillon.audit_events WHERE business_id = $1 AND action = 'lead.updated'`,
      [of.business_id],
    );
    expect(events).toEqual([
      { actor: 'test', subject_id: String(ids[0]), before: null, after: { fields: ['name', 'attributes'] } },
    ]);
  });
});

describe('the history of a lead', () => {
  it('has its jobs with their attempts, over all runs, the newest first, in pages', async () => {
    const { of, ids } = await people({ phone: '050-3000001' }, { phone: '050-3000002' });
    const runs: RunId[] = [];
    for (const outcome of ['busy', 'no_answer', 'completed'] as const) {
      const run_id = await startRun(fixture, of, { lead_ids: ids, name: `to be ${outcome}` });
      const attempts = await claimAll(fixture, await lease(fixture, of, run_id), 2);
      for (const attempt of attempts) await record(fixture, attempt, ended(`${run_id}-${attempt.seq}`, outcome));
      runs.unshift(run_id);
    }
    const last = await startRun(fixture, of, { lead_ids: ids, name: 'going on' });
    const [open] = await claimAll(fixture, await lease(fixture, of, last), 2);
    if (!open) throw new Error('nothing was claimed');
    await record(fixture, open, live('L1', 'ringing'));
    const lead_id = ids[0] as LeadId;
    const page = await leadHistory(fixture.db, of.business_id, lead_id, { limit: 2 });
    expect(page).toMatchObject({
      items: [
        {
          run_id: last,
          run_name: 'going on',
          status: 'in_progress',
          attempts_made: [{ state: 'ringing', call_id: 'L1' }],
        },
        { run_id: runs[0], run_name: 'to be completed', attempts_made: [{ outcome: 'completed', duration_s: 3 }] },
      ],
      next: String(runs[0]),
    });
    const rest = await leadHistory(fixture.db, of.business_id, lead_id, { after: runs[0], limit: 2 });
    expect(rest).toMatchObject({ items: [{ run_id: runs[1] }, { run_id: runs[2] }], next: null });
    const other = await createTenant(fixture, { leads: 0 });
    const theirs = leadHistory(fixture.db, other.business_id, lead_id, { limit: 2 });
    await expect(theirs).rejects.toMatchObject({ code: 'lead_not_found' });
  });

  it('is looked for in a bounded number of runs at a time, and goes on behind them', async () => {
    const { of, ids } = await people({ phone: '050-3000003' });
    const first = await startRun(fixture, of, { lead_ids: ids });
    await fixture.rows(
      `INSERT INTO carillon.outbound_call_runs (business_id, name, status, carrier_account_id, concurrency, answer, created_by)
       SELECT $1, 'empty', 'draft', $2, 1, '{}', 'test' FROM generate_series(1, 5000)`,
      [of.business_id, of.carrier_account_id],
    );
    const page = await leadHistory(fixture.db, of.business_id, ids[0] as LeadId, { limit: 2 });
    expect(page).toMatchObject({ items: [], next: expect.stringMatching(/^\d+$/) });
    const rest = await leadHistory(fixture.db, of.business_id, ids[0] as LeadId, {
      limit: 2,
      after: Number(page.next) as RunId,
    });
    expect(rest).toMatchObject({ items: [{ run_id: first }], next: null });
  });
});
