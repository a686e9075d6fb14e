import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Run } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { until } from '../../../test/support/wait.ts';
import type { Environment } from '../src/config.ts';
import { carillon, start } from './support/cli.ts';

const LEADS = 20_000;
let database: TestDatabase;
let dir: string;
let env: Environment;
let business: string;
let run_id: string;

const ask = async (...args: string[]) => await carillon([...args, '--business', business, '--json'], env);

beforeAll(async () => {
  database = await createTestDatabase();
  dir = await mkdtemp(path.join(os.tmpdir(), 'carillon-cli-'));
  const lines = Array.from({ length: LEADS }, (_, n) => `05${20_000_000 + n},${n === 0 ? '=1+1' : `דנה ${n}`}`);
  await writeFile(path.join(dir, 'leads.csv'), ['phone,name', ...lines].join('\n'));
  env = {
    DATABASE_URL: database.appUrl,
    CARILLON_SECRET: Buffer.alloc(32, 1).toString('base64'),
    SIM_TOKEN: 'a token',
  };
  const made = (await carillon(['business', 'create', 'בדיקה', '--json'], env)).json<{ business_id: number }>();
  business = String(made.business_id);
  const account = [
    '--sid',
    'AC1',
    '--token-env',
    'SIM_TOKEN',
    '--from',
    '+97231110000',
    '--base-url',
    'http://127.0.0.1:1',
  ];
  await ask('account', 'create', ...account);
  await ask('leads', 'import', path.join(dir, 'leads.csv'), '--list', 'all');
  run_id = String(Run.parse((await ask('runs', 'start', '--list', 'all')).json()).run_id);
}, 120_000);
afterAll(async () => {
  await rm(dir, { recursive: true, force: true });
  await database.drop();
});

describe('runs export', () => {
  const exported = (...more: string[]) => carillon(['runs', 'export', run_id, '--business', business, ...more], env);

  it('writes the whole run and nothing else to standard output', async () => {
    const { code, stdout, stderr } = await exported();
    expect([code, stderr]).toEqual([0, '']);
    const lines = stdout.split('\r\n');
    expect(lines[0]?.slice(0, 14)).toBe('\uFEFFseq,lead_id,p');
    expect(lines).toHaveLength(1 + LEADS + 1);
    expect(lines[1]).toContain(",'=1+1,");
    expect(lines[2]).toContain(",'+972520000001,דנה 1,");
    expect((await exported('--lang', 'he')).stdout.slice(1, 6)).toBe('מספר,');
  });

  it('is refused in words on standard error, with nothing on standard output', async () => {
    const none = await carillon(['runs', 'export', '999999', '--business', business], env);
    expect(none).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('[run_not_found]') });
    expect(await exported('--rows', 'x')).toMatchObject({ code: 2, stdout: '' });
  });

  it('ends when its reader leaves', { timeout: 120_000 }, async () => {
    const { child, ended } = start(['runs', 'export', run_id, '--business', business], env);
    let read = 0;
    child.stdout?.on('data', (data: Buffer | string) => (read += data.length));
    await until(() => read > 0, { deadline_ms: 60_000, what: 'the first lines' });
    child.stdout?.destroy();
    expect((await ended).code).not.toBe(0);
    expect(read).toBeLessThan(LEADS * 40);
  });
});

describe('runs start --from-run', () => {
  it('takes up the unreached of an earlier run', async () => {
    await ask('runs', 'stop', run_id);
    const next = Run.parse((await ask('runs', 'start', '--from-run', run_id, '--outcomes', 'cancelled')).json());
    expect(next).toMatchObject({ from_run_id: Number(run_id), total_leads: LEADS, list_id: null });
    expect(await ask('runs', 'start', '--from-run', run_id, '--outcomes', 'busy')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('[follow_up_empty]'),
    });
    expect(await ask('runs', 'start', '--from-run', run_id, '--outcomes', 'nonsense')).toMatchObject({ code: 2 });
    expect(await ask('runs', 'start', '--from-run', run_id, '--list', 'all')).toMatchObject({ code: 2 });
  });
});
