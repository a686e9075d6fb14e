import { type BusinessId, ImportId, ListId } from '@carillon/contract';
import { parse } from 'csv-parse/sync';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { xlsx } from '../../../test/support/xlsx.ts';
import { createBusiness } from '../src/business/create-business.ts';
import { readMoment } from '../src/lead/consent.ts';
import { importLeads } from '../src/lead/import.ts';
import { getImport, listImports } from '../src/lead/import-state.ts';
import { createList } from '../src/lead/lists.ts';
import { timeZoneOfPhone } from '../src/lead/phone-zone.ts';
import { LINE_REASONS } from '../src/lead/reasons.ts';
import { rejectedLines } from '../src/lead/rejected-lines.ts';
import { actor, createFixture, type Fixture } from './support/fixture.ts';
import { csv, linesOf, membersOf } from './support/leads.ts';

let fixture: Fixture;
let business_id: BusinessId;
beforeAll(async () => {
  fixture = await createFixture();
  business_id = (await createBusiness(fixture.db, { name: 'ours' }, actor)).business_id;
});
afterAll(async () => await fixture.close());

const newList = async () => ListId.parse((await createList(fixture.db, business_id, { name: 'list' }, actor)).list_id);
const load = (list_id: ListId, text: string | Buffer, options = {}) =>
  importLeads(fixture.db, business_id, list_id, csv(text), { actor, ...options });

describe('a second import', () => {
  it('takes the first line of the file for each number, whatever the size of its batches', async () => {
    const results: unknown[] = [];
    for (const [round, import_batch_lines] of [1, 2, 3, 5_000].entries()) {
      const own = (await createBusiness(fixture.db, { name: `batch ${round}` }, actor)).business_id;
      const list_id = ListId.parse((await createList(fixture.db, own, { name: 'list' }, actor)).list_id);
      const into = (text: string) =>
        importLeads(fixture.db, own, list_id, csv(text), { actor, limits: { import_batch_lines } });
      await into('phone,name\n0501000001,A\n0501000002,B\n0501000003,C\n');
      const lines = ['2,B1', '2,B2', '4,D', '1,', '4,D2', '3,C', '2,B3', '1,A9'];
      const report = await into(`phone,name\n${lines.map((line) => `050100000${line}`).join('\n')}\n`);
      results.push({
        report: { ...report, list_id: 0, import_id: 0, rejected_url: '' },
        names: (await membersOf(fixture, own, list_id)).map((lead) => lead.name),
        notes: (await linesOf(fixture.db, own, report.import_id)).map((line) => line.slice(0, 3)),
      });
    }
    expect(results[0]).toMatchObject({
      report: {
        lines: 8,
        accepted: 1,
        duplicates: 7,
        updated: 1,
        reasons: { already_in_list: 6, repeated_in_file: 1 },
      },
      names: ['A', 'B1', 'C', 'D'],
    });
    for (const result of results) expect(result).toEqual(results[0]);
  });

  it('merges attributes by key, and erases nothing', async () => {
    const list_id = await newList();
    await load(list_id, 'phone,name,id,tz,city,age\n0501000011,Dana,7,Europe/Paris,Lod,30\n');
    const report = await load(list_id, 'phone,name,id,tz,city,age,vip\n0501000011,,,,Acre,,yes\n');
    expect(report).toMatchObject({ accepted: 0, duplicates: 1, updated: 1 });
    const [lead] = await fixture.rows('SELECT * FROM carillon.leads WHERE phone = $1', ['+972501000011']);
    expect(lead).toMatchObject({
      name: 'Dana',
      external_id: '7',
      time_zone: 'Europe/Paris',
      attributes: { city: 'Acre', age: '30', vip: 'yes' },
    });
  });

  it('keeps the newest consent, as a whole', async () => {
    const head = 'phone,consent source,consent at,consent text\n0501000021';
    const consentOf = async () =>
      (
        await fixture.rows(
          `SELECT source, given_at, consent_text FROM carillon.lead_consents JOIN carillon.leads USING (business_id, lead_id)
           WHERE phone = '+972501000021'`,
        )
      )[0];
    const steps: [line: string, updated: number, source: string, given_at: string | null][] = [
      ['paper,,I agree', 0, 'paper', null],
      ['phone,2025-05-01 10:00,', 1, 'phone', '2025-05-01T07:00:00.000Z'],
      ['letter,,x', 0, 'phone', '2025-05-01T07:00:00.000Z'],
      ['older,2024-05-01,x', 0, 'phone', '2025-05-01T07:00:00.000Z'],
      ['web,2025-05-01T07:00:01Z,We call you', 1, 'web', '2025-05-01T07:00:01.000Z'],
      [',,', 0, 'web', '2025-05-01T07:00:01.000Z'],
    ];
    for (const [line, updated, source, given_at] of steps) {
      const report = await load(await newList(), `${head},${line}\n`);
      expect([line, report.updated, report.accepted]).toEqual([line, updated, 1]);
      const consent = await consentOf();
      expect(consent?.source).toBe(source);
      expect(consent?.given_at?.toISOString() ?? null).toBe(given_at);
    }
    expect(await consentOf()).toMatchObject({ consent_text: 'We call you' });
  });

  it('tells of external ids that another lead has, or that replace one', async () => {
    await load(await newList(), 'phone,id\n0501000031,a1\n0501000032,a2\n');
    const list_id = await newList();
    const report = await load(list_id, 'phone,id\n0501000033,a1\n0501000032,b2\n0501000031,a1\n0501000034,c4\n');
    expect(report).toMatchObject({
      accepted: 4,
      duplicates: 0,
      rejected: 0,
      reasons: { external_id_of_another: 2, external_id_replaced: 1 },
    });
    const notes = await linesOf(fixture.db, business_id, report.import_id);
    expect(notes.map((line) => line.slice(0, 3))).toEqual([
      ['2', 'accepted', 'external_id_of_another'],
      ['3', 'accepted', 'external_id_replaced'],
      ['4', 'accepted', 'external_id_of_another'],
    ]);
    expect(await fixture.rows("SELECT external_id FROM carillon.leads WHERE phone = '+972501000032'")).toEqual([
      { external_id: 'b2' },
    ]);
  });
});

it('the lines that made no member are told in both languages, in the text that they had', async () => {
  const list_id = await newList();
  const bytes = Buffer.concat([
    Buffer.from('phone,name\r\n=cmd(),'),
    Buffer.from([0xe3, 0xf0, 0xe4]),
    Buffer.from('\r\n'),
  ]);
  const { import_id } = await load(list_id, bytes);
  const book = await load(
    list_id,
    xlsx([
      ['phone', 'name'],
      ['letters', 'a, "b"'],
    ]),
  );
  const text = async (id: number, language: 'en' | 'he') =>
    parse((await Array.fromAsync(rejectedLines(fixture.db, business_id, ImportId.parse(id), language))).join(''), {
      bom: true,
    });
  expect((await text(import_id, 'en'))[1]).toEqual(['2', 'rejected', 'letters', 'it has letters in it', "'=cmd(),דנה"]);
  expect((await text(import_id, 'he'))[1]?.[3]).toBe('יש בו אותיות');
  expect((await text(book.import_id, 'he'))[1]).toEqual([
    '2',
    'rejected',
    'letters',
    'יש בו אותיות',
    'letters,"a, ""b"""',
  ]);
  for (const { en, he } of Object.values(LINE_REASONS)) {
    expect(en).toMatch(/^[a-z]/);
    expect(he).toMatch(/^[\u05D0-\u05EA]/);
  }
});

describe('the trail', () => {
  const eventsOf = async (list_id: ListId) =>
    await fixture.rows<{ action: string; actor: string; after: Record<string, unknown> }>(
      `SELECT action, actor, after FROM carillon.audit_events WHERE subject_type = 'list' AND subject_id = $1 ORDER BY event_id`,
      [String(list_id)],
    );

  it('has the beginning and the end of each import, and no person in it', async () => {
    const list_id = await newList();
    const { import_id } = await load(list_id, 'phone,name\n0501000041,Nobody\nnone,x\n');
    const failed = load(list_id, 'city\nLod\n');
    await expect(failed).rejects.toMatchObject({ code: 'import_no_phone_column' });
    const events = await eventsOf(list_id);
    expect(events.map(({ action }) => action)).toEqual([
      'list.created',
      'list.import_started',
      'list.imported',
      'list.import_started',
      'list.import_failed',
    ]);
    expect(events.every((event) => event.actor === actor.name)).toBe(true);
    expect(events[2]?.after).toEqual({ import_id, lines: 2, accepted: 1, duplicates: 0, rejected: 1, updated: 0 });
    expect(events[4]?.after).toMatchObject({ error: 'import_no_phone_column' });
    expect(JSON.stringify(events)).not.toMatch(/501000041|Nobody/);
  });
});

describe('a database whose disk is full', () => {
  it('is told, leaves the list as it was, and takes the file again when there is room', async () => {
    const list_id = await newList();
    await fixture.rows(`CREATE FUNCTION carillon.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF NEW.phone >= '+972501000065' THEN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END IF;
      RETURN NEW; END $$`);
    await fixture.rows(
      `CREATE TRIGGER full_disk BEFORE INSERT ON carillon.leads FOR EACH ROW EXECUTE FUNCTION carillon.full_disk()`,
    );
    const text = `phone\n${Array.from({ length: 9 }, (_, n) => `050100006${n}`).join('\n')}\n`;
    const options = { idempotency_key: 'full', limits: { import_batch_lines: 3 } };
    await expect(load(list_id, text, options)).rejects.toMatchObject({ code: 'database_full' });
    expect(await membersOf(fixture, business_id, list_id)).toEqual([]);
    expect((await listImports(fixture.db, business_id, list_id, { limit: 5 })).items).toMatchObject([
      { state: 'failed', error: 'database_full', lines: 3 },
    ]);
    await fixture.rows('DROP TRIGGER full_disk ON carillon.leads');
    expect(await load(list_id, text, options)).toMatchObject({ accepted: 9 });
    expect(await membersOf(fixture, business_id, list_id)).toHaveLength(9);
  });
});

it('an import that writes nothing yet shows that it lives: a workbook is taken in whole before its first line', async () => {
  const list_id = await newList();
  const book = xlsx([['phone'], ['0501000071']]);
  const seen = Promise.withResolvers<void>();
  async function* slowly() {
    yield book.subarray(0, 500);
    yield book.subarray(500, 600);
    await seen.promise;
    yield book.subarray(600);
  }
  const limits = { import_commit_every_ms: 0, import_sample_bytes: 100 };
  const loading = importLeads(fixture.db, business_id, list_id, slowly(), { actor, limits });
  await expect
    .poll(async () => (await listImports(fixture.db, business_id, list_id, { limit: 1 })).items, { timeout: 30_000 })
    .toMatchObject([{ state: 'running', bytes_read: 600, lines: 0, file: null }]);
  seen.resolve();
  const report = await loading;
  expect(await getImport(fixture.db, business_id, ImportId.parse(report.import_id))).toMatchObject({
    ...report,
    state: 'done',
    bytes_read: book.length,
    error: null,
  });
});

describe('the time zone of a number', () => {
  it.each([
    ['+972501234567', 'Asia/Jerusalem'],
    ['+12125550111', 'America/New_York'],
    ['+13105550111', 'America/Los_Angeles'],
    ['+442079460018', 'Europe/London'],
    ['+33199001234', 'Europe/Paris'],
    ['+61261234567', 'Australia/Sydney'],
    // Mobiles of countries with several, and a number of no place.
    ['+61412345678', null],
    ['+18005550111', null],
    ['+79161234567', null],
  ])('%s: %s', (phone, zone) => {
    expect(timeZoneOfPhone(phone)).toBe(zone);
  });
});

describe('the time of a consent', () => {
  it.each([
    ['2026-01-31', 'IL', '2026-01-30T22:00:00Z'],
    ['2026-07-31 14:00', 'IL', '2026-07-31T11:00:00Z'],
    ['31/01/2026 2:05:06 pm', 'IL', '2026-01-31T12:05:06Z'],
    ['01/31/2026 12:00 AM', 'US', '2026-01-30T22:00:00Z'],
    ['31.1.2026', 'IL', '2026-01-30T22:00:00Z'],
    ['2026-01-31T14:00:00+02:00', 'IL', '2026-01-31T12:00:00Z'],
    ['2026-01-31 14:00:00.5 +0200', 'IL', '2026-01-31T12:00:00.5Z'],
    ['2026-01-31T12:00:00Z', 'US', '2026-01-31T12:00:00Z'],
    ['31/02/2026', 'IL', null],
    ['2026-01-31 25:00', 'IL', null],
    ['2026-13-01T00:00:00Z', 'IL', null],
    ['yesterday', 'IL', null],
    ['2026', 'IL', null],
  ] as const)('%s in %s is %s', (text, country, moment) => {
    expect(readMoment(text, country, 'Asia/Jerusalem')).toBe(moment);
  });
});
