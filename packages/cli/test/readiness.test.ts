import { randomBytes } from 'node:crypto';
import { type ReadinessReport, READINESS_POINTS } from '@carillon/contract';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createTestDatabase } from '../../../test/support/database.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { carillon } from './support/cli.ts';

async function createEnv(options: { migrated?: boolean } = {}) {
  const database = await createTestDatabase(options);
  onTestFinished(() => database.drop());
  const env = {
    DATABASE_URL: database.appUrl,
    CARILLON_SECRET: randomBytes(32).toString('base64'),
    CARILLON_LEASE_TTL_MS: '500',
  };
  return { database, env };
}

describe('carillon readiness', () => {
  it('tells people of each point in a line, and of what failed at the end', async () => {
    const { env } = await createEnv();
    const { code, stdout, stderr } = await carillon(['readiness'], env);
    expect(code).toBe(1);
    expect(stderr).toBe('');
    const lines = stdout.trimEnd().split('\n');
    for (const point of READINESS_POINTS)
      expect(
        lines.filter((line) => new RegExp(`^ {2}(ok|FAIL) +${point} `).test(line)),
        point,
      ).toHaveLength(1);
    expect(stdout).toMatch(/^ {2}FAIL +reclaim .*no worker is alive$/m);
    expect(stdout).toMatch(/^ {2}ok +isolation .*On each of \d+ tables/m);
    expect(lines.at(-1)).toMatch(/^Not ready: reclaim, workers, durability \(/);
  }, 60_000);

  it('tells programs in one object, also of a database that is not migrated', async () => {
    const { env, database } = await createEnv({ migrated: false });
    const { code, json } = await carillon(['readiness', '--json'], env);
    expect(code).toBe(1);
    const report = json<ReadinessReport>();
    expect(report).toMatchObject({ ok: false, scope: 'installation' });
    expect(report.points.map(({ point, ok }) => [point, ok])).toEqual(READINESS_POINTS.map((point) => [point, false]));
    expect(report.points[0]?.sentence).toMatch(/holds no tables of Carillon yet; run "carillon migrate"/);
    expect(report.points[2]?.sentence).toMatch(/^It could not be proven: a canary could not be made/);
    // It has refused nothing, and it has made nothing either.
    const { rowCount } = await withClient(database.superuserUrl, (client) =>
      client.query("SELECT FROM pg_namespace WHERE nspname = 'carillon'"),
    );
    expect(rowCount).toBe(0);
  }, 60_000);

  it('takes no longer than it may, and what is not proven by then is not ok', async () => {
    const { env } = await createEnv();
    const slow = { ...env, CARILLON_LEASE_TTL_MS: '60000', CARILLON_IDLE_IN_TRANSACTION_TIMEOUT_MS: '1000' };
    const { code, json } = await carillon(['readiness', '--json', '--timeout', '5'], slow);
    expect(code).toBe(1);
    const report = json<ReadinessReport>();
    expect(report.took_ms).toBeLessThan(20_000);
    expect(report.points.find(({ point }) => point === 'reclaim')?.ok).toBe(false);
  }, 60_000);

  it.each([
    ['a database that is not there', ['readiness'], 'postgres://u:p@127.0.0.1:1/x', 1, 'database_unavailable'],
    ['a time that is none', ['readiness', '--timeout', '1'], 'postgres://u:p@127.0.0.1:1/x', 2, 'wrong_use'],
  ])('says in one sentence what is wrong with %s', async (_, args, DATABASE_URL, code, error) => {
    const env = { DATABASE_URL, CARILLON_SECRET: randomBytes(32).toString('base64') };
    const refused = await carillon(args, env);
    expect(refused).toMatchObject({ code, stdout: '' });
    expect(refused.stderr).toMatch(new RegExp(`^carillon: .*\\[${error}\\]\\n$`));
  });
});
