import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { CarrierAccount, ImportReport, Run, StoppedRun } from '@carillon/contract';
import { authenticate, openDatabase } from '@carillon/engine';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { until } from '../../../test/support/wait.ts';
import { withClient } from '../../../test/support/test-server.ts';
import type { Environment } from '../src/config.ts';
import { carillon } from './support/cli.ts';

const CSV = `שם,טלפון,עיר
דנה כהן,050-1234567,חיפה
יוסי לוי,0521234568,אילת
דנה כהן,0501234567,חיפה
בלי מספר,,צפת
`;

let database: TestDatabase;
let dir: string;
let env: Environment;
let business: string;
let key: string;

beforeAll(async () => {
  database = await createTestDatabase();
  dir = await mkdtemp(path.join(os.tmpdir(), 'carillon-cli-'));
  await writeFile(path.join(dir, 'leads.csv'), CSV);
  env = {
    DATABASE_URL: database.appUrl,
    CARILLON_SECRET: Buffer.alloc(32, 1).toString('base64'),
    SIM_TOKEN: 'a token',
  };
  const made = (await carillon(['business', 'create', 'בדיקה', '--json'], env)).json<{
    business_id: number;
    key: string;
  }>();
  business = String(made.business_id);
  key = made.key;
});
afterAll(async () => {
  await rm(dir, { recursive: true, force: true });
  await database.drop();
});

/** With --business and --json. */
const ask = async (...args: string[]) => await carillon([...args, '--business', business, '--json'], env);
const file = (name: string) => path.join(dir, name);

async function roleOf(api_key: string): Promise<string | undefined> {
  const db = openDatabase({ app_url: database.appUrl });
  const { principal } = await authenticate(db, api_key).finally(() => db.close());
  return principal?.role;
}

describe('business and key', () => {
  it('give keys that open the door, in their role', async () => {
    expect(await roleOf(key)).toBe('owner');
    const agent = (await ask('key', 'create', '--role', 'agent')).json<{ key: string }>();
    expect(Object.keys(agent)).toEqual(['key']);
    expect(await roleOf(agent.key)).toBe('agent');
  });

  it('are listed without secrets, and open nothing once revoked', async () => {
    const agent = (await ask('key', 'create', '--role', 'agent', '--label', 'shop')).json<{ key: string }>().key;
    const [, , key_id = ''] = agent.split('_');
    const { stdout } = await carillon(['key', 'list', '--business', business], env);
    expect(stdout).toMatch(new RegExp(`\\n${key_id} +agent +valid .*never +shop`));
    expect(stdout).not.toContain(agent.slice(-32));
    expect((await ask('key', 'revoke', key_id)).json()).toMatchObject({ key_id: Number(key_id), state: 'revoked' });
    expect(await roleOf(agent)).toBeUndefined();
    const [, , own_id = ''] = key.split('_');
    expect(await ask('key', 'revoke', own_id)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('[last_owner_key]'),
    });
  });

  it('know system administrators, who have no business', async () => {
    const made = await carillon(['key', 'create', '--role', 'system_admin', '--json'], env);
    const system = made.json<{ key: string }>().key;
    expect(system).toMatch(/^ck_system_\d+_[A-Za-z0-9_-]{32}$/);
    const [, , key_id = ''] = system.split('_');
    const listed = await carillon(['key', 'list', '--json'], env);
    expect(listed.json()).toMatchObject({ items: [{ key_id: Number(key_id), state: 'valid' }], next: null });
    expect(listed.stdout).not.toContain(system.slice(-32));
    const revoked = await carillon(['key', 'revoke', key_id, '--json'], env);
    expect(revoked.json()).toMatchObject({ state: 'revoked' });
    const again = await carillon(['key', 'revoke', '987654'], env);
    expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining('[key_not_found]') });
    for (const wrong of [
      ['--role', 'system_admin', '--business', business],
      ['--role', 'agent'],
    ])
      expect(await carillon(['key', 'create', ...wrong], env)).toMatchObject({
        code: 2,
        stderr: expect.stringContaining('[wrong_use]'),
      });
  });

  it('tell a person the key as well', async () => {
    const { stdout, code } = await carillon(['business', 'create', 'Another'], env);
    expect(code).toBe(0);
    expect(stdout).toMatch(/Created business \d+\./);
    expect(stdout).toMatch(/shown only now: ck_\d+_\d+_/);
  });

  it('refuse a role that is none, and a business that is none', async () => {
    expect(await ask('key', 'create', '--role', 'king')).toMatchObject({ code: 2, stdout: '' });
    const { code, stderr } = await carillon(
      ['key', 'create', '--role', 'agent', '--business', '999999', '--json'],
      env,
    );
    expect(code).toBe(1);
    expect(stderr).toMatch(/^carillon: .*no business 999999.* \[invalid_request\]\n$/);
  });
});

describe('account', () => {
  const create = ['account', 'create', '--base-url', 'http://127.0.0.1:9', '--sid', 'AC1', '--from', '+97231110000'];

  it('is created with the token from the environment, and listed without it', async () => {
    const made = await ask(
      ...create,
      '--token-env',
      'SIM_TOKEN',
      '--from',
      '+97231110001',
      '--lines',
      '7',
      '--rate',
      '2.5',
    );
    expect(CarrierAccount.parse(made.json())).toMatchObject({
      name: 'AC1',
      driver: 'twilio',
      from_numbers: ['+97231110000', '+97231110001'],
      concurrency_limit: 7,
      calls_per_second: 2.5,
    });
    const listed = await ask('account', 'list');
    expect(listed.json<{ items: unknown[] }>().items).toEqual([made.json()]);
    expect(listed.stdout + made.stdout).not.toContain('a token');
  });

  it.each([
    [['--token-env', 'NOWHERE'], 2, 'The variable NOWHERE is not set'],
    [
      ['--token-env', 'SIM_TOKEN', '--client-validation', '/nowhere.json'],
      2,
      '/nowhere.json can not be read as JSON (ENOENT)',
    ],
    [['--token-env', 'SIM_TOKEN', '--client-validation', import.meta.filename], 2, 'it is not JSON'],
    [['--token-env', 'SIM_TOKEN', '--driver', 'pigeon'], 1, 'No carrier driver is called "pigeon"; known: twilio'],
    [['--token-env', 'SIM_TOKEN', '--driver', 'canary'], 1, 'No carrier driver is called "canary"; known: twilio'],
    [['--token-env', 'SIM_TOKEN', '--base-url', 'ftp://x'], 2, 'base_url'],
    [['--token-env', 'SIM_TOKEN', '--from', '0501234567'], 2, 'an E.164 number'],
  ])('%j is refused', async (args, code, why) => {
    const refused = await ask(...create, ...args);
    expect(refused).toMatchObject({ code, stdout: '' });
    expect(refused.stderr).toContain(why);
  });
});

describe('leads import', () => {
  it('makes the list, reports every line, and finds the list again by its name', async () => {
    const first = ImportReport.parse((await ask('leads', 'import', file('leads.csv'), '--list', 'חדש')).json());
    expect(first).toMatchObject({ lines: 4, accepted: 2, duplicates: 1, rejected: 1 });
    const again = ImportReport.parse((await ask('leads', 'import', file('leads.csv'), '--list', 'חדש')).json());
    expect(again).toMatchObject({ list_id: first.list_id, lines: 4, accepted: 0, duplicates: 3, rejected: 1 });
  });

  it('writes the lines that were not accepted, and says so', async () => {
    const target = file('rejected.csv');
    const args = [
      'leads',
      'import',
      file('leads.csv'),
      '--list',
      'with a report',
      '--report',
      target,
      '--business',
      business,
    ];
    const { code, stdout } = await carillon(args, env);
    expect(code).toBe(0);
    expect(stdout).toContain('4 lines: 2 accepted, 1 duplicates, 1 rejected');
    expect(stdout).toMatch(
      /Read as CSV, utf-8; the numbers from "\S+"\n +1 × empty: there is no number\n +1 × repeated/,
    );
    const lines = (await readFile(target, 'utf8')).trim().split('\n');
    expect(lines).toHaveLength(3);
    expect(lines.at(-1)).toContain('rejected');
  });

  it('refuses what is no list of leads, in words', async () => {
    await writeFile(file('empty.csv'), '');
    await writeFile(file('binary.csv'), Buffer.from('\xef\xbb\xbfphone\n\x80\x81', 'latin1'));
    await writeFile(file('unclear.csv'), Buffer.from('phone\n\xc0\xfb\xff\n', 'latin1'));
    await writeFile(file('cities.csv'), 'city,country\nHaifa,IL\n');
    const refuse = async (name: string) => {
      const { code, stdout, stderr } = await ask('leads', 'import', file(name), '--list', 'x');
      expect([code, stdout]).toEqual([1, '']);
      return stderr;
    };
    expect(await refuse('nowhere.csv')).toMatch(/There is no file .*nowhere\.csv \[file_not_found\]/);
    expect(await refuse('empty.csv')).toMatch(/empty\.csv is empty; .* \[import_file_empty\]/);
    expect(await refuse('.')).toMatch(/is a directory; name the file in it \[file_is_directory\]/);
    expect(await refuse('binary.csv')).toMatch(/binary\.csv is not UTF-8 text .* \[import_not_text\]/);
    expect(await refuse('unclear.csv')).toMatch(/or name it with --encoding ENCODING .* \[import_encoding_unknown\]/);
    expect(await refuse('cities.csv')).toMatch(
      /cities\.csv: .*city, country.*--phone COLUMN \[import_no_phone_column\]/,
    );
  });

  it('takes the phone column by name where it is not recognised', async () => {
    await writeFile(file('odd.csv'), 'who,call them at\nDana,+972501112233\n');
    const report = await ask(
      'leads',
      'import',
      file('odd.csv'),
      '--list',
      'odd',
      '--phone',
      'call them at',
      '--name',
      'who',
    );
    expect(report.json()).toMatchObject({ accepted: 1 });
  });

  it('is told an encoding, and where the consents stand', async () => {
    await writeFile(file('consents.csv'), Buffer.from('phone,ok from,when\n0501112244,\xe4,2026-01-31\n', 'latin1'));
    const columns = ['--consent-source', 'ok from', '--consent-at', 'when', '--encoding', 'windows-1255'];
    const report = await ask('leads', 'import', file('consents.csv'), '--list', 'consents', ...columns);
    expect(report.json()).toMatchObject({
      accepted: 1,
      file: { encoding: 'windows-1255', columns: { consent: ['ok from', 'when'] } },
    });
    const refused = await ask('leads', 'import', file('consents.csv'), '--list', 'x', '--encoding', 'ebcdic');
    expect(refused).toMatchObject({ code: 2, stdout: '' });
  });
});

describe('runs', () => {
  const start = async (...args: string[]) => await ask('runs', 'start', '--list', 'חדש', ...args);

  it('start by the list’s name or number, once for each idempotency key', async () => {
    const created = Run.parse((await start('--name', 'ראשון', '--idempotency-key', 'k1')).json());
    expect(created).toMatchObject({ name: 'ראשון', status: 'pending', total_leads: 2, queued: 2, created_by: 'cli' });
    const same = Run.parse((await start('--name', 'ראשון', '--idempotency-key', 'k1')).json());
    expect(same.run_id).toBe(created.run_id);
    const other = await start('--name', 'אחר', '--idempotency-key', 'k1');
    expect([other.code, other.stderr]).toEqual([1, expect.stringContaining('[idempotency_conflict]')]);
    const byNumber = await ask('runs', 'start', '--list', String(created.list_id), '--draft');
    expect(Run.parse(byNumber.json()).status).toBe('draft');
  });

  it('show, list, pause, resume and stop', async () => {
    const { run_id } = Run.parse((await start()).json());
    const run = String(run_id);
    expect(Run.parse((await ask('runs', 'show', run)).json()).run_id).toBe(run_id);
    const { items } = (await ask('runs', 'list')).json<{ items: Run[]; next: string | null }>();
    expect(items[0]?.run_id).toBe(run_id);
    expect(StoppedRun.parse((await ask('runs', 'pause', run)).json())).toMatchObject({
      status: 'paused',
      in_flight: 0,
    });
    expect(Run.parse((await ask('runs', 'resume', run)).json()).status).toBe('pending');
    expect(StoppedRun.parse((await ask('runs', 'stop', run, '--hang-up')).json())).toMatchObject({
      status: 'cancelled',
      cancelled: 2,
      in_flight: 0,
    });
    const again = await ask('runs', 'resume', run);
    expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('[run_state_conflict]')]);
  });

  it('tell people the same in words', async () => {
    const { run_id } = Run.parse((await start()).json());
    const tell = async (...args: string[]) => (await carillon([...args, '--business', business], env)).stdout;
    expect(await tell('runs', 'list')).toMatch(new RegExp(`${run_id}\\s+pending\\s+0\\s+2`));
    expect(await tell('runs', 'show', String(run_id))).toMatch(/status\s+pending\nwaiting for\s+waiting for a worker/);
    expect(await tell('runs', 'stop', String(run_id))).toBe(`Run ${run_id} is cancelled. No call is live.\n`);
    // Watching a run that is over shows its end at once.
    const watched = await carillon(['runs', 'watch', String(run_id), '--business', business], env);
    expect(watched).toMatchObject({ code: 1, stdout: `Run ${run_id} cancelled: 2 leads, cancelled 2.\n` });
  });

  it('of another business are not there', async () => {
    const { run_id } = Run.parse((await start()).json());
    const made = (await carillon(['business', 'create', 'Stranger', '--json'], env)).json<{ business_id: number }>();
    for (const verb of ['show', 'pause', 'resume', 'stop', 'watch']) {
      const args = ['runs', verb, String(run_id), '--business', String(made.business_id), '--json'];
      expect(await carillon(args, env)).toMatchObject({
        code: 1,
        stdout: '',
        stderr: expect.stringContaining('[run_not_found]'),
      });
    }
  });

  it.each([
    [['--leads', '1'], 'cannot be used with'],
    [['--policy', '{'], '--policy is no JSON'],
    [['--policy', '{"retry":{"busy":{"times":99,"after_s":1}}}'], 'policy.retry.busy.times'],
    [['--starts-at', 'tomorrow'], 'starts_at'],
    [['--concurrency', '0'], 'a whole number from 1'],
  ])('%j is wrong use', async (args, why) => {
    const refused = await start(...args);
    expect(refused).toMatchObject({ code: 2, stdout: '' });
    expect(refused.stderr).toContain(why);
  });

  it('need to be told what to call, from what there is', async () => {
    expect(await ask('runs', 'start')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--list LIST, --leads IDS or --from-run RUN'),
    });
    expect(await ask('runs', 'start', '--list', 'nowhere')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('[list_not_found]'),
    });
  });
});

describe('migrate', () => {
  it('says what is applied, applies what is not, and gives the logins their access', async () => {
    const fresh = await createTestDatabase({ migrated: false });
    const owner = { DATABASE_URL: fresh.appUrl, CARILLON_OWNER_DATABASE_URL: fresh.ownerUrl };
    try {
      const before = (await carillon(['migrate', '--status', '--json'], owner)).json<Status>();
      expect([before.schema_version, before.applied]).toEqual([0, []]);
      const tooEarly = await carillon(['business', 'create', 'x'], { ...env, DATABASE_URL: fresh.appUrl });
      expect(tooEarly).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('run "carillon migrate" first [schema_missing]'),
      });
      const done = (await carillon(['migrate', '--json'], owner)).json<{
        applied: unknown[];
        schema_version: number;
      }>();
      expect(done.applied).toHaveLength(before.pending.length);
      const after = (await carillon(['migrate', '--status', '--json'], owner)).json<Status>();
      expect(after).toMatchObject({ schema_version: before.code_version, pending: [] });
      const again = await carillon(['migrate'], owner);
      expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining('nothing to apply') });
      expect(await carillon(['business', 'create', 'x'], { DATABASE_URL: fresh.appUrl })).toMatchObject({ code: 0 });
    } finally {
      await fresh.drop();
    }
  });

  it('needs the owner’s login', async () => {
    expect(await carillon(['migrate'], { DATABASE_URL: database.appUrl })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('CARILLON_OWNER_DATABASE_URL is not set'),
    });
  });
});

interface Status {
  schema_version: number;
  code_version: number;
  applied: unknown[];
  pending: unknown[];
}

describe('every command', () => {
  it('refuses a login that row security does not hold', async () => {
    const refused = await carillon(['business', 'create', 'x'], { DATABASE_URL: database.ownerUrl });
    expect(refused).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(/^carillon: .+ \[login_too_strong\]\n$/),
    });
  });

  it('says that the database can not be reached', async () => {
    const { code, stderr } = await carillon(['business', 'create', 'x'], {
      DATABASE_URL: 'postgres://a:b@127.0.0.1:1/x',
    });
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/^carillon: The database can't be reached: .* \[database_unavailable\]\n$/),
    ]);
  });

  it.each([
    [['strat'], "Unknown command 'strat' (Did you mean start?)"],
    [['runs', 'shwo', '1'], "Unknown command 'shwo' (Did you mean show?)"],
    [['migrate', '--jsn'], "Unknown option '--jsn' (Did you mean --json?)"],
    [['leads', 'import', '--business', '1', '--list', 'x'], "Missing required argument 'file'"],
    [['runs', 'show', 'x', '--business', '1'], 'Expected the number of a run'],
    [['runs', 'show', '1', '--business', '-1'], 'Expected the number of a business'],
    [['start', '--port', 'x'], '--port is "x": expected a whole number'],
  ])('ends with 2 for wrong use: %j', async (args, why) => {
    const { code, stdout, stderr } = await carillon(args);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain(why);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });

  it('shows its help on standard output, the environment included', async () => {
    const help = await carillon(['--help']);
    expect(help).toMatchObject({ code: 0, stderr: '' });
    expect(help.stdout).toContain('CARILLON_LEASE_TTL_MS (ms; default: 30000)');
    expect(await carillon(['runs', 'start', '--help'])).toMatchObject({ code: 0, stderr: '' });
    expect(await carillon([])).toMatchObject({ code: 2, stdout: '' });
  });

  it('shows a stack only to whoever debugs', async () => {
    const wrong = { DATABASE_URL: 'postgres://a:b@127.0.0.1:1/x' };
    expect((await carillon(['business', 'create', 'x'], wrong)).stderr).not.toContain(' at ');
    expect((await carillon(['business', 'create', 'x'], { ...wrong, CARILLON_LOG_LEVEL: 'debug' })).stderr).toContain(
      ' at ',
    );
  });

  it('leaves no connection behind', async () => {
    const none = await withClient(database.superuserUrl, async (client) => {
      const open = async () => {
        const { rows } = await client.query<{ open: number }>(
          `SELECT count(*)::int AS open FROM pg_stat_activity
           WHERE datname = current_database() AND application_name LIKE 'carillon%'`,
        );
        return rows[0]?.open;
      };
      // The server lets go of a connection a moment after the client has.
      return await until(async () => (await open()) === 0, { deadline_ms: 30_000, what: 'every connection closed' });
    });
    expect(none).toBe(true);
  });
});
