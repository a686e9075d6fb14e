import type { SecurityEvent } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseReportCursor, securityReport } from '../src/business/security-report.ts';
import { addList, createFixture, createTenant, type Fixture, startRun, type Tenant } from './support/fixture.ts';

let fixture: Fixture;
let ours: Tenant;
let theirs: Tenant;
beforeAll(async () => {
  fixture = await createFixture();
  ours = await createTenant(fixture);
  theirs = await createTenant(fixture);
});
afterAll(async () => await fixture.close());

/** Somebody of ours named an id that they do not see, some seconds from now. */
async function refused(type: string, id: number | string, in_s = 0): Promise<void> {
  await fixture.rows(
    `INSERT INTO carillon.audit_events (business_id, kind, action, actor, source, subject_type, subject_id, at)
     VALUES ($1, 'security', 'access.id_not_visible', 'key:7', '192.0.2.1', $2, $3, now() + $4 * interval '1 s')`,
    [ours.business_id, type, String(id), in_s],
  );
}

const all = async (): Promise<SecurityEvent[]> => (await securityReport(fixture.db, { limit: 500 })).items;
const told = ({ subject, subject_was, subject_business_id }: SecurityEvent) => [
  `${subject?.type} ${subject?.id}`,
  subject_was,
  subject_business_id,
];

describe('the security report', () => {
  it('tells foreign ids from absent ones, of each kind', async () => {
    const run_id = await startRun(fixture, theirs);
    const own_run = await startRun(fixture, ours);
    const [made] = await fixture.rows<{ lead_id: string; import_id: string; key_id: string }>(
      `WITH k AS (INSERT INTO carillon.api_keys (business_id, role, secret_hash) VALUES ($1, 'agent', $2) RETURNING key_id),
       i AS (INSERT INTO carillon.list_imports (business_id, list_id, state) VALUES ($1, $3, 'done') RETURNING import_id)
       SELECT k.key_id, i.import_id, (SELECT min(lead_id) FROM carillon.leads WHERE business_id = $1) AS lead_id FROM k, i`,
      [theirs.business_id, Buffer.alloc(32), theirs.list_id],
    );
    const foreign: [string, number | string][] = [
      ['run', run_id],
      ['job', `${run_id}-10`],
      ['list', theirs.list_id],
      ['lead', Number(made?.lead_id)],
      ['import', Number(made?.import_id)],
      ['carrier_account', theirs.carrier_account_id],
      ['key', Number(made?.key_id)],
    ];
    const absent: [string, number | string][] = foreign.map(([type, id]) => [
      type,
      type === 'job' ? `${String(id).split('-')[0]}-11` : 987_654_321,
    ]);
    // One's own is no other's, and what can be no id is nobody's.
    absent.push(['run', own_run], ['run', 'x'], ['job', '5'], ['run', '99999999999999999999']);
    for (const [type, id] of [...foreign, ...absent]) await refused(type, id);
    const items = (await all()).toReversed();
    expect(items.map(told)).toEqual([
      ...foreign.map(([type, id]) => [`${type} ${id}`, 'foreign', theirs.business_id]),
      ...absent.map(([type, id]) => [`${type} ${id}`, 'absent', null]),
    ]);
    expect(items[0]).toMatchObject({ business_id: ours.business_id, actor: 'key:7', source: '192.0.2.1', times: null });
  });

  it('calls absent what was made only after somebody had asked for it', async () => {
    const list_id = await addList(fixture, theirs.business_id, 1);
    await refused('list', list_id, -60);
    const early = (await all()).find(({ subject }) => subject?.id === String(list_id));
    expect(early?.subject_was).toBe('absent');
    await refused('list', list_id, 60);
    expect((await all())[0]?.subject_was).toBe('foreign');
  });

  it('shows strangers among them, in the order of time, each once however small the pages are', async () => {
    await fixture.rows(
      `INSERT INTO carillon.installation_events (kind, action, actor, source, times, at)
       SELECT 'security', 'access.unauthenticated', 'nobody', '198.51.100.' || n, n, e.at
       FROM generate_series(1, 3) n CROSS JOIN LATERAL (
         SELECT at FROM carillon.audit_events WHERE kind = 'security' ORDER BY at DESC LIMIT 1) e`,
    );
    await fixture.rows(
      "INSERT INTO carillon.installation_events (kind, action, actor) VALUES ('change', 'business.created', 'cli')",
    );
    const whole = await all();
    expect(whole.filter(({ action }) => action === 'access.unauthenticated')).toMatchObject([
      { business_id: null, source: '198.51.100.3', times: 3, subject: null, subject_was: null },
      { times: 2 },
      { times: 1 },
    ]);
    expect(whole.map(({ at }) => at)).toEqual(
      whole
        .map(({ at }) => at)
        .toSorted()
        .toReversed(),
    );
    const paged: SecurityEvent[] = [];
    for (let after: string | null = ''; after !== null; ) {
      const page = await securityReport(fixture.db, { limit: 2, after: parseReportCursor(after) ?? undefined });
      expect(page.items.length).toBeLessThanOrEqual(2);
      paged.push(...page.items);
      after = page.next;
    }
    expect(paged).toEqual(whole);
  });

  it('shows nothing that is no matter of security', async () => {
    expect((await all()).map(({ action }) => action)).not.toContain('business.created');
    expect((await all()).map(({ action }) => action)).not.toContain('run.created');
  });
});

describe('numbers that businesses share', () => {
  const add = async (business_id: number, sid: string, numbers: string[], base_url = 'https://a.example') =>
    await fixture.rows(
      `INSERT INTO carillon.carrier_accounts (business_id, name, driver, base_url, account_sid, auth_token_sealed, from_numbers)
       VALUES ($1, 'secret name', 'twilio', $2, $3, '\\x00', $4)`,
      [business_id, base_url, sid, numbers],
    );

  it('are those of one account at one carrier, in different businesses', async () => {
    const { shared_numbers: before } = await securityReport(fixture.db, { limit: 1 });
    await add(ours.business_id, 'AC7', ['+97231112222', '+97231113333']);
    await add(ours.business_id, 'AC7', ['+97231112222']);
    await add(theirs.business_id, 'AC8', ['+97231112222']);
    await add(theirs.business_id, 'AC7', ['+97231112222'], 'https://b.example');
    await add(theirs.business_id, 'AC7', ['+97231114444']);
    expect((await securityReport(fixture.db, { limit: 1 })).shared_numbers).toEqual(before);
    await add(theirs.business_id, 'AC7', ['+97231113333']);
    const { shared_numbers } = await securityReport(fixture.db, { limit: 1 });
    expect(shared_numbers.filter(({ account_sid }) => account_sid === 'AC7')).toEqual([
      {
        base_url: 'https://a.example',
        account_sid: 'AC7',
        from_number: '+97231113333',
        accounts: [
          { business_id: ours.business_id, carrier_account_id: expect.any(Number) },
          { business_id: theirs.business_id, carrier_account_id: expect.any(Number) },
        ],
      },
    ]);
    expect(JSON.stringify(shared_numbers)).not.toContain('secret name');
  });
});

it('reads a cursor only if a page could have ended with it', () => {
  expect(parseReportCursor('1764000000000000-business-12')).toEqual({
    at_us: 1_764_000_000_000_000,
    origin: 'business',
    event_id: 12,
  });
  for (const text of ['', 'x', '1-business', '0-business-1', '1-elsewhere-1', '1-business-1-1', '-1-business-1'])
    expect(parseReportCursor(text)).toBeNull();
});
