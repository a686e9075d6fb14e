import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { fingerprint } from '../support/fingerprint.ts';
import { until } from '../support/wait.ts';
import { type Environment, killAll, type Running, startCarillon } from './support/processes.ts';

let fresh: TestDatabase;
let migrated: TestDatabase;
beforeEach(async () => {
  fresh = await createTestDatabase({ migrated: false });
  migrated = await createTestDatabase();
});
afterEach(async () => {
  await killAll();
  await fresh.drop();
  await migrated.drop();
});

describe('a database that is migrated by two processes at once while an API waits for it', () => {
  it('comes out as from one migration, and the API serves it', async () => {
    const env: Environment = {
      DATABASE_URL: fresh.appUrl,
      CARILLON_OWNER_DATABASE_URL: fresh.ownerUrl,
      CARILLON_SECRET: randomBytes(32).toString('base64'),
    };
    let api: Running = startCarillon(['api', '--port', '0'], env);
    const refusals: string[] = [];
    const migrations = [1, 2].map(() => startCarillon(['migrate', '--json'], env));
    // Started again each time that it gives up, as supervisors do it.
    const [, url] = await until(
      async () => {
        const listening = /listens at (\S+)/.exec(api.stdout());
        const state = await Promise.race([api.ended, 'alive']);
        if (state !== 'alive') {
          refusals.push(api.stderr().trim());
          api = startCarillon(['api', '--port', '0'], env);
        }
        return listening;
      },
      { deadline_ms: 30_000, what: 'the API to serve' },
    );
    // It never ran into half a schema: each time it knew what was missing.
    expect(refusals.filter((words) => !/\[(schema_missing|schema_older|access_missing)\]$/.test(words))).toEqual([]);
    expect((await fetch(`${url}/readyz`)).status).toBe(200);

    expect(await Promise.all(migrations.map(({ ended }) => ended))).toEqual([0, 0]);
    const reports = migrations.map((process) => JSON.parse(process.stdout()) as { applied: { name: string }[] });
    const applied = reports.flatMap((report) => report.applied.map(({ name }) => name));
    expect(applied.length).toBeGreaterThan(0);
    expect(new Set(applied).size).toBe(applied.length);
    console.log(`applied by the two: ${reports.map((report) => report.applied.length).join(' and ')} files`);
    expect(await fingerprint(fresh.superuserUrl, fresh.logins)).toEqual(
      await fingerprint(migrated.superuserUrl, migrated.logins),
    );
  });
});
