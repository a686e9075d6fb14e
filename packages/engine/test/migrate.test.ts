import { cp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startChild } from '../../../test/support/child.ts';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { fingerprint } from '../../../test/support/fingerprint.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { migrate, MigrateError, type MigrateErrorCode, migrationStatus } from '../src/db/migrate.ts';
import { MIGRATIONS_DIRECTORY } from '../src/db/migration-files.ts';
import { BOTH_MODES, migrationFiles } from './migration-directory.ts';

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase({ migrated: false });
});
afterAll(() => db.drop());

const onServer = (sql: string) => withClient(db.superuserUrl, async (client) => (await client.query(sql)).rows);

/** A database whose schema is empty again. */
async function empty(): Promise<void> {
  await onServer('DROP SCHEMA IF EXISTS carillon CASCADE');
}

const relations = async () =>
  (
    await onServer(
      "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('carillon') AND relkind = 'r' ORDER BY 1",
    )
  ).map((row: { relname: string }) => row.relname);

const history = async () =>
  (await onServer('SELECT name FROM carillon.schema_migrations ORDER BY version')).map(
    (row: { name: string }) => row.name,
  );

async function refusal(directory: string): Promise<MigrateError> {
  const error = await migrate({ ownerUrl: db.ownerUrl, directory }).then(
    () => undefined,
    (e: unknown) => e,
  );
  if (error instanceof MigrateError) return error;
  throw new Error('the migration was not refused', { cause: error });
}

describe('migrating', () => {
  it('a second time changes nothing and says so', async () => {
    await empty();
    const urls = { ownerUrl: db.ownerUrl, appUrl: db.appUrl };
    const first = await migrate(urls);
    const facts = await fingerprint(db.superuserUrl, db.logins);
    const second = await migrate(urls);
    expect(first).toMatchObject({ already: 0, warnings: [] });
    expect(first.applied.map(({ version }) => version)).toEqual(first.applied.map((_, index) => index + 1));
    expect(second).toEqual({
      applied: [],
      already: first.applied.length,
      roles_created: [],
      schema_version: first.schema_version,
      warnings: [],
    });
    expect(await fingerprint(db.superuserUrl, db.logins)).toEqual(facts);
  });

  it('runs each statement in a state from which it can be run again', async () => {
    // The history is forgotten, the schema is there: whoever restores half a backup gets through all the same.
    await empty();
    const urls = { ownerUrl: db.ownerUrl, appUrl: db.appUrl };
    await migrate(urls);
    const facts = await fingerprint(db.superuserUrl, db.logins);
    await onServer('DELETE FROM carillon.schema_migrations');
    await migrate(urls);
    expect(await fingerprint(db.superuserUrl, db.logins)).toEqual(facts);
  });

  it('from several processes at once applies each file once', async () => {
    await empty();
    const children = [1, 2, 3].map(() => startChild(path.join(import.meta.dirname, 'migrate-child.ts')));
    for (const child of children) child.send({ ownerUrl: db.ownerUrl, appUrl: db.appUrl });
    const answers = await Promise.all(
      children.map((child) => child.next<{ done?: { applied: object[]; already: number } }>()),
    );
    const files = (await migrationStatus({ ownerUrl: db.ownerUrl })).applied.length;
    const counts = answers.map(({ done }) => [done?.applied.length, done?.already]);
    expect(counts.sort()).toEqual([
      [0, files],
      [0, files],
      [files, 0],
    ]);
    await migrate({ ownerUrl: db.ownerUrl, appUrl: db.appUrl });
    const facts = await fingerprint(db.superuserUrl, db.logins);
    await empty();
    await migrate({ ownerUrl: db.ownerUrl, appUrl: db.appUrl });
    expect(await fingerprint(db.superuserUrl, db.logins)).toEqual(facts);
  });

  it('waits for another no longer than it was told', async () => {
    await empty();
    await withClient(db.superuserUrl, async (client) => {
      await client.query("SELECT pg_advisory_lock(x'636172696c6c6f6e'::bigint)");
      await expect(migrate({ ownerUrl: db.ownerUrl, lock_wait_ms: 400 })).rejects.toMatchObject({
        code: 'migration_busy',
        message: expect.stringContaining('after 400 ms'),
      });
    });
    expect(await relations()).toEqual([]);
  });

  it('reports what is applied and what is not, and changes nothing by that', async () => {
    await empty();
    const directory = await migrationFiles(BOTH_MODES);
    expect(await migrationStatus({ ownerUrl: db.ownerUrl, directory })).toMatchObject({
      schema_version: 0,
      code_version: 3,
      applied: [],
      pending: Object.keys(BOTH_MODES).map((name, index) => ({ version: index + 1, name })),
    });
    expect(await relations()).toEqual([]);
    const third = path.join(directory, '0003_more.sql');
    await rename(third, `${third}.later`);
    await migrate({ ownerUrl: db.ownerUrl, directory });
    await rename(`${third}.later`, third);
    const status = await migrationStatus({ ownerUrl: db.ownerUrl, directory });
    expect(status.applied.map(({ name }) => name)).toEqual(['0001_things.sql', '0002_index.sql']);
    expect(status.applied[0]?.duration_ms).toBeGreaterThanOrEqual(0);
    expect(status).toMatchObject({
      schema_version: 2,
      code_version: 3,
      pending: [{ version: 3, name: '0003_more.sql' }],
    });
  });

  it('takes a checkout with other line ends for the same files', async () => {
    await empty();
    const directory = await migrationFiles({});
    await cp(MIGRATIONS_DIRECTORY, directory, { recursive: true });
    await migrate({ ownerUrl: db.ownerUrl, directory });
    const file = path.join(directory, '0001_businesses.sql');
    await writeFile(file, `\uFEFF${(await readFile(file, 'utf8')).replaceAll('\n', '\r\n')}`);
    expect((await migrate({ ownerUrl: db.ownerUrl, directory })).applied).toEqual([]);
  });
});

describe('files and history that are not one story', () => {
  const files = {
    '0001_a.sql': 'CREATE TABLE carillon.a (id int);',
    '0002_b.sql': 'CREATE TABLE carillon.b (id int);',
  };

  it.each<[MigrateErrorCode, string, (directory: string) => Promise<void>]>([
    [
      'migration_changed',
      '0001_a.sql',
      (d) => writeFile(path.join(d, '0001_a.sql'), 'CREATE TABLE carillon.a (id bigint);'),
    ],
    ['migration_changed', '0002_c.sql', (d) => rename(path.join(d, '0002_b.sql'), path.join(d, '0002_c.sql'))],
    ['migration_missing', '0001_a.sql', (d) => rm(path.join(d, '0001_a.sql'))],
    ['database_newer', '0002_b.sql', (d) => rm(path.join(d, '0002_b.sql'))],
    ['migration_gap', '0003', (d) => writeFile(path.join(d, '0004_d.sql'), 'CREATE TABLE carillon.d (id int);')],
    ['migration_duplicate', '0002_other.sql', (d) => writeFile(path.join(d, '0002_other.sql'), 'SELECT 1;')],
    ['migration_misnamed', '3_c.sql', (d) => writeFile(path.join(d, '3_c.sql'), 'SELECT 1;')],
    ['migration_malformed', '0003_c.sql line 2', (d) => writeFile(path.join(d, '0003_c.sql'), "SELECT 1;\nSELECT 'a;")],
    ['migration_malformed', '0003_c.sql line 1', (d) => writeFile(path.join(d, '0003_c.sql'), 'COMMIT;')],
  ])('%s: %s', async (code, named, change) => {
    await empty();
    const directory = await migrationFiles(files);
    await migrate({ ownerUrl: db.ownerUrl, directory });
    await change(directory);
    const error = await refusal(directory);
    expect(error.code).toBe(code);
    expect(error.message).toContain(named);
    expect(await relations()).toEqual(['a', 'b', 'schema_migrations']);
    if (code !== 'migration_gap') return;
    await expect(migrationStatus({ ownerUrl: db.ownerUrl, directory })).rejects.toMatchObject({ code });
  });

  it('no directory, and one without migrations', async () => {
    expect((await refusal('/nowhere/at/all')).code).toBe('migrations_unreadable');
    expect((await refusal(await migrationFiles({}))).code).toBe('migrations_unreadable');
  });
});

describe('a statement that fails', () => {
  it('is named with its file, number, line and words, and nothing of the file is kept', async () => {
    await empty();
    const directory = await migrationFiles({
      '0001_a.sql': 'CREATE TABLE carillon.a (id int);',
      '0002_b.sql':
        '-- why\nCREATE TABLE carillon.b (id int);\nSELECT 1;\n\nALTER TABLE carillon.a\n  ADD COLUMN x nonsense;\nSELECT 2;',
    });
    const error = await refusal(directory);
    expect(error.code).toBe('migration_failed');
    expect(error.message).toBe(
      'Migration 0002_b.sql failed in statement 3 of 4, line 6, "ALTER TABLE carillon.a ADD COLUMN x nonsense": ' +
        'type "nonsense" does not exist (42704). Nothing of this file was kept',
    );
    expect(await relations()).toEqual(['a', 'schema_migrations']);
    expect(await history()).toEqual(['0001_a.sql']);
  });

  it('leaves, without a transaction, what was before it, and the mended file goes through', async () => {
    await empty();
    const first = '-- carillon: no-transaction\nCREATE TABLE IF NOT EXISTS carillon.a (id int);\n';
    const directory = await migrationFiles({ '0001_a.sql': `${first}SELECT 1/0;` });
    const error = await refusal(directory);
    expect(error.code).toBe('migration_failed');
    expect(error.message).toContain('0001_a.sql failed in statement 2 of 2, line 3, "SELECT 1/0": division by zero');
    expect(error.message).toContain('The 1 statements before it were kept');
    expect(await relations()).toEqual(['a', 'schema_migrations']);
    expect(await history()).toEqual([]);
    await writeFile(path.join(directory, '0001_a.sql'), `${first}SELECT 1;`);
    expect((await migrate({ ownerUrl: db.ownerUrl, directory })).applied).toHaveLength(1);
  });

  it('is one at the end, too: a constraint that is checked at COMMIT', async () => {
    await empty();
    const directory = await migrationFiles({
      '0001_a.sql': `CREATE TABLE carillon.a (id int PRIMARY KEY, b int REFERENCES carillon.a DEFERRABLE INITIALLY DEFERRED);
                     INSERT INTO carillon.a VALUES (1, 2);`,
    });
    const error = await refusal(directory);
    expect(error.code).toBe('migration_failed');
    expect(error.message).toMatch(/0001_a\.sql failed: .*violates foreign key/);
    expect(await relations()).toEqual(['schema_migrations']);
  });

  it('does not leave an index behind that was never finished', async () => {
    await empty();
    const broken = `-- carillon: no-transaction
      CREATE TABLE IF NOT EXISTS carillon.a (id int);
      INSERT INTO carillon.a VALUES (1), (1);
      CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS a_id ON carillon.a (id);`;
    const directory = await migrationFiles({ '0001_a.sql': broken });
    expect((await refusal(directory)).code).toBe('migration_failed');
    // The second time IF NOT EXISTS finds the invalid index and is content with it.
    const error = await refusal(directory);
    expect(error.code).toBe('migration_left_invalid_index');
    expect(error.message).toContain('a_id');
    expect(await history()).toEqual([]);
  });
});

describe('a schema of that name that is not ours', () => {
  const tables = async () =>
    await onServer(
      "SELECT relname, relowner::regrole::text FROM pg_class WHERE relnamespace = to_regnamespace('carillon') ORDER BY 1",
    );

  it.each([
    ['with tables', `CREATE SCHEMA carillon AUTHORIZATION me; SET ROLE me; CREATE TABLE carillon.bells (id int)`],
    [
      'with a function only',
      `CREATE SCHEMA carillon AUTHORIZATION me; SET ROLE me; CREATE FUNCTION carillon.ring() RETURNS int RETURN 1`,
    ],
    [
      'with the history of another tool',
      `CREATE SCHEMA carillon AUTHORIZATION me; SET ROLE me; CREATE TABLE carillon.schema_migrations (version text)`,
    ],
    ['of another owner', 'CREATE SCHEMA carillon'],
  ])('%s is refused and not touched', async (_, sql) => {
    await empty();
    await onServer(sql.replaceAll(/\bme\b/g, `"${db.logins.owner}"`));
    const before = await tables();
    const error = await refusal(MIGRATIONS_DIRECTORY);
    expect(error.code).toBe('schema_is_foreign');
    expect(error.message).toContain('nothing was touched');
    expect(await tables()).toEqual(before);
    await expect(migrationStatus({ ownerUrl: db.ownerUrl })).rejects.toMatchObject({ code: 'schema_is_foreign' });
  });

  it('but an empty one that was made for the owner is taken', async () => {
    await empty();
    await onServer(`CREATE SCHEMA carillon AUTHORIZATION "${db.logins.owner}"`);
    expect((await migrate({ ownerUrl: db.ownerUrl })).already).toBe(0);
  });
});

describe('a server that does not let us', () => {
  const at = (change: (url: URL) => void) => {
    const url = new URL(db.ownerUrl);
    change(url);
    return migrate({ ownerUrl: url.toString() });
  };

  it('is not there', () =>
    expect(at((url) => (url.port = '1'))).rejects.toMatchObject({ code: 'database_unreachable' }));
  it('refuses the password', () =>
    expect(at((url) => (url.password = 'wrong'))).rejects.toMatchObject({ code: 'login_refused' }));
  it('has no such database', () =>
    expect(at((url) => (url.pathname = '/nowhere'))).rejects.toMatchObject({
      code: 'login_refused',
      message: expect.stringContaining('nowhere'),
    }));
  it('does not let the owner create a schema', async () => {
    await empty();
    await onServer(`ALTER DATABASE "${db.name}" OWNER TO CURRENT_USER`);
    await expect(migrate({ ownerUrl: db.ownerUrl })).rejects.toMatchObject({ code: 'schema_not_allowed' });
    await onServer(`ALTER DATABASE "${db.name}" OWNER TO "${db.logins.owner}"`);
  });
});
