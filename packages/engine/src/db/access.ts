import { setTimeout as pause } from 'node:timers/promises';
import { DatabaseError, escapeIdentifier as name, escapeLiteral as text } from 'pg';
import { discoveryColumns, roleSettings } from './access-table.ts';
import { GRANTABLE, type Grant, type Grantable, grantKey, GRANTS_BY_NAME, wantedGrants } from './grants.ts';
import { MigrateError } from './migrate-error.ts';
import { inTransaction, type MigrationSession } from './migration-session.ts';
import { scramVerifier } from './scram.ts';

// The one file that builds SQL from names, because roles and grants take no parameters.

interface Logins {
  app: string;
  discovery: string;
  password: string;
}

export interface AccessReport {
  roles_created: string[];
  warnings: string[];
}

/** Roles belong to the whole cluster, where another database may be migrated at this moment. */
const RACES = new Set(['42710', '23505', 'XX000', '40P01', '40001']);
const RACE_RETRIES = 20;

/**
 * Gives the application's login and `<user>_discovery` exactly what access-table.ts says, creating them where the owner
 * may. One transaction, run again when another database's migration touched the same roles. Grants that a database
 * administrator made to other logins stay. Throws MigrateError; then access is as it was.
 */
export async function applyAccess(
  session: MigrationSession,
  appUrl: string,
  idle_in_transaction_timeout_ms: number,
): Promise<AccessReport> {
  const logins = parseLogins(appUrl);
  for (let tries = 1; ; tries++) {
    try {
      return await inTransaction(session, async () => {
        const report: AccessReport = { roles_created: [], warnings: [] };
        await ensureRoles(session, logins, report);
        await refuseStrongRoles(session, logins);
        await setRoles(session, logins, roleSettings(idle_in_transaction_timeout_ms), report);
        await syncGrants(session, logins);
        await syncPolicies(session, logins);
        return report;
      });
    } catch (error) {
      if (error instanceof MigrateError) throw error;
      const code = error instanceof DatabaseError ? error.code : undefined;
      if (!RACES.has(code ?? '') || tries > RACE_RETRIES)
        throw new MigrateError(
          'access_failed',
          `The logins ${logins.app} and ${logins.discovery} could not be given their access: ${(error as Error).message}`,
          error,
        );
      await pause(50 * tries);
    }
  }
}

function parseLogins(appUrl: string): Logins {
  let user: string;
  let password: string;
  try {
    user = decodeURIComponent(new URL(appUrl).username);
    password = decodeURIComponent(new URL(appUrl).password);
  } catch {
    throw new MigrateError(
      'app_url_invalid',
      "The application's database URL is not of the form postgres://user:password@host/database",
    );
  }
  if (!user) throw new MigrateError('app_url_invalid', "The application's database URL names no user");
  const discovery = `${user}_discovery`;
  if (Buffer.byteLength(discovery) > 63)
    throw new MigrateError(
      'app_url_invalid',
      `The user name ${user} is too long: with _discovery it must fit in 63 bytes`,
    );
  return { app: user, discovery, password };
}

const ATTRIBUTES = 'LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION';

/**
 * Refuses what `applyAccess` would refuse, before anything is migrated: logins that can't be, that could see past row
 * security, or that do not exist where the owner may not create them.
 */
export async function checkLogins(session: MigrationSession, appUrl: string): Promise<void> {
  const logins = parseLogins(appUrl);
  await refuseStrongRoles(session, logins);
  await missingRoles(session, logins);
}

async function missingRoles(session: MigrationSession, logins: Logins): Promise<string[]> {
  const [owner] = await session.run<{ me: string; may: boolean; existing: string[] }>(
    `SELECT current_user::text AS me, rolsuper OR rolcreaterole AS may,
            ARRAY(SELECT r.rolname::text FROM pg_roles r WHERE r.rolname = ANY($1)) AS existing
       FROM pg_roles WHERE rolname = current_user`,
    [[logins.app, logins.discovery]],
  );
  const missing = [logins.app, logins.discovery].filter((role) => !owner?.existing.includes(role));
  if (missing.length > 0 && !owner?.may)
    throw new MigrateError(
      'role_missing',
      `The login ${missing.join(' and the login ')} does not exist and ${owner?.me} may not create it. Let a database administrator run: ${missing.map((role) => `CREATE ROLE ${name(role)} ${ATTRIBUTES} PASSWORD '…';`).join(' ')} with the password of the application's URL, then migrate again`,
    );
  return missing;
}

async function ensureRoles(session: MigrationSession, logins: Logins, report: AccessReport): Promise<void> {
  for (const role of await missingRoles(session, logins)) {
    const password = logins.password ? ` PASSWORD ${text(scramVerifier(logins.password))}` : '';
    await session.run(`CREATE ROLE ${name(role)} ${ATTRIBUTES}${password}`);
    report.roles_created.push(role);
  }
}

/** Refuses logins that could see past row security, by what they are or by what they are members of. */
async function refuseStrongRoles(session: MigrationSession, logins: Logins): Promise<void> {
  const roles = await session.run<{
    role: string;
    is_owner: boolean;
    attributes: string[];
    member_of: string[];
    owns: string[];
  }>(
    `SELECT r.rolname::text AS role, r.rolname = current_user AS is_owner,
            array_remove(ARRAY[CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END,
              CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolreplication THEN 'REPLICATION' END], NULL)
              AS attributes,
            ARRAY(SELECT m.rolname::text FROM pg_roles m
                   WHERE m.oid <> r.oid AND NOT r.rolsuper AND pg_has_role(r.oid, m.oid, 'MEMBER')
                     AND (m.rolsuper OR m.rolbypassrls OR m.rolcreaterole OR m.rolreplication
                          OR m.rolname IN ($1, $2, current_user, 'pg_read_all_data', 'pg_write_all_data',
                             'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'))) AS member_of,
            ARRAY(SELECT c.relname::text FROM pg_class c
                   WHERE c.relnamespace = to_regnamespace('carillon') AND c.relowner = r.oid LIMIT 5) AS owns
       FROM pg_roles r WHERE r.rolname IN ($1, $2)`,
    [logins.app, logins.discovery],
  );
  for (const { role, is_owner, attributes, member_of, owns } of roles) {
    if (is_owner)
      throw new MigrateError(
        'app_is_owner',
        `The application's login ${role} is the owner's too: row security could then be switched off. Give the application a login of its own`,
      );
    if (owns.length > 0)
      throw new MigrateError(
        'app_is_owner',
        `The login ${role} owns ${owns.join(', ')}; the owner's login must own them`,
      );
    const strength = [...attributes, ...member_of.map((m) => `membership in ${m}`)];
    if (strength.length > 0)
      throw new MigrateError(
        'app_role_too_strong',
        `The login ${role} has ${strength.join(' and ')}, with which it could see past row security; take that away, or use another login`,
      );
  }
}

/** The settings that differ. An owner that may not alter the role reports the statement for somebody who may. */
async function setRoles(
  session: MigrationSession,
  logins: Logins,
  settings: Readonly<Record<string, string>>,
  report: AccessReport,
): Promise<void> {
  const roles = await session.run<{ role: string; config: string[]; can_login: boolean }>(
    `SELECT rolname::text AS role, coalesce(rolconfig, '{}') AS config, rolcanlogin AS can_login
       FROM pg_roles WHERE rolname IN ($1, $2) ORDER BY 1`,
    [logins.app, logins.discovery],
  );
  for (const { role, config, can_login } of roles) {
    const statements = Object.entries(settings)
      .filter(([key, value]) => !config.includes(`${key}=${value}`))
      .map(([key, value]) => `ALTER ROLE ${name(role)} SET ${name(key)} = ${text(value)}`);
    if (!can_login) statements.push(`ALTER ROLE ${name(role)} LOGIN`);
    if (statements.length === 0) continue;
    await session.run('SAVEPOINT settings');
    try {
      await session.run(statements.join('; '));
    } catch (error) {
      if (!(error instanceof DatabaseError) || error.code !== '42501') throw error;
      await session.run('ROLLBACK TO SAVEPOINT settings');
      report.warnings.push(
        ...statements.map((s) => `The owner may not change ${role}; have an administrator run: ${s}`),
      );
    }
    await session.run('RELEASE SAVEPOINT settings');
  }
}

async function syncGrants(session: MigrationSession, logins: Logins): Promise<void> {
  const [grantable] = await session.run<Record<keyof Grantable, string[]>>(GRANTABLE);
  if (!grantable) throw new Error('the catalog gave no row');
  const wanted = wantedGrants(logins, grantable);
  const present = await session.run<Grant & Record<string, unknown>>(GRANTS_BY_NAME, [logins.app, logins.discovery]);
  const [have, want] = [new Set(present.map(grantKey)), new Set(wanted.map(grantKey))];
  const extra = present.filter((g) => !want.has(grantKey(g)));
  const missing = wanted.filter((g) => !have.has(grantKey(g)));
  for (const sql of [...grantStatements('REVOKE', extra), ...grantStatements('GRANT', missing)]) await session.run(sql);
}

/** One statement for all objects on which one grantee gets, or loses, the same. */
function grantStatements(verb: 'GRANT' | 'REVOKE', grants: readonly Grant[]): string[] {
  const privileges = Map.groupBy(grants, (g) => JSON.stringify([g.kind, g.object, g.grantee]));
  const alike = Map.groupBy(privileges.values(), (list) =>
    JSON.stringify([
      list[0]?.kind,
      list[0]?.grantee,
      list.some((g) => g.column !== null) ? list[0]?.object : '',
      list.map((g) => [g.privilege, g.column]).sort(),
    ]),
  );
  return [...alike.values()].flatMap((lists) => {
    const [first] = lists;
    if (!first?.[0]) return [];
    const { kind, grantee } = first[0];
    const what = first.map((g) => (g.column === null ? g.privilege : `${g.privilege} (${name(g.column)})`)).join(', ');
    const objects = lists.flatMap(([g]) =>
      g ? [kind === 'SCHEMA' ? name(g.object) : `carillon.${name(g.object)}`] : [],
    );
    const who = grantee === null ? 'PUBLIC' : name(grantee);
    return `${verb} ${what} ON ${kind} ${objects.join(', ')} ${verb === 'GRANT' ? 'TO' : 'FROM'} ${who}`;
  });
}

/** The discovery login's own policy, on the tables of which it may read columns and on no other. */
async function syncPolicies(session: MigrationSession, logins: Logins): Promise<void> {
  const tables = await session.run<{ object: string; present: boolean; right: boolean }>(
    `SELECT c.relname::text AS object, p.oid IS NOT NULL AS present,
            coalesce(p.polpermissive AND p.polcmd = 'r' AND pg_get_expr(p.polqual, p.polrelid) = 'true'
              AND p.polroles = ARRAY(SELECT oid FROM pg_roles WHERE rolname = $1), false) AS right
       FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid AND p.polname = 'discovery_read'
      WHERE c.relnamespace = 'carillon'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1`,
    [logins.discovery],
  );
  for (const { object, present, right } of tables) {
    const wanted = object in discoveryColumns;
    const table = `carillon.${name(object)}`;
    if (present && !(wanted && right)) await session.run(`DROP POLICY discovery_read ON ${table}`);
    if (wanted && !right)
      await session.run(
        `CREATE POLICY discovery_read ON ${table} FOR SELECT TO ${name(logins.discovery)} USING (true)`,
      );
  }
}
