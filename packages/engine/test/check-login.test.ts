import { randomBytes } from 'node:crypto';
import { cp, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { escapeIdentifier, escapeLiteral } from 'pg';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { checkLogin, checkSchema } from '../src/db/check-login.ts';
import { type DatabaseOptions, openDatabase } from '../src/db/database.ts';
import { MIGRATIONS_DIRECTORY } from '../src/db/migration-files.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(async () => await database.drop());

function open(options: Partial<DatabaseOptions> = {}) {
  const db = openDatabase({ app_url: database.appUrl, discovery_url: database.discoveryUrl, ...options });
  onTestFinished(() => db.close());
  return db;
}

/** A login of this test alone, in place of the application's: its URL. Goes with the test. */
async function makeLogin(attributes: string, ...statements: ((role: string) => string)[]): Promise<string> {
  const role = `check_${randomBytes(6).toString('hex')}`;
  const password = randomBytes(12).toString('hex');
  const run = async (...sql: string[]) =>
    await withClient(database.superuserUrl, async (client) => {
      for (const statement of sql) await client.query(statement);
    });
  await run(
    `CREATE ROLE ${escapeIdentifier(role)} LOGIN ${attributes} PASSWORD ${escapeLiteral(password)}`,
    ...statements.map((statement) => statement(escapeIdentifier(role))),
  );
  onTestFinished(() => run(`DROP OWNED BY ${escapeIdentifier(role)}`, `DROP ROLE ${escapeIdentifier(role)}`));
  const url = new URL(database.appUrl);
  url.username = role;
  url.password = password;
  return url.toString();
}

describe('checkLogin', () => {
  it('accepts the logins of a real installation', async () => {
    await expect(checkLogin(open())).resolves.toBeUndefined();
  });

  it.each(['BYPASSRLS', 'SUPERUSER', 'CREATEROLE', 'REPLICATION'])(
    'refuses an application with %s',
    async (attribute) => {
      const app_url = await makeLogin(attribute);
      await expect(checkLogin(open({ app_url }))).rejects.toMatchObject({
        code: 'login_too_strong',
        message: expect.stringContaining(`has ${attribute}`),
      });
    },
  );

  it('refuses the owner of the tables, even where discovery has no login', async () => {
    const db = open({ app_url: database.ownerUrl, discovery_url: undefined });
    await expect(checkLogin(db)).rejects.toMatchObject({ message: expect.stringMatching(/CREATEROLE|owns/) });
  });

  it('refuses the owner of one table', async () => {
    const app_url = await makeLogin('', (role) => `ALTER TABLE carillon.lists OWNER TO ${role}`);
    // Its table would go with it.
    onTestFinished(() =>
      withClient(database.superuserUrl, async (client) => {
        await client.query(`ALTER TABLE carillon.lists OWNER TO ${escapeIdentifier(database.logins.owner)}`);
      }),
    );
    await expect(checkLogin(open({ app_url }))).rejects.toMatchObject({
      message: expect.stringContaining('owns lists'),
    });
  });

  it('refuses a member of the owner, which may become it', async () => {
    const owner = escapeIdentifier(database.logins.owner);
    const app_url = await makeLogin('NOINHERIT', (role) => `GRANT ${owner} TO ${role}`);
    await expect(checkLogin(open({ app_url }))).rejects.toMatchObject({
      message: expect.stringContaining(`is a member of ${database.logins.owner}`),
    });
  });

  it('refuses an application that is a member of discovery, to which every business is open', async () => {
    const discovery = escapeIdentifier(database.logins.discovery);
    const app_url = await makeLogin('', (role) => `GRANT ${discovery} TO ${role}`);
    await expect(checkLogin(open({ app_url }))).rejects.toMatchObject({
      message: expect.stringContaining(`is a member of ${database.logins.discovery}`),
    });
  });

  it('refuses one that may read all data', async () => {
    const app_url = await makeLogin('', (role) => `GRANT pg_read_all_data TO ${role}`);
    await expect(checkLogin(open({ app_url }))).rejects.toMatchObject({
      message: expect.stringContaining('is a member of pg_read_all_data'),
    });
  });

  it('holds the second login to the same, and wants it to be a second one', async () => {
    const strong = await makeLogin('BYPASSRLS');
    await expect(checkLogin(open({ discovery_url: strong }))).rejects.toMatchObject({ code: 'login_too_strong' });
    await expect(checkLogin(open({ discovery_url: database.appUrl }))).rejects.toMatchObject({
      message: expect.stringContaining('share the login'),
    });
  });
});

describe('checkSchema', () => {
  it('accepts a database that this release has migrated', async () => {
    await expect(checkSchema(open())).resolves.toBeUndefined();
  });

  it('says that an empty database is to be migrated first', async () => {
    const empty = await createTestDatabase({ migrated: false });
    onTestFinished(() => empty.drop());
    const db = open({ app_url: empty.appUrl, discovery_url: empty.discoveryUrl });
    await expect(checkSchema(db)).rejects.toMatchObject({ code: 'schema_missing' });
  });

  it('says that a login has no access yet', async () => {
    const app_url = await makeLogin('');
    await expect(checkSchema(open({ app_url }))).rejects.toMatchObject({ code: 'access_missing' });
  });

  it('tells an older database from a newer one', async () => {
    const directory = await mkdtemp(path.join(os.tmpdir(), 'carillon-migrations-'));
    onTestFinished(() => rm(directory, { recursive: true, force: true }));
    await cp(MIGRATIONS_DIRECTORY, directory, { recursive: true });
    const next = (await migrationsOf(directory)).length + 1;
    const file = path.join(directory, `${String(next).padStart(4, '0')}_more.sql`);
    await writeFile(file, 'SELECT 1;\n');
    await expect(checkSchema(open(), directory)).rejects.toMatchObject({
      code: 'schema_older',
      message: expect.stringContaining('it lacks migration'),
    });
    await rm(file);
    await rm(path.join(directory, (await migrationsOf(directory)).at(-1) ?? ''));
    await expect(checkSchema(open(), directory)).rejects.toMatchObject({ code: 'database_newer' });
  });
});

async function migrationsOf(directory: string): Promise<string[]> {
  return (await readdir(directory)).filter((name) => name.endsWith('.sql')).toSorted();
}
