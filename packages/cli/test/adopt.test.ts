import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import type { AuditReport } from '@carillon/auditor';
import type { AdoptReport } from '@carillon/engine';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { createOldDatabase, crowdedInstallation, oldChecksum } from '../../../test/support/old-database.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { until } from '../../../test/support/wait.ts';
import type { Environment } from '../src/config.ts';
import { carillon, start } from './support/cli.ts';

let old: TestDatabase;
let database: TestDatabase;
let env: Environment;
beforeAll(async () => {
  old = await createOldDatabase(crowdedInstallation({ jobs: 6_000, runs: 10 }));
  database = await createTestDatabase();
  env = { DATABASE_URL: database.appUrl, CARILLON_SECRET: Buffer.alloc(32, 1).toString('base64') };
});
afterAll(async () => {
  await database.drop();
  await old.drop();
});

const adopt = (...args: string[]) => carillon(['adopt', '--from', old.ownerUrl, ...args], env);

describe('carillon adopt', () => {
  it('says in a dry run what would happen, in words, and writes nothing', async () => {
    const { code, stdout, stderr } = await adopt('--dry-run');
    expect(stderr).toMatch(/businesses are made for it, without keys and carrier accounts/);
    expect(code).toBe(0);
    expect(stdout).toMatch(/Old business 1 -> a new business\n/);
    expect(stdout).toMatch(/^6,000 jobs: [\d,]+ taken over, [\d,]+ kept in the archive$/m);
    expect(stdout).toMatch(
      /duplicate +\d+ +another row of the same run and lead got further, or came first +\(jobs [\d, ]+ …\)/,
    );
    expect(stdout).toMatch(/Every old row is accounted for\. Nothing was written\.\n$/);
    const there = await withClient(database.superuserUrl, (client) => client.query('SELECT FROM carillon.businesses'));
    expect(there.rowCount).toBe(0);
  });

  it('killed in the middle of a transaction and run again does what it would have done, and the audit is clean', async () => {
    const rehearsed = (await adopt('--dry-run', '--json')).json<AdoptReport>();
    const before = await oldChecksum(old);
    await withClient(database.superuserUrl, async (client) => {
      await client.query('BEGIN; LOCK TABLE carillon.adopted_rows IN SHARE MODE');
      const running = start(['adopt', '--from', old.ownerUrl, '--json'], env);
      onTestFinished(() => void running.child.kill('SIGKILL'));
      const waits = () =>
        withClient(database.superuserUrl, async (other) => {
          const { rows } = await other.query(
            `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
               AND query ~ 'INSERT INTO carillon.adopted_rows'`,
          );
          return rows.length > 0;
        });
      await until(waits, { deadline_ms: 60_000, what: 'the adoption writes its archive' });
      const second = await adopt('--json');
      expect(second).toMatchObject({ code: 1, stdout: '' });
      expect(second.stderr).toMatch(
        /^carillon: Another adoption into this database is under way.*\[adopt_in_progress\]\n$/,
      );
      running.child.kill('SIGKILL');
      expect((await running.ended).signal).toBe('SIGKILL');
      await client.query('ROLLBACK');
    });
    const dir = await mkdtemp(path.join(os.tmpdir(), 'carillon-adopt-'));
    onTestFinished(() => rm(dir, { recursive: true, force: true }));
    const file = path.join(dir, 'report.json');
    const done = await adopt('--json', '--report', file);
    expect(done.code).toBe(0);
    const report = done.json<AdoptReport>();
    expect({ ...report, dry_run: true, businesses: 0 }).toEqual({ ...rehearsed, businesses: 0 });
    expect(JSON.parse(await readFile(file, 'utf8'))).toEqual(report);
    expect(await oldChecksum(old)).toBe(before);

    const audit = await carillon(['audit', '--no-carrier', '--json'], env);
    const judged = audit.json<AuditReport>();
    expect(judged.violations).toEqual([]);
    expect(judged).toMatchObject({ ok: true, checked: { runs: 10, jobs: report.jobs.taken } });
    expect(audit.code).toBe(0);

    const again = await adopt('--json');
    expect(again.json<AdoptReport>()).toEqual({ ...report, nothing_new: true });
    expect((await adopt()).stdout).toMatch(/Every old row is accounted for\. Nothing was left to be done\.\n$/);
  }, 180_000);

  it('is not clean any more for the auditor where an adopted job says what it was not adopted as', async () => {
    const alter = (sql: string) => withClient(database.superuserUrl, (client) => client.query(sql));
    const job = `(business_id, run_id, seq) = (SELECT business_id, run_id, seq FROM carillon.outbound_call_jobs
      WHERE status = 'completed' ORDER BY 1, 2, 3 LIMIT 1)`;
    await alter(`UPDATE carillon.adopted_jobs SET status = 'failed' WHERE ${job}`);
    const audit = await carillon(['audit', '--no-carrier', '--json'], env);
    expect(audit.json<AuditReport>().violations).toMatchObject([
      { invariant: 3, what: expect.stringMatching(/is completed, and no attempt was made for it/) },
    ]);
    expect(audit.code).toBe(1);
    await alter(`UPDATE carillon.adopted_jobs SET status = 'completed' WHERE ${job}`);
  });

  it('refuses wrong use, and an old database that it can not read, in one sentence with a code', async () => {
    for (const [args, code, sentence] of [
      [['--map-business', '7'], 2, /Expected old=new, such as 7=1.*\[wrong_use\]/],
      [['--map-business', '7=1', '--map-business', '7=2'], 2, /Old business 7 is given twice.*\[wrong_use\]/],
      [['--language', 'Hebrew'], 2, /--say needs.*\[invalid_answer\]/],
      [['--schema', 'crm'], 1, /no table outbound_call_runs .*--schema.*\[adopt_tables_missing\]/],
      [['--business', '999'], 1, /no business 999.*\[adopt_business_missing\]/],
    ] as const) {
      const refused = await adopt('--json', ...args);
      expect(refused).toMatchObject({ code, stdout: '' });
      expect(refused.stderr).toMatch(sentence);
      expect(refused.stderr.trimEnd().split('\n')).toHaveLength(1);
    }
    const elsewhere = await carillon(['adopt', '--from', 'mysql://crm', '--json'], env);
    expect(elsewhere).toMatchObject({ code: 2, stderr: expect.stringMatching(/\[adopt_source_invalid\]\n$/) });
    expect((await carillon(['adopt', '--json'], env)).code).toBe(2);
  });
});
