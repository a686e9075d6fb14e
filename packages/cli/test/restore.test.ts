import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import type { Run } from '@carillon/contract';
import { localActor, openDatabase, watchForRestore } from '@carillon/engine';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { until } from '../../../test/support/wait.ts';
import type { Environment } from '../src/config.ts';
import { carillon } from './support/cli.ts';

const FORGOTTEN = 'the database has forgotten which runs people stopped or paused after the moment';

let database: TestDatabase;
let dir: string;
let env: Environment;
let business: string;

beforeAll(async () => {
  database = await createTestDatabase();
  dir = await mkdtemp(path.join(os.tmpdir(), 'carillon-cli-'));
  env = { DATABASE_URL: database.appUrl, CARILLON_SECRET: Buffer.alloc(32, 1).toString('base64'), SIM_TOKEN: 'token' };
  business = String((await carillon(['business', 'create', 'A', '--json'], env)).json().business_id);
});
afterAll(async () => {
  await rm(dir, { recursive: true, force: true });
  await database.drop();
});

const ask = async (...args: string[]) => await carillon([...args, '--business', business, '--json'], env);

async function startRun(): Promise<number> {
  const csv = path.join(dir, 'leads.csv');
  await writeFile(csv, 'name,phone\nDana,0501234567\n');
  const account = ['--name', 'main', '--base-url', 'http://127.0.0.1:9', '--sid', 'AC1', '--from', '+97231110000'];
  await ask('account', 'create', ...account, '--token-env', 'SIM_TOKEN', '--lines', '1', '--rate', '1');
  await ask('leads', 'import', csv, '--list', 'people');
  return (await ask('runs', 'start', '--list', 'people')).json<Run>().run_id;
}

/** As an API or a worker does once a second. */
async function pauseRuns(): Promise<void> {
  const db = openDatabase({ app_url: database.appUrl });
  const watch = watchForRestore({
    db,
    witness_id: 'a worker',
    actor: localActor('test'),
    onNotice: () => {},
    onError: () => {},
  });
  await until(() => watch.suspected(), { deadline_ms: 30_000, what: 'the restore to be noticed' });
  await watch.close();
  await db.close();
}

it('restore acknowledge says which runs go on, that stops since the backup are forgotten, and can be asked again', async () => {
  const run_id = await startRun();
  const run = { business_id: Number(business), run_id };
  const unasked = await carillon(['restore', 'acknowledge', '--resume'], env);
  expect(unasked).toMatchObject({ code: 1, stderr: expect.stringContaining('[restore_not_suspected]') });

  await carillon(['restore', 'declare'], env);
  await pauseRuns();
  const status = await carillon(['restore', 'status'], env);
  expect(status.stdout).toMatch(new RegExp(`--resume":\\nBUSINESS +RUN\\n${business} +${run_id}\\n$`));
  expect(status.stderr).toContain(FORGOTTEN);

  // No worker asks the carrier here: by force, and its runs stay.
  const forced = await carillon(['restore', 'acknowledge', '--resume', '--force'], env);
  expect(forced.stdout).toBe('The installation goes on: 0 runs resumed.\n');
  expect(forced.stderr).toContain('1 run of those stay paused');
  await withClient(database.superuserUrl, (client) => client.query('UPDATE carillon.lanes SET restores_settled = 1'));
  const later = await carillon(['restore', 'status'], env);
  expect(later.stdout).toContain('is not suspected');
  expect(later.stdout).toContain(`${business}         ${run_id}`);

  const refused = await carillon(['restore', 'acknowledge'], env);
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('[restore_not_suspected]') });
  const resumed = await carillon(['restore', 'acknowledge', '--resume', '--json'], env);
  expect(resumed.json()).toMatchObject({ resumed_runs: [run], paused_runs: [] });
  expect(resumed.stderr).toContain(FORGOTTEN);
  const again = await carillon(['restore', 'acknowledge', '--resume', '--json'], env);
  expect(again.json()).toMatchObject({ resumed_runs: [] });
  expect(again.stderr).not.toContain(FORGOTTEN);
});
