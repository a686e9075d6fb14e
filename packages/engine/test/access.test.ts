import { randomBytes } from 'node:crypto';
import { escapeIdentifier, escapeLiteral } from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { fingerprint } from '../../../test/support/fingerprint.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { until } from '../../../test/support/wait.ts';
import { migrate, type MigrateErrorCode, type MigrateReport } from '../src/db/migrate.ts';

let db: TestDatabase;
/** Logins of this test alone: they belong to the server, where other tests run beside it. */
let owner: string;
let app: string;
let discovery: string;
let more: string;
let ownerUrl: string;
let appUrl: string;
const id = escapeIdentifier;

const onServer = (sql: string) => withClient(db.superuserUrl, async (client) => (await client.query(sql)).rows);
const schema = () => onServer("SELECT nspname FROM pg_namespace WHERE nspname = 'carillon'");
const facts = () => fingerprint(db.superuserUrl, { owner, app, discovery });
const run = (url = appUrl) => migrate({ ownerUrl, appUrl: url });

function urlOf(base: string, user: string, password: string): string {
  const url = new URL(base);
  url.username = encodeURIComponent(user);
  url.password = encodeURIComponent(password);
  return url.toString();
}

async function createRole(role: string, attributes: string): Promise<void> {
  await onServer(`CREATE ROLE ${id(role)} ${attributes}`);
}

beforeAll(async () => {
  db = await createTestDatabase({ migrated: false });
});
afterAll(() => db.drop());

beforeEach(async () => {
  const stem = `r${randomBytes(4).toString('hex')}`;
  [owner, app, discovery, more] = [`${stem}_owner`, stem, `${stem}_discovery`, `${stem}_more`];
  ownerUrl = urlOf(db.ownerUrl, owner, 'secret');
  appUrl = urlOf(db.ownerUrl, app, 'secret');
  await createRole(owner, "LOGIN CREATEROLE PASSWORD 'secret'");
  await onServer(`ALTER DATABASE ${id(db.name)} OWNER TO ${id(owner)}`);
});
afterEach(async () => {
  await onServer('DROP SCHEMA IF EXISTS carillon CASCADE');
  await onServer(`ALTER DATABASE ${id(db.name)} OWNER TO CURRENT_USER`);
  for (const role of [more, discovery, app, owner]) await onServer(`DROP ROLE IF EXISTS ${id(role)}`);
});

describe('logins', () => {
  it('are created, once, with a password that nobody could read in a log', async () => {
    const sent: string[] = [];
    const first = await migrate({ ownerUrl, appUrl, onStatement: (sql) => void sent.push(sql) });
    expect(first.roles_created).toEqual([app, discovery]);
    expect(sent.filter((sql) => sql.includes('CREATE ROLE'))).toHaveLength(2);
    expect(sent.filter((sql) => sql.includes("'secret'"))).toEqual([]);
    expect((await run()).roles_created).toEqual([]);
    const passwords = await onServer(`SELECT rolpassword FROM pg_authid WHERE rolname IN ('${app}', '${discovery}')`);
    expect(passwords).toHaveLength(2);
    for (const { rolpassword } of passwords) expect(rolpassword).toMatch(/^SCRAM-SHA-256\$4096:/);
  });

  it.each(['plain', 'p@ss/w:rd %2F?#', 'סיסמה ארוכה', 'ﬁn\u00a0Ａ', "quote'\\$$"])(
    'work with the password %j',
    async (password) => {
      const url = urlOf(db.ownerUrl, app, password);
      await run(url);
      for (const user of [app, discovery]) {
        const { rows } = await withClient(urlOf(db.ownerUrl, user, password), (client) =>
          client.query('SELECT current_user::text AS me'),
        );
        expect(rows).toEqual([{ me: user }]);
      }
    },
  );

  it('connect with the settings that the protocol rests on', async () => {
    await migrate({ ownerUrl, appUrl, idle_in_transaction_timeout_ms: 7_000 });
    const settings = ['search_path', 'idle_in_transaction_session_timeout', 'lock_timeout', 'tcp_keepalives_idle'];
    for (const user of [app, discovery]) {
      const shown = await withClient(urlOf(db.ownerUrl, user, 'secret'), async (client) => {
        const { rows } = await client.query<{ setting: string }>(
          'SELECT current_setting(name) AS setting FROM unnest($1::text[]) WITH ORDINALITY AS s (name, n) ORDER BY n',
          [settings],
        );
        return rows.map(({ setting }) => setting);
      });
      expect(shown).toEqual(['carillon', '7s', '17s', '10']);
    }
    await run();
    const idle = await withClient(appUrl, (client) => client.query('SHOW idle_in_transaction_session_timeout'));
    expect(idle.rows).toEqual([{ idle_in_transaction_session_timeout: '20s' }]);
  });

  it('made by an administrator serve an owner that may not create any', async () => {
    await onServer(`ALTER ROLE ${id(owner)} NOCREATEROLE`);
    await expect(run()).rejects.toMatchObject({
      code: 'role_missing',
      message: expect.stringContaining(`CREATE ROLE "${app}" LOGIN NOSUPERUSER NOBYPASSRLS`),
    });
    expect(await schema()).toEqual([]);
    await createRole(app, "LOGIN PASSWORD 'secret'");
    await createRole(discovery, "LOGIN PASSWORD 'secret'");
    const report = await run();
    expect(report.roles_created).toEqual([]);
    expect(report.warnings).toContainEqual(
      expect.stringContaining(`ALTER ROLE "${app}" SET "search_path" = 'carillon'`),
    );
    for (const warning of report.warnings) await onServer(warning.slice(warning.indexOf('ALTER ROLE')));
    expect((await run()).warnings).toEqual([]);
    const byAdministrator = await facts();
    await onServer(`DROP SCHEMA carillon CASCADE; DROP ROLE ${id(app)}, ${id(discovery)}`);
    await onServer(`ALTER ROLE ${id(owner)} CREATEROLE`);
    await run();
    const [here, there] = [await facts(), byAdministrator].map((lines) =>
      lines.filter((l) => !l.startsWith('role <owner>')),
    );
    expect(there).toEqual(here);
  });

  it('may log in afterwards', async () => {
    await createRole(app, "NOLOGIN PASSWORD 'secret'");
    await onServer(`GRANT ${id(app)} TO ${id(owner)} WITH ADMIN OPTION`);
    expect((await run()).warnings).toEqual([]);
    expect(
      (await withClient(appUrl, (client) => client.query('SELECT version FROM schema_migrations'))).rowCount,
    ).toBeGreaterThan(0);
  });

  it('are created while another database creates the same ones', async () => {
    const other = await createTestDatabase({ migrated: false });
    await onServer(`ALTER DATABASE ${id(other.name)} OWNER TO ${id(owner)}`);
    const otherUrl = urlOf(other.ownerUrl, owner, 'secret');
    // The first one holds back its COMMIT until the second one waits for it in CREATE ROLE.
    let created = false;
    let second: Promise<MigrateReport> | undefined;
    const waits = async () =>
      (await onServer(`SELECT FROM pg_stat_activity WHERE datname = '${other.name}' AND wait_event_type = 'Lock'`))
        .length > 0;
    const first = await migrate({
      ownerUrl,
      appUrl,
      onStatement: async (sql) => {
        created ||= sql.startsWith('CREATE ROLE');
        if (!created || sql !== 'COMMIT' || second) return;
        second = migrate({ ownerUrl: otherUrl, appUrl: urlOf(otherUrl, app, 'secret') });
        await until(waits, { deadline_ms: 20_000, what: 'the second migration waits for the first' });
      },
    });
    expect([first.roles_created, (await second)?.roles_created]).toEqual([[app, discovery], []]);
    expect(await fingerprint(other.superuserUrl, { owner, app, discovery })).toEqual(await facts());
    await other.drop();
  });

  it('are shared by databases that are migrated at once', async () => {
    const others = await Promise.all([1, 2, 3].map(() => createTestDatabase({ migrated: false })));
    for (const other of others) await onServer(`ALTER DATABASE ${id(other.name)} OWNER TO ${id(owner)}`);
    const urls = others.map((other) => urlOf(other.ownerUrl, owner, 'secret'));
    const reports = await Promise.all(urls.map((url) => migrate({ ownerUrl: url, appUrl: urlOf(url, app, 'secret') })));
    expect(reports.flatMap((report) => report.roles_created).sort()).toEqual([app, discovery]);
    const all = await Promise.all(others.map((other) => fingerprint(other.superuserUrl, { owner, app, discovery })));
    expect(all[1]).toEqual(all[0]);
    expect(all[2]).toEqual(all[0]);
    for (const other of others) await other.drop();
  });
});

describe('a login is refused', () => {
  it.each<[string, MigrateErrorCode, () => Promise<unknown>]>([
    ['superuser', 'app_role_too_strong', () => createRole(app, 'LOGIN SUPERUSER')],
    ['bypassing row security', 'app_role_too_strong', () => createRole(app, 'LOGIN BYPASSRLS')],
    ['able to create logins', 'app_role_too_strong', () => createRole(app, 'LOGIN CREATEROLE')],
    ['able to replicate', 'app_role_too_strong', () => createRole(app, 'LOGIN REPLICATION')],
    ['reading everything', 'app_role_too_strong', () => createRole(app, 'LOGIN IN ROLE pg_read_all_data')],
    ['a member of the owner', 'app_role_too_strong', () => createRole(app, `LOGIN IN ROLE ${id(owner)}`)],
    [
      'a member of discovery',
      'app_role_too_strong',
      async () => {
        await createRole(discovery, 'LOGIN');
        await createRole(app, `LOGIN IN ROLE ${id(discovery)}`);
      },
    ],
    [
      'a member of discovery by way of another',
      'app_role_too_strong',
      async () => {
        await createRole(discovery, 'LOGIN');
        await createRole(more, `IN ROLE ${id(discovery)}`);
        await createRole(app, `LOGIN NOINHERIT IN ROLE ${id(more)}`);
      },
    ],
    [
      'a discovery login that is a member of the application',
      'app_role_too_strong',
      async () => {
        await createRole(app, 'LOGIN');
        await createRole(discovery, `LOGIN IN ROLE ${id(app)}`);
      },
    ],
    [
      'owning a table',
      'app_is_owner',
      async () => {
        await run();
        await onServer(`ALTER TABLE carillon.leads OWNER TO ${id(app)}`);
      },
    ],
  ])('%s', async (_, code, prepare) => {
    await prepare();
    await expect(run()).rejects.toMatchObject({ code, message: expect.stringContaining(app) });
  });

  it('that is the owner', async () => {
    await expect(run(ownerUrl)).rejects.toMatchObject({ code: 'app_is_owner' });
    expect(await schema()).toEqual([]);
  });

  it.each(['not a url', 'postgres://127.0.0.1/carillon', `postgres://${'x'.repeat(54)}@127.0.0.1/carillon`])(
    'that can not be named: %s',
    async (url) => {
      await expect(run(url)).rejects.toMatchObject({ code: 'app_url_invalid' });
    },
  );
});

describe('grants', () => {
  it('are made to agree with the table, whatever was done to them', async () => {
    await run();
    const before = await facts();
    await onServer(`
      GRANT ALL ON carillon.attempts, carillon.schema_migrations TO ${id(app)};
      GRANT TRUNCATE ON carillon.leads TO ${id(app)} WITH GRANT OPTION;
      GRANT SELECT ON carillon.leads TO PUBLIC;
      GRANT CREATE ON SCHEMA carillon TO ${id(app)}, PUBLIC;
      GRANT SELECT (phone), UPDATE (name) ON carillon.leads TO ${id(discovery)};
      GRANT UPDATE ON ALL SEQUENCES IN SCHEMA carillon TO ${id(app)};
      REVOKE INSERT ON carillon.leads FROM ${id(app)};
      REVOKE SELECT (status) ON carillon.outbound_call_runs FROM ${id(discovery)};
      REVOKE USAGE ON SCHEMA carillon FROM ${id(discovery)};
      DROP POLICY discovery_read ON carillon.outbound_call_runs;
      ALTER POLICY discovery_read ON carillon.open_attempts TO PUBLIC;
      CREATE POLICY discovery_read ON carillon.import_lines FOR SELECT TO ${id(app)} USING (true);
      ALTER ROLE ${id(app)} SET search_path = public`);
    expect(await facts()).not.toEqual(before);
    await run();
    expect(await facts()).toEqual(before);
    const sent: string[] = [];
    await migrate({ ownerUrl, appUrl, onStatement: (sql) => void sent.push(sql) });
    expect(sent.filter((sql) => /^(GRANT|REVOKE|CREATE|ALTER|DROP)/.test(sql))).toEqual([]);
  });

  it('to others stay: a database administrator made them on purpose', async () => {
    await run();
    await createRole(more, 'NOLOGIN');
    await onServer(`GRANT SELECT ON carillon.leads TO ${id(more)}`);
    await run();
    expect(
      await onServer(`SELECT has_table_privilege(${escapeLiteral(more)}, 'carillon.leads', 'SELECT') AS may`),
    ).toEqual([{ may: true }]);
    await onServer(`REVOKE ALL ON carillon.leads FROM ${id(more)}`);
  });

  it('go to a new login when the application gets one, and the old discovery loses its sight', async () => {
    await run();
    const [old, oldDiscovery] = [app, discovery];
    [app, discovery] = [more, `${more}_discovery`];
    await run(urlOf(db.ownerUrl, app, 'secret'));
    const rows = await onServer(
      "SELECT DISTINCT polroles::regrole[]::text AS roles FROM pg_policy WHERE polname = 'discovery_read'",
    );
    expect(rows).toEqual([{ roles: `{${discovery}}` }]);
    await onServer('DROP SCHEMA carillon CASCADE');
    for (const role of [oldDiscovery, old, discovery, app]) await onServer(`DROP ROLE ${id(role)}`);
  });
});
