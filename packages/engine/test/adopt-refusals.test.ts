import { BusinessId } from '@carillon/contract';
import { escapeIdentifier } from 'pg';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { TestDatabase } from '../../../test/support/database.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { adopt, type AdoptOptions } from '../src/adopt/adopt.ts';
import { adoptOptions, sums } from './support/adoption.ts';
import { createFixture, createTenant, type Fixture } from './support/fixture.ts';
import { createOldDatabase } from '../../../test/support/old-database.ts';

const RUNS = 'CREATE TABLE outbound_call_runs (id integer, status text);';
const JOBS = 'CREATE TABLE outbound_call_jobs (id integer, run_id integer, lead_id integer, phone text, status text);';

let fixture: Fixture;
beforeAll(async () => void (fixture = await createFixture()));
afterAll(() => fixture.close());

async function oldOf(statements: string): Promise<TestDatabase> {
  const old = await createOldDatabase(statements);
  onTestFinished(() => old.drop());
  return old;
}

/** Refused with this code and sentence, in the rehearsal as well, and with nothing written. */
async function expectRefusal(
  old: Pick<TestDatabase, 'ownerUrl'>,
  code: string,
  sentence: RegExp,
  more: Partial<AdoptOptions> = {},
): Promise<void> {
  const before = await sums(fixture);
  for (const dry_run of [true, false]) {
    const options = adoptOptions(fixture, old as TestDatabase, { ...more, dry_run });
    await expect(adopt(fixture.db, options)).rejects.toMatchObject({ code, message: expect.stringMatching(sentence) });
  }
  expect(await sums(fixture)).toEqual(before);
}

function urlWith(change: (url: URL) => void): { ownerUrl: string } {
  const url = new URL(fixture.ownerUrl);
  change(url);
  return { ownerUrl: url.toString() };
}

describe('an older installation is refused, with a code and in words, when', () => {
  it('its address is none, or nobody answers there', async () => {
    await expectRefusal(
      { ownerUrl: 'mysql://old/crm' },
      'adopt_source_invalid',
      /postgres:\/\/user:password@host\/database/,
    );
    await expectRefusal({ ownerUrl: 'postgres://host:port/crm' }, 'adopt_source_invalid', /is not of the form/);
    await expectRefusal(
      urlWith((url) => void (url.port = '1')),
      'adopt_source_unreachable',
      /can't be reached: .*ECONNREFUSED/,
    );
  });

  it('the server knows no such login or database', async () => {
    await expectRefusal(
      urlWith((url) => void (url.password = 'wrong')),
      'adopt_source_login_refused',
      /refuses the login/,
    );
    await expectRefusal(
      urlWith((url) => void (url.pathname = '/no_such_crm')),
      'adopt_source_missing',
      /no_such_crm/,
    );
  });

  it('its tables are not there, or in another schema', async () => {
    const old = await oldOf(RUNS);
    await expectRefusal(old, 'adopt_tables_missing', /no table outbound_call_jobs in the schema public of .*--schema/);
    await expectRefusal(old, 'adopt_tables_missing', /no table outbound_call_runs and no table/, { schema: 'crm' });
  });

  it('they are Carillon’s own', async () => {
    const old = { ownerUrl: fixture.ownerUrl };
    await expectRefusal(old, 'adopt_own_tables', /Carillon's own tables/, { schema: 'carillon' });
  });

  it('the login may not read them, or row security hides rows from it', async () => {
    const old = await oldOf(`${RUNS}${JOBS} INSERT INTO outbound_call_runs VALUES (1, 'running');`);
    const stranger = { ownerUrl: old.appUrl };
    await expectRefusal(stranger, 'adopt_permission_denied', /may not read outbound_call_runs and outbound_call_jobs/);
    await withClient(old.ownerUrl, (client) =>
      client.query(`GRANT SELECT ON outbound_call_runs, outbound_call_jobs TO ${escapeIdentifier(old.logins.app)};
        ALTER TABLE outbound_call_jobs ENABLE ROW LEVEL SECURITY; CREATE POLICY none ON outbound_call_jobs USING (false)`),
    );
    await expectRefusal(
      stranger,
      'adopt_permission_denied',
      /or not all of their rows: .*row-level security.*BYPASSRLS/,
    );
  });

  it.each([
    [
      'runs without an id',
      `CREATE TABLE outbound_call_runs (status text);${JOBS}`,
      /outbound_call_runs has no column id or run_id/,
    ],
    [
      'jobs without a run',
      `${RUNS}CREATE TABLE outbound_call_jobs (id integer, phone text, status text)`,
      /no column run_id/,
    ],
    [
      'jobs without a status',
      `${RUNS}CREATE TABLE outbound_call_jobs (id integer, run_id integer, phone text)`,
      /no column status/,
    ],
    [
      'jobs of nobody',
      `${RUNS}CREATE TABLE outbound_call_jobs (id integer, run_id integer, status text)`,
      /whom a job calls/,
    ],
    [
      'ids that are no numbers',
      `CREATE TABLE outbound_call_runs (id uuid, status text);${JOBS}`,
      /of type uuid; .* must be integers/,
    ],
  ])('there are %s', async (_, statements, sentence) => {
    await expectRefusal(await oldOf(statements), 'adopt_columns', sentence);
  });

  it('there are no numbers in it, or ids that stand twice or are missing', async () => {
    const jobs = 'CREATE TABLE outbound_call_jobs (id integer, run_id integer, lead_id integer, status text);';
    await expectRefusal(await oldOf(`${RUNS}${jobs}`), 'adopt_no_numbers', /there is no table leads/);
    await expectRefusal(
      await oldOf(`${RUNS}${jobs} CREATE TABLE leads (id integer, name text)`),
      'adopt_no_numbers',
      /Neither outbound_call_jobs nor leads/,
    );
    await expectRefusal(
      await oldOf(`${RUNS}${JOBS} INSERT INTO outbound_call_jobs VALUES (1, 1, 1), (1, 1, 2)`),
      'adopt_ids_not_unique',
      /outbound_call_jobs has 2 rows and 1 different ids/,
    );
    await expectRefusal(
      await oldOf(`${RUNS}${JOBS} INSERT INTO outbound_call_runs VALUES (1), (NULL)`),
      'adopt_ids_not_unique',
      /outbound_call_runs has 2 rows and 1 different ids/,
    );
  });

  it('a business or an account is named that nobody has made, or a time zone or a country that is none', async () => {
    const old = await oldOf(`${RUNS}${JOBS}`);
    const business = BusinessId.parse(987_654);
    await expectRefusal(old, 'adopt_business_missing', /no business 987654/, { business });
    await expectRefusal(old, 'adopt_business_missing', /no business 987654/, {
      map_business: new Map([['7', business]]),
    });
    await expectRefusal(old, 'adopt_account_missing', /no carrier account 987654/, { carrier_account_id: 987_654 });
    await expectRefusal(old, 'invalid_request', /"Mars" is no time zone/, { time_zone: 'Mars' });
    await expectRefusal(old, 'invalid_request', /"ZZ" is no country/, { country: 'ZZ' });
  });
});

it('a business with several accounts must be told which one its runs get, and takes it up then', async () => {
  const own = await createFixture();
  onTestFinished(() => own.close());
  const tenant = await createTenant(own, { leads: 0 });
  const account = tenant.carrier_account_id;
  await own.rows(
    `WITH a AS (INSERT INTO carillon.carrier_accounts (business_id, name, driver, base_url, account_sid, auth_token_sealed,
         from_numbers) VALUES ($1, 'other', 'twilio', 'http://127.0.0.1:1', 'AC2', '\\x00', '{+97231110001}') RETURNING *)
     INSERT INTO carillon.lanes (business_id, carrier_account_id, concurrency_limit, calls_per_second)
     SELECT business_id, carrier_account_id, 1, 1 FROM a`,
    [tenant.business_id],
  );
  const old = await oldOf(`${RUNS}${JOBS} INSERT INTO outbound_call_runs VALUES (1, 'running');
    INSERT INTO outbound_call_jobs VALUES (1, 1, 1, '0501111111', 'queued')`);
  const more = { business: tenant.business_id };
  for (const dry_run of [true, false])
    await expect(adopt(own.db, adoptOptions(own, old, { ...more, dry_run }))).rejects.toMatchObject({
      code: 'adopt_account_missing',
      message: expect.stringMatching(/has 2 carrier accounts \(\d+, \d+\); .*--carrier-account/),
    });
  await adopt(own.db, adoptOptions(own, old, { ...more, carrier_account_id: account }));
  const runs = await own.rows('SELECT carrier_account_id::int AS account FROM carillon.outbound_call_runs');
  expect(runs).toEqual([{ account }]);
});

it('an old database that goes away while it is read is an interruption, and adopting again goes on', async () => {
  const own = await createFixture();
  onTestFinished(() => own.close());
  const old = await oldOf(`${RUNS}${JOBS} INSERT INTO outbound_call_runs VALUES (1, 'running');
    INSERT INTO outbound_call_jobs SELECT n, 1, n, '05' || (50000000 + n), 'queued' FROM generate_series(1, 100) n`);
  const limits = { adopt_batch_rows: 10 };
  let cut: Promise<unknown> | undefined;
  const broken = adopt(own.db, {
    ...adoptOptions(own, old, { limits }),
    onProgress({ doing, done }) {
      if (doing === 'jobs' && done === 30)
        cut = withClient(own.superuserUrl, (client) =>
          client.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'carillon adopt' AND datname = $1",
            [old.name],
          ),
        );
    },
  });
  await expect(broken).rejects.toMatchObject({
    code: 'adopt_source_lost',
    message: expect.stringMatching(/Adopt again/),
  });
  await cut;
  const report = await adopt(own.db, adoptOptions(own, old, { limits }));
  expect(report).toMatchObject({ ok: true, jobs: { read: 100, taken: 100 } });
});
