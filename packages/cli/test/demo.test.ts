import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { authenticate, type Database, listCarrierAccounts, openDatabase } from '@carillon/engine';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { ensureAccount, openDemo } from '../src/demo/campaign.ts';
import { type DemoFiles, demoFiles } from '../src/demo/state.ts';

let database: TestDatabase;
let db: Database;
let dir: string;
let files: DemoFiles;

beforeAll(async () => {
  database = await createTestDatabase();
  db = openDatabase({ app_url: database.appUrl });
});
afterAll(async () => {
  await db.close();
  await database.drop();
});
beforeEach(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'carillon-demo-'));
  files = demoFiles(dir, undefined);
});
afterEach(async () => await rm(dir, { recursive: true, force: true }));

describe('the demo business', () => {
  it('is made once, with a key for its owner’s eyes only', async () => {
    const { state } = await openDemo(db, files);
    expect(await authenticate(db, state.key)).toMatchObject({
      principal: { business_id: state.business_id, role: 'owner' },
    });
    expect((await stat(files.state)).mode & 0o777).toBe(0o600);
    expect((await openDemo(db, files)).state).toEqual(state);
  });

  it('is made anew where its database is another one, and the old carrier’s calls are put aside', async () => {
    const first = await openDemo(db, files);
    await writeFile(files.ledger, 'calls of before\n');
    const state = JSON.parse(await readFile(files.state, 'utf8')) as { key: string };
    await writeFile(
      files.state,
      JSON.stringify({ ...state, key: state.key.replace(/.$/, (last) => (last === 'x' ? 'y' : 'x')) }),
    );
    const second = await openDemo(db, files);
    expect(second.state.business_id).not.toBe(first.state.business_id);
    expect(await readFile(`${files.ledger}.old`, 'utf8')).toBe('calls of before\n');
  });

  it('says what to do when its file is damaged, and does not make another behind it', async () => {
    await writeFile(files.state, '{"business_id": 1');
    await expect(openDemo(db, files)).rejects.toMatchObject({
      code: 'demo_unreadable',
      message: expect.stringContaining(files.state),
    });
  });

  it('has one carrier account, also when a kill came before that was noted down', async () => {
    const demo = await openDemo(db, files);
    const secret = Buffer.alloc(32, 1);
    const before = demo.state;
    await ensureAccount(db, demo, 'http://127.0.0.1:1', secret);
    const { carrier_account_id } = demo.state;
    await demo.save({ ...before, carrier_account_id: undefined });
    await ensureAccount(db, demo, 'http://127.0.0.1:1', secret);
    expect(demo.state.carrier_account_id).toBe(carrier_account_id);
    const { items } = await listCarrierAccounts(db, demo.state.business_id, { limit: 10 });
    expect(items).toHaveLength(1);
  });
});

it('keeps the demos of different databases apart', () => {
  const one = demoFiles(dir, 'postgres://app:x@db:5432/one');
  expect(demoFiles(dir, 'postgres://other:y@db:5432/one')).toEqual(one);
  const all = [
    one,
    files,
    demoFiles(dir, 'postgres://app:x@db:5432/two'),
    demoFiles(dir, 'postgres://app:x@db:5433/one'),
  ];
  expect(new Set(all.flatMap(({ state, ledger }) => [state, ledger])).size).toBe(8);
});
