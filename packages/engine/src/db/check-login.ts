import { type Database, discover, queryGlobal, sqlState } from './database.ts';
import { type HistoryRow, MIGRATIONS_DIRECTORY, planMigrations, readMigrations } from './migration-files.ts';

export type LoginErrorCode = 'login_too_strong' | 'schema_missing' | 'schema_older' | 'access_missing';

/** A process must not serve this database with these logins, or not yet. The message tells what to do. */
export class LoginError extends Error {
  readonly code: LoginErrorCode;
  constructor(code: LoginErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'LoginError';
    this.code = code;
  }
}

/**
 * Refuses logins that row security does not hold: superusers, BYPASSRLS, owners of a table, members of any of those,
 * and an application that is a member of the discovery login (a policy for a role applies to its members: every
 * business's runs would be open to the application). Throws LoginError; connection errors pass.
 */
export async function checkLogin(db: Database): Promise<void> {
  // The application first: of one that is too strong the second login need not even exist.
  const app = refuseStrength(await strengthOf(db, queryGlobal, null));
  const discovery = refuseStrength(await strengthOf(db, discover, null));
  if (app === discovery)
    throw new LoginError('login_too_strong', `The application and discovery share the login ${app}; give each its own`);
  refuseStrength(await strengthOf(db, queryGlobal, discovery));
}

function refuseStrength({ login, strengths }: { login: string; strengths: string[] }): string {
  if (strengths.length === 0) return login;
  throw new LoginError(
    'login_too_strong',
    `The login ${login} ${strengths.join(' and ')}, with which it could see past row security; take that away, or use another login`,
  );
}

async function strengthOf(
  db: Database,
  ask: typeof queryGlobal,
  discovery: string | null,
): Promise<{ login: string; strengths: string[] }> {
  const rows = await ask<{ login: string; attributes: string[]; owns: string[]; member_of: string[] }>(
    db,
    `WITH owners AS (
       SELECT nspowner AS oid FROM pg_namespace WHERE nspname = 'carillon'
       UNION SELECT c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'carillon')
     SELECT r.rolname::text AS login,
            array_remove(ARRAY[CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END,
              CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolreplication THEN 'REPLICATION' END], NULL)
              AS attributes,
            ARRAY(SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE n.nspname = 'carillon' AND c.relowner = r.oid ORDER BY 1 LIMIT 3) AS owns,
            ARRAY(SELECT m.rolname::text FROM pg_roles m
                   WHERE m.oid <> r.oid AND NOT r.rolsuper AND pg_has_role(r.oid, m.oid, 'MEMBER')
                     AND (m.rolsuper OR m.rolbypassrls OR m.rolcreaterole OR m.rolreplication
                          OR m.oid IN (SELECT oid FROM owners) OR m.rolname = $1
                          OR m.rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_read_server_files',
                               'pg_write_server_files', 'pg_execute_server_program'))) AS member_of
       FROM pg_roles r WHERE r.rolname = current_user`,
    [discovery],
  );
  const [role] = rows;
  if (!role) throw new Error('the server does not say who is logged in');
  const strengths = [
    ...role.attributes.map((attribute) => `has ${attribute}`),
    ...(role.owns.length > 0 ? [`owns ${role.owns.join(', ')}`] : []),
    ...role.member_of.map((name) => `is a member of ${name}`),
  ];
  return { login: role.login, strengths };
}

/**
 * Compares the database's migrations with this release's files, as the application sees them. Throws LoginError, and
 * the MigrateErrors `database_newer`, `migration_changed` and the like; connection errors pass.
 */
export async function checkSchema(db: Database, directory = MIGRATIONS_DIRECTORY): Promise<void> {
  const [first, ...others] = planMigrations(await readMigrations(directory), await readHistory(db));
  if (!first) return;
  const more = others.length === 0 ? '' : ` and ${others.length} more`;
  throw new LoginError(
    'schema_older',
    `The database is older than this Carillon: it lacks migration ${first.name}${more}; run "carillon migrate"`,
  );
}

async function readHistory(db: Database): Promise<HistoryRow[]> {
  try {
    return await queryGlobal<HistoryRow>(
      db,
      'SELECT version, name, checksum, applied_at, duration_ms FROM carillon.schema_migrations ORDER BY version',
    );
  } catch (error) {
    const state = sqlState(error);
    if (state === '42P01' || state === '3F000')
      throw new LoginError(
        'schema_missing',
        'The database holds no tables of Carillon yet; run "carillon migrate" first',
        {
          cause: error,
        },
      );
    if (state === '42501')
      throw new LoginError(
        'access_missing',
        'This login may not read the tables of Carillon; run "carillon migrate" with this DATABASE_URL, which gives it access',
        { cause: error },
      );
    throw error;
  }
}
