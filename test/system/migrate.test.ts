import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { fingerprint } from '../support/fingerprint.ts';
import { type Environment, killAll, startCarillon } from './support/processes.ts';

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
    const api = startCarillon(['api', '--port', '0'], env);
    const migrations = [1, 2].map(() => startCarillon(['migrate', '--json'], env));
    const [, url] = await api.says(/listens at (\S+)/, 60_000);
    // It never ran into half a schema: each time that it looked it knew what was missing.
    const known =
      /^carillon: (waiting for a migration .* \[(schema_missing|schema_older|access_missing)\]|the database is migrated; going on)$/;
    const words = api.stderr().split('\n');
    expect(words.filter((line) => line.startsWith('carillon: ') && !known.test(line))).toEqual([]);
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
