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
import { migrate } from '../src/db/migrate.ts';
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

describe('checkLogin, of roles between', () => {
  const id = escapeIdentifier;

  /** A role that goes with the test, between a login and what it must not be. */
  async function makeRole(...statements: ((role: string) => string)[]): Promise<string> {
    const role = `between_${randomBytes(6).toString('hex')}`;
    await asSuperuser(`CREATE ROLE ${id(role)}`, ...statements.map((statement) => statement(id(role))));
    onTestFinished(() => asSuperuser(`DROP OWNED BY ${id(role)}`, `DROP ROLE ${id(role)}`));
    return role;
  }

  it.each(['discovery', 'owner'] as const)(
    'refuses a member of a member of %s, whatever it inherits',
    async (which) => {
      const target = database.logins[which];
      const between = await makeRole((role) => `GRANT ${id(target)} TO ${role}`);
      const app_url = await makeLogin('NOINHERIT', (role) => `GRANT ${id(between)} TO ${role}`);
      await expect(checkLogin(open({ app_url }))).rejects.toMatchObject({
        code: 'login_too_strong',
        message: expect.stringContaining(`is a member of ${target}`),
      });
    },
  );

  // PostgreSQL 16 and later tell membership, inheriting and becoming apart.
  it.each(['INHERIT FALSE, SET TRUE', 'INHERIT TRUE, SET FALSE', 'INHERIT FALSE, SET FALSE', 'ADMIN TRUE'])(
    'refuses a member of discovery WITH %s',
    async (how) => {
      const told = (await knowsMembershipOptions()) ? how : 'ADMIN OPTION';
      const { discovery } = database.logins;
      const app_url = await makeLogin('', (role) => `GRANT ${id(discovery)} TO ${role} WITH ${told}`);
      await expect(checkLogin(open({ app_url }))).rejects.toMatchObject({ code: 'login_too_strong' });
    },
  );

  it('refuses a discovery login that is a member of the application', async () => {
    const discovery_url = await makeLogin('', (role) => `GRANT ${id(database.logins.app)} TO ${role}`);
    await expect(checkLogin(open({ discovery_url }))).rejects.toMatchObject({
      message: expect.stringContaining(`is a member of ${database.logins.app}`),
    });
  });

  it('refuses a superuser that acts as the application', async () => {
    const app_url = await makeLogin('SUPERUSER', (role) => `ALTER ROLE ${role} SET role = ${id(database.logins.app)}`);
    await expect(checkLogin(open({ app_url }))).rejects.toMatchObject({
      message: expect.stringMatching(/has SUPERUSER and acts as/),
    });
  });

  it('refuses a login that acts as another', async () => {
    const other = await makeRole();
    const app_url = await makeLogin(
      '',
      (role) => `GRANT ${id(other)} TO ${role}`,
      (role) => `ALTER ROLE ${role} SET role = ${id(other)}`,
    );
    await expect(checkLogin(open({ app_url }))).rejects.toMatchObject({
      message: expect.stringContaining(`acts as ${other}`),
    });
  });

  it('refuses the owner of the schema, and of a function in it', async () => {
    const { owner } = database.logins;
    const app_url = await makeLogin('', (role) => `ALTER SCHEMA carillon OWNER TO ${role}`);
    onTestFinished(() => asSuperuser(`ALTER SCHEMA carillon OWNER TO ${id(owner)}`));
    await expect(checkLogin(open({ app_url }))).rejects.toMatchObject({
      message: expect.stringContaining('owns the schema carillon'),
    });
  });

  it('refuses what another role lets the application do, also where it has to become it', async () => {
    const { app } = database.logins;
    const other = await makeRole((role) => `GRANT UPDATE ON carillon.audit_events TO ${role}`);
    await asSuperuser(`GRANT ${id(other)} TO ${id(app)}`);
    await expect(checkLogin(open())).rejects.toMatchObject({
      code: 'access_too_wide',
      message: expect.stringContaining(`UPDATE on audit_events (through ${other})`),
    });
  });
});

describe('checkLogin, of grants and walls', () => {
  const app = () => escapeIdentifier(database.logins.app);
  const discovery = () => escapeIdentifier(database.logins.discovery);

  it.each<[string, () => string, () => string]>([
    ['UPDATE on audit_events', () => `GRANT UPDATE ON carillon.audit_events TO ${app()}`, app],
    ['DELETE on attempts', () => `GRANT DELETE ON carillon.attempts TO ${app()}`, app],
    ['TRUNCATE on leads', () => `GRANT TRUNCATE ON carillon.leads TO ${app()}`, app],
    ['UPDATE on attempts.cause', () => `GRANT UPDATE (cause) ON carillon.attempts TO ${app()}`, app],
    ['CREATE on the schema', () => `GRANT CREATE ON SCHEMA carillon TO ${app()}`, app],
    ['SELECT on leads_lead_id_seq', () => `GRANT SELECT ON carillon.leads_lead_id_seq TO ${app()}`, app],
    ['SELECT on leads.phone', () => `GRANT SELECT (phone) ON carillon.leads TO ${discovery()}`, discovery],
    ['INSERT on open_attempts', () => `GRANT INSERT ON carillon.open_attempts TO ${discovery()}`, discovery],
    ['TRIGGER on leads (through PUBLIC)', () => 'GRANT TRIGGER ON carillon.leads TO PUBLIC', app],
  ])('refuses %s, and migrate takes it back', async (what, grant, who) => {
    await asSuperuser(grant());
    await expect(checkLogin(open())).rejects.toMatchObject({
      code: 'access_too_wide',
      message: expect.stringContaining(what),
    });
    await expect(checkLogin(open())).rejects.toThrow(JSON.parse(who()));
    await migrate({ ownerUrl: database.ownerUrl, appUrl: database.appUrl });
    await expect(checkLogin(open())).resolves.toBeUndefined();
  });

  it('says what a login lacks, and migrate gives it', async () => {
    await asSuperuser(`REVOKE INSERT ON carillon.leads FROM ${app()}`);
    await expect(checkLogin(open())).rejects.toMatchObject({
      code: 'access_missing',
      message: expect.stringContaining('lacks INSERT on leads;'),
    });
    await migrate({ ownerUrl: database.ownerUrl, appUrl: database.appUrl });
    await expect(checkLogin(open())).resolves.toBeUndefined();
  });

  it.each<[string, string]>([
    ['of leads, its row security is not forced', 'ALTER TABLE carillon.leads NO FORCE ROW LEVEL SECURITY'],
    ['of leads, its row security is off', 'ALTER TABLE carillon.leads DISABLE ROW LEVEL SECURITY'],
    ['of lists, its policy business_wall is missing', 'DROP POLICY business_wall ON carillon.lists'],
    ['of lists, its policy business_wall', 'ALTER POLICY business_wall ON carillon.lists USING (true)'],
    ['of lists, its policy business_wall', 'ALTER POLICY business_wall ON carillon.lists WITH CHECK (true)'],
    ['of leads, its policy support opens it', 'CREATE POLICY support ON carillon.leads FOR SELECT USING (true)'],
    [
      'of open_attempts, its policy discovery_read opens it',
      'ALTER POLICY discovery_read ON carillon.open_attempts TO PUBLIC',
    ],
    ['of a_new_table, its row security is off', 'CREATE TABLE carillon.a_new_table (business_id bigint)'],
  ])('refuses a hole in the walls: %s, and names what mends it', async (fault, hole) => {
    onTestFinished(() => asSuperuser('DROP TABLE IF EXISTS carillon.a_new_table'));
    await asSuperuser(hole);
    const error: Error = await checkLogin(open()).then(
      () => new Error('accepted'),
      (refused) => refused,
    );
    expect(error).toMatchObject({ code: 'walls_broken', message: expect.stringContaining(fault) });
    const [, mend = ''] = /tables run: (.*)$/.exec(error.message) ?? [];
    await asSuperuser(mend);
    // A policy of discovery's is for migrate to make.
    await migrate({ ownerUrl: database.ownerUrl, appUrl: database.appUrl });
    await expect(checkLogin(open())).resolves.toBeUndefined();
  });
});

async function asSuperuser(...statements: string[]): Promise<void> {
  await withClient(database.superuserUrl, async (client) => {
    for (const statement of statements) await client.query(statement);
  });
}

async function knowsMembershipOptions(): Promise<boolean> {
  return await withClient(database.superuserUrl, async (client) => {
    const { rows } = await client.query<{ version: number }>(
      "SELECT current_setting('server_version_num')::int AS version",
    );
    return (rows[0]?.version ?? 0) >= 160_000;
  });
}

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
