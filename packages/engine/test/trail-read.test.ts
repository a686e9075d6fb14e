import { afterAll, beforeAll, expect, it } from 'vitest';
import { withClient } from '../../../test/support/test-server.ts';
import { listAuditEvents, TRAIL_PAGES } from '../src/audit/read.ts';
import { createFixture, createTenant, type Fixture, type Tenant } from './support/fixture.ts';

const EVENTS = 60_000;
const PAGE = 100;

let fixture: Fixture;
let ours: Tenant;
beforeAll(async () => {
  fixture = await createFixture();
  ours = await createTenant(fixture, { leads: 1 });
  const theirs = await createTenant(fixture, { leads: 1 });
  // Of each business many changes of many runs, and a few refusals at the very beginning.
  for (const { business_id } of [ours, theirs])
    await fixture.rows(
      `INSERT INTO carillon.audit_events (business_id, kind, action, actor, subject_type, subject_id, after)
       SELECT $1, CASE WHEN n <= 3 THEN 'security' ELSE 'change' END,
              CASE WHEN n <= 3 THEN 'access.forbidden' ELSE 'run.paused' END, 'key:1', 'run', (n % 5000)::text, '{}'
       FROM generate_series(1, $2::int) n`,
      [business_id, EVENTS],
    );
});
afterAll(async () => await fixture.close());

/** How many pages of the database a page of the trail costs the application, planned as it plans. */
async function buffersOf(sql: string, values: readonly string[]): Promise<number> {
  return await withClient(fixture.appUrl, async (client) => {
    await client.query(`BEGIN; SET LOCAL carillon.business_id = '${ours.business_id}'`);
    await client.query(`PREPARE page AS ${sql}`);
    const params = [String(ours.business_id), 'NULL', 'NULL', String(PAGE + 1), ...values].join(', ');
    const { rows } = await client.query<{ 'QUERY PLAN': string }>(
      `EXPLAIN (ANALYZE, BUFFERS) EXECUTE page (${params})`,
    );
    const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
    const [, hit = '0', read = '0'] = /Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?/.exec(plan) ?? [];
    return Number(hit) + Number(read);
  });
}

it('costs no more to read a page of a large trail', async () => {
  await fixture.rows('ANALYZE carillon.audit_events');
  expect(await buffersOf(TRAIL_PAGES.all, [])).toBeLessThan(50);
  expect(await buffersOf(TRAIL_PAGES.kind, [`'security'`])).toBeLessThan(50);
  expect(await buffersOf(TRAIL_PAGES.subject, [`'run'`, `'17'`, 'NULL'])).toBeLessThan(50);
});

it('finds what is rare and what is old', async () => {
  const { business_id } = ours;
  const refused = await listAuditEvents(fixture.db, business_id, { kind: 'security', limit: 2 });
  expect(refused.items).toHaveLength(2);
  const rest = await listAuditEvents(fixture.db, business_id, {
    kind: 'security',
    limit: 2,
    after: Number(refused.next),
  });
  expect([...refused.items, ...rest.items].map(({ action }) => action)).toEqual(Array(3).fill('access.forbidden'));
  expect(rest.next).toBeNull();
  const of_run = await listAuditEvents(fixture.db, business_id, { subject: { type: 'run', id: '17' }, limit: 500 });
  expect(of_run.items).toHaveLength(EVENTS / 5_000);
  expect(await listAuditEvents(fixture.db, business_id, { action: 'run.resumed', limit: 1 })).toEqual({
    items: [],
    next: null,
  });
});
