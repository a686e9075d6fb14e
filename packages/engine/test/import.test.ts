import { BusinessId, ListId } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createBusiness } from '../src/business/create-business.ts';
import { createLead } from '../src/lead/create-lead.ts';
import { importLeads } from '../src/lead/import.ts';
import { createList, listLists, listListLeads, listNamed } from '../src/lead/lists.ts';
import { rejectedLines } from '../src/lead/rejected-lines.ts';
import { actor, createFixture, type Fixture } from './support/fixture.ts';
import { csv, linesOf, membersOf, number } from './support/leads.ts';

let fixture: Fixture;
let ours: BusinessId;
let theirs: BusinessId;
beforeAll(async () => {
  fixture = await createFixture();
  ours = (await createBusiness(fixture.db, { name: 'ours' }, actor)).business_id;
  theirs = (await createBusiness(fixture.db, { name: 'theirs', country: 'US' }, actor)).business_id;
});
afterAll(async () => await fixture.close());

const newList = async (business_id = ours) =>
  ListId.parse((await createList(fixture.db, business_id, { name: 'list' }, actor)).list_id);
const load = (list_id: ListId, text: string, options = {}) =>
  importLeads(fixture.db, ours, list_id, csv(text), { actor, ...options });

describe('an import', () => {
  it('accounts for every line, and tells line and reason of those that made no member', async () => {
    const list_id = await newList();
    const report = await load(
      list_id,
      [
        'שם,טלפון,עיר',
        'דנה כהן,050-1000001,חיפה',
        '',
        '"לוי, יוסי",+972 50 100 0002,"תל\nאביב"',
        'דנה כהן שוב,972501000001,',
        ',,',
        'בלי מספר,,עכו',
        'עודף,0501000003,לוד,עודף',
        'ריק בסוף,0501000004,לוד,,',
        'קצר,0501000005',
        '=cmd(),אין לי,',
      ].join('\n'),
    );
    expect(report).toEqual({
      list_id,
      import_id: expect.any(Number),
      lines: 8,
      accepted: 4,
      duplicates: 1,
      rejected: 3,
      updated: 0,
      reasons: { repeated_in_file: 1, empty: 1, too_many_columns: 1, letters: 1 },
      file: {
        format: 'csv',
        encoding: 'utf-8',
        separator: ',',
        sheet: null,
        header: true,
        columns: { phone: 'טלפון', name: ['שם'], external_id: null, time_zone: null, consent: [], attributes: 1 },
      },
      rejected_url: `/api/imports/${report.import_id}/rejected.csv`,
    });
    expect(await membersOf(fixture, ours, list_id)).toEqual([
      { phone: '+972501000001', name: 'דנה כהן', attributes: { עיר: 'חיפה' } },
      { phone: '+972501000002', name: 'לוי, יוסי', attributes: { עיר: 'תל\nאביב' } },
      { phone: '+972501000004', name: 'ריק בסוף', attributes: { עיר: 'לוד' } },
      { phone: '+972501000005', name: 'קצר', attributes: {} },
    ]);
    expect(await linesOf(fixture.db, ours, report.import_id)).toEqual([
      ['6', 'duplicate', 'repeated_in_file', expect.any(String), 'דנה כהן שוב,972501000001,'],
      ['8', 'rejected', 'empty', 'there is no number', 'בלי מספר,,עכו'],
      ['9', 'rejected', 'too_many_columns', expect.any(String), 'עודף,0501000003,לוד,עודף'],
      ['12', 'rejected', 'letters', 'it has letters in it', "'=cmd(),אין לי,"],
    ]);
  });

  it('reads numbers of the country that it is told, else of the business', async () => {
    const text = 'phone\n0501000011\n2025550111\n';
    const list_id = await newList();
    expect(await load(list_id, text, { country: 'us' })).toMatchObject({ accepted: 1, rejected: 1 });
    expect(await load(list_id, text)).toMatchObject({ accepted: 1, rejected: 1 });
    expect((await membersOf(fixture, ours, list_id)).map((lead) => lead.phone)).toEqual([
      '+12025550111',
      '+972501000011',
    ]);
    const american = await newList(theirs);
    await importLeads(fixture.db, theirs, american, csv(text), { actor });
    expect((await membersOf(fixture, theirs, american)).map((lead) => lead.phone)).toEqual(['+12025550111']);
  });

  it('follows a mapping, joins names, keeps external ids and time zones, and refuses what is out of bounds', async () => {
    const list_id = await newList();
    const head = 'first name,last name,whatsapp,crm id,tz,note';
    const rows = [
      'Dana,Levi,0501000021,A-1,Europe/London,x',
      'Yossi,,0501000022,,,',
      'No,Zone,0501000023,,Mars/Base,',
      `Long,Note,0501000024,,,${'x'.repeat(2_001)}`,
      `${'N'.repeat(201)},,0501000025,,,`,
      `Long,Id,0501000026,${'I'.repeat(201)},,`,
    ];
    const report = await load(list_id, [head, ...rows].join('\n'), { mapping: { phone: 'WhatsApp' } });
    expect(report).toMatchObject({ accepted: 2, rejected: 4 });
    expect(await listListLeads(fixture.db, ours, list_id, { limit: 10 })).toMatchObject({
      items: [
        { name: 'Dana Levi', external_id: 'A-1', time_zone: 'Europe/London', attributes: { note: 'x' } },
        { name: 'Yossi', external_id: null, time_zone: 'Asia/Jerusalem', attributes: {} },
      ],
    });
    expect((await linesOf(fixture.db, ours, report.import_id)).map((line) => line[2])).toEqual([
      'unknown_time_zone',
      'attribute_too_long',
      'name_too_long',
      'external_id_too_long',
    ]);
  });

  it('updates the lead that the business has: what the file gives wins, what it leaves empty stays', async () => {
    await load(await newList(), 'phone,name,city\n0501000031,,Haifa\n0501000032,Noa,Haifa\n0501000033,Ziv,Haifa\n');
    const asItWas = () =>
      fixture.rows('SELECT lead_id, updated_at FROM carillon.leads WHERE phone = $1', ['+972501000033']);
    const before = await asItWas();
    const list_id = await newList();
    const lines = [
      'phone,name,city,id,tz,age',
      '0501000031,Dana,Eilat,7,Europe/Paris,30',
      '0501000032,Other,,,,',
      '0501000033,Ziv,Haifa,,,',
      '0501000034,New,,,,',
      '0501000034,Newer,,,,',
    ];
    const report = await load(list_id, lines.join('\n'));
    expect(report).toMatchObject({ accepted: 4, duplicates: 1, updated: 2 });
    expect((await listListLeads(fixture.db, ours, list_id, { limit: 10 })).items).toMatchObject([
      { name: 'Dana', external_id: '7', time_zone: 'Europe/Paris', attributes: { city: 'Eilat', age: '30' } },
      { name: 'Other', external_id: null, time_zone: 'Asia/Jerusalem', attributes: { city: 'Haifa' } },
      { name: 'Ziv', attributes: { city: 'Haifa' } },
      { name: 'New' },
    ]);
    expect(await asItWas()).toEqual(before);
    // A zone that somebody gave outlives a file without one.
    await load(await newList(), 'phone,tz\n0501000031,\n');
    expect((await listListLeads(fixture.db, ours, list_id, { limit: 1 })).items).toMatchObject([
      { time_zone: 'Europe/Paris' },
    ]);
  });

  it('into a list that has leads adds the new ones at its end; the others are duplicates', async () => {
    const list_id = await newList();
    await load(list_id, 'phone\n0501000041\n0501000042\n');
    const report = await load(list_id, 'phone\n0501000042\n0501000043\n0501000043\n0501000041\n');
    expect(report).toMatchObject({ lines: 4, accepted: 1, duplicates: 3 });
    expect((await linesOf(fixture.db, ours, report.import_id)).map((line) => [line[0], line[2]])).toEqual([
      ['2', 'already_in_list'],
      ['4', 'repeated_in_file'],
      ['5', 'already_in_list'],
    ]);
    expect((await membersOf(fixture, ours, list_id)).map((lead) => lead.phone)).toEqual([
      number(41),
      number(42),
      number(43),
    ]);
  });

  it('gives the same result whatever the size of its batches', async () => {
    const rows = Array.from({ length: 60 }, (_, n) =>
      n % 7 === 3 ? 'none' : `05010001${String(n % 25).padStart(2, '0')}`,
    );
    const text = `phone\n${rows.join('\n')}\n`;
    const results: unknown[] = [];
    for (const import_batch_lines of [1, 2, 7, 25, 5_000]) {
      const list_id = await newList();
      const totals: number[] = [];
      const report = await load(list_id, text, {
        limits: { import_batch_lines },
        onProgress: ({ lines }: { lines: number }) => totals.push(lines),
      });
      expect(totals).toHaveLength(Math.ceil(60 / import_batch_lines));
      expect(totals.at(-1)).toBe(60);
      expect(report.accepted + report.duplicates + report.rejected).toBe(60);
      const phones = (await membersOf(fixture, ours, list_id)).map((lead) => lead.phone);
      const notes = (await linesOf(fixture.db, ours, report.import_id)).map((line) => [line[0], line[1], line[2]]);
      results.push({ accepted: report.accepted, phones, notes });
    }
    for (const result of results) expect(result).toEqual(results[0]);
  });

  it('keeps of a rejected line what fits, and never half a character', async () => {
    const list_id = await newList();
    const report = await load(list_id, `phone,note\nnone,${'😀'.repeat(1_500)}\n`);
    const [line] = await linesOf(fixture.db, ours, report.import_id);
    expect(line?.[4]).toBe(`none,${'😀'.repeat(997)}`);
  });
});

describe('createLead', () => {
  it('makes a lead once for each number, and leaves the one that is there as it is', async () => {
    const made = await createLead(
      fixture.db,
      ours,
      {
        phone: '050-1000051',
        name: 'Dana',
        external_id: 'x1',
        time_zone: 'Europe/Paris',
        attributes: { city: 'Lod' },
      },
      actor,
    );
    expect(made.created).toBe(true);
    const again = await createLead(fixture.db, ours, { phone: '+972501000051', name: 'Other' }, actor);
    expect(again).toEqual({ lead_id: made.lead_id, created: false });
    expect(
      await fixture.rows(
        'SELECT phone, name, external_id, time_zone, attributes FROM carillon.leads WHERE lead_id = $1',
        [made.lead_id],
      ),
    ).toEqual([
      {
        phone: '+972501000051',
        name: 'Dana',
        external_id: 'x1',
        time_zone: 'Europe/Paris',
        attributes: { city: 'Lod' },
      },
    ]);
  });

  it('made of the same number many times at once gives one lead', async () => {
    const tries = Array.from({ length: 12 }, () => createLead(fixture.db, ours, { phone: '0501000052' }, actor));
    const leads = await Promise.all(tries);
    expect(new Set(leads.map((lead) => lead.lead_id)).size).toBe(1);
    expect(leads.filter((lead) => lead.created)).toHaveLength(1);
  });

  it.each([
    [{ phone: '12' }, 'phone_invalid', 'too few digits'],
    [{ phone: '0501000053', country: 'zz' }, 'invalid_request', '"zz"'],
    [{ phone: '0501000053', time_zone: 'Moon' }, 'invalid_request', '"Moon"'],
    [{ phone: '0501000053', name: 'a\0' }, 'invalid_request', 'NUL'],
    [{ phone: '0501000053', attributes: { a: '\uD83D' } }, 'invalid_request', 'half a character'],
  ])('refuses %o', async (input, code, words) => {
    await expect(createLead(fixture.db, ours, input, actor)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(words),
    });
  });
});

describe('lists', () => {
  it('are shown newest first, in pages', async () => {
    const { business_id } = await createBusiness(fixture.db, { name: 'many lists' }, actor);
    const made = [await newList(business_id), await newList(business_id), await newList(business_id)];
    const first = await listLists(fixture.db, business_id, { limit: 2 });
    expect(first.items.map((list) => list.list_id)).toEqual([made[2], made[1]]);
    expect(first.items[0]).toMatchObject({ name: 'list', leads: 0 });
    const rest = await listLists(fixture.db, business_id, { limit: 2, after: ListId.parse(first.next) });
    expect(rest).toMatchObject({ items: [{ list_id: made[0] }], next: null });
  });

  it('of one name are one, also when it is asked for many times at once', async () => {
    const lists = await Promise.all(
      Array.from({ length: 8 }, () => listNamed(fixture.db, ours, { name: 'autumn' }, actor)),
    );
    expect(new Set(lists.map((list) => list.list_id)).size).toBe(1);
    expect(await createList(fixture.db, ours, { name: 'autumn' }, actor)).not.toMatchObject({
      list_id: lists[0]?.list_id,
    });
  });

  it('give their leads in order, in pages', async () => {
    const list_id = await newList();
    await load(list_id, 'phone\n0501000061\n0501000062\n0501000063\n');
    const first = await listListLeads(fixture.db, ours, list_id, { limit: 2 });
    expect(first).toMatchObject({ items: [{ phone: number(61) }, { phone: number(62) }], next: '2' });
    const rest = await listListLeads(fixture.db, ours, list_id, { limit: 2, after: 2 });
    expect(rest).toMatchObject({ items: [{ phone: number(63) }], next: null });
    expect(rest.items[0]).not.toHaveProperty('position');
  });

  it.each(['', '  ', 'x'.repeat(201), 'a\0'])('are not named "%s"', async (name) => {
    for (const make of [createList, listNamed])
      await expect(make(fixture.db, ours, { name }, actor)).rejects.toMatchObject({ code: 'invalid_request' });
  });
});

describe('another business', () => {
  it('neither reads nor fills a list, and is told what it is told of one that is not there', async () => {
    const list_id = await newList();
    const { import_id } = await load(list_id, 'phone\n0501000071\nnone\n');
    for (const id of [list_id, ListId.parse(987_654)]) {
      const refused = { code: 'list_not_found', details: {} };
      await expect(listListLeads(fixture.db, theirs, id, { limit: 5 })).rejects.toMatchObject(refused);
      await expect(importLeads(fixture.db, theirs, id, csv('phone\n0501000072\n'), { actor })).rejects.toMatchObject(
        refused,
      );
    }
    for (const id of [import_id, 987_654]) {
      const lines = rejectedLines(fixture.db, theirs, id as never);
      await expect(lines.next()).rejects.toMatchObject({ code: 'import_not_found', details: {} });
    }
    expect((await listLists(fixture.db, theirs, { limit: 100 })).items.map((list) => list.list_id)).not.toContain(
      list_id,
    );
    expect(await listNamed(fixture.db, theirs, { name: 'list' }, actor)).not.toMatchObject({ list_id });
    expect(await membersOf(fixture, ours, list_id)).toHaveLength(1);
  });

  it('has a lead of its own for the same number', async () => {
    const mine = await createLead(fixture.db, ours, { phone: '+972501000073', name: 'ours' }, actor);
    const list_id = await newList(theirs);
    const report = await importLeads(fixture.db, theirs, list_id, csv('phone,name\n+972501000073,theirs\n'), { actor });
    expect(report.accepted).toBe(1);
    expect(await membersOf(fixture, theirs, list_id)).toMatchObject([{ name: 'theirs' }]);
    expect(await createLead(fixture.db, theirs, { phone: '+972501000073' }, actor)).not.toMatchObject({
      lead_id: mine.lead_id,
    });
    expect(await fixture.rows('SELECT name FROM carillon.leads WHERE lead_id = $1', [mine.lead_id])).toEqual([
      { name: 'ours' },
    ]);
  });

  it('that does not exist is said not to exist', async () => {
    const nobody = BusinessId.parse(987_654);
    for (const attempt of [
      () => createList(fixture.db, nobody, { name: 'a' }, actor),
      () => listNamed(fixture.db, nobody, { name: 'a' }, actor),
      () => createLead(fixture.db, nobody, { phone: '0501000074' }, actor),
    ])
      await expect(attempt()).rejects.toMatchObject({ message: expect.stringContaining('no business 987654') });
  });
});
