import { type BusinessId, ListId, RunId } from '@carillon/contract';
import {
  createBusiness,
  createCarrierAccount,
  createList,
  createRun,
  type Database,
  defaultLimits,
  importLeads,
  openDatabase,
} from '@carillon/engine';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { createOutcomeReader, outcomeOf } from '../src/run/outcomes.ts';

const LEADS = 1_300;

let database: TestDatabase;
let db: Database;
let business_id: BusinessId;
const actor = { name: 'test', user_id: null };
let run_id: RunId;

beforeAll(async () => {
  database = await createTestDatabase();
  db = openDatabase({ app_url: database.appUrl });
  ({ business_id } = await createBusiness(db, { name: 'x' }, actor));
  await createCarrierAccount(
    db,
    business_id,
    {
      name: 'x',
      driver: 'twilio',
      base_url: 'http://127.0.0.1:1',
      account_sid: 'AC1',
      auth_token: 'x',
      from_numbers: ['+97231110000'],
      concurrency_limit: 1,
      calls_per_second: 1,
    },
    Buffer.alloc(32, 1),
    actor,
  );
  const list_id = ListId.parse((await createList(db, business_id, { name: 'x' }, actor)).list_id);
  const lines = Array.from({ length: LEADS }, (_, n) => `+97250${2_000_000 + n}`);
  const csv = Buffer.from(['phone', ...lines, ''].join('\n'));
  await importLeads(
    db,
    business_id,
    list_id,
    (async function* () {
      yield csv;
    })(),
    { actor },
  );
  const { run } = await createRun(db, business_id, { list_id }, { actor, limits: defaultLimits });
  run_id = RunId.parse(run.run_id);
});
afterAll(async () => {
  await db.close();
  await database.drop();
});

async function end(from: number, to: number, status: string, outcome: string | null): Promise<void> {
  await withClient(database.superuserUrl, async (client) => {
    await client.query(
      `UPDATE carillon.outbound_call_jobs SET status = $4, last_outcome = $5
       WHERE run_id = $1 AND seq BETWEEN $2 AND $3`,
      [run_id, from, to, status, outcome],
    );
  });
}

it('splits what has finished by outcome, as the run goes on over several pages', async () => {
  const reader = createOutcomeReader(db, business_id, run_id);
  expect([...(await reader.read())]).toEqual([]);
  await end(1, 600, 'completed', 'completed');
  // One that is still in its call, and some behind it that are over.
  await end(601, 601, 'in_progress', null);
  await end(602, 650, 'failed', 'busy');
  const expected = new Map([
    ['completed', 600],
    ['busy', 49],
  ]);
  expect(await reader.read()).toEqual(expected);
  // Nothing is counted twice.
  expect(await reader.read()).toEqual(expected);
  await end(601, 601, 'failed', 'no_answer');
  await end(651, LEADS, 'cancelled', null);
  expect(await reader.read()).toEqual(new Map([...expected, ['no_answer', 1], ['cancelled', 650]]));
});

it('counts no lead that may still be called, and has a name for every end', () => {
  expect(outcomeOf({ status: 'waiting', last_outcome: 'busy' })).toBeNull();
  expect(outcomeOf({ status: 'failed', last_outcome: 'rejected' })).toBe('rejected');
  expect(outcomeOf({ status: 'needs_review', last_outcome: 'unknown' })).toBe('needs_review');
  expect(outcomeOf({ status: 'failed', last_outcome: null })).toBe('failed');
});
