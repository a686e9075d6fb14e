import { compareAccess, findWallFaults } from './check-access.ts';
import { type Database, discover, queryGlobal, sqlState } from './database.ts';
import type { LoginNames } from './grants.ts';
import { type HistoryRow, MIGRATIONS_DIRECTORY, planMigrations, readMigrations } from './migration-files.ts';

export type LoginErrorCode =
  | 'login_too_strong'
  | 'access_too_wide'
  | 'walls_broken'
  | 'schema_missing'
  | 'schema_older'
  | 'access_missing';

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
 * Refuses logins that row security does not hold: superusers, BYPASSRLS, owners of a table or of the schema, members of
 * any of those, and an application that is a member of the discovery login (a policy for a role applies to its members:
 * every business's runs would be open to the application), by whatever chain of roles and however little it inherits.
 * Refuses what either may do beyond the list of this release, and tables whose wall has a hole.
 *
 * Throws LoginError (`login_too_strong`, `access_too_wide`, `access_missing`, `walls_broken`); connection errors pass.
 */
export async function checkLogin(db: Database): Promise<void> {
  // The application first: of one that is too strong the second login need not even exist.
  const app = refuseStrength(await strengthOf(db, queryGlobal, null));
  const discovery = refuseStrength(await strengthOf(db, discover, null));
  if (app === discovery)
    throw new LoginError('login_too_strong', `The application and discovery share the login ${app}; give each its own`);
  refuseStrength(await strengthOf(db, queryGlobal, discovery));
  refuseStrength(await strengthOf(db, discover, app));
  await refuseAccess(db, { app, discovery });
  await refuseHoles(db, { app, discovery });
}

const SHOWN = 5;

function shortened(things: readonly string[]): string {
  const more = things.length > SHOWN ? ` and ${things.length - SHOWN} more` : '';
  return `${things.slice(0, SHOWN).join(', ')}${more}`;
}

async function refuseAccess(db: Database, logins: LoginNames): Promise<void> {
  const { extra, missing } = await compareAccess(db, logins);
  const [first] = extra;
  if (first) {
    const mine = extra.filter(({ login }) => login === first.login);
    const what = mine.map(({ what, via }) => (via === null ? what : `${what} (through ${via})`));
    throw new LoginError(
      'access_too_wide',
      `The login ${first.login} may do more than it is given: ${shortened(what)}; run "carillon migrate", which takes back what the login itself and everybody were granted, and take it out of other roles`,
    );
  }
  if (missing.length > 0)
    throw new LoginError(
      'access_missing',
      `The login ${missing[0]?.login} lacks ${shortened(missing.map(({ what }) => what))}; run "carillon migrate" with this DATABASE_URL, which gives it access`,
    );
}

async function refuseHoles(db: Database, logins: LoginNames): Promise<void> {
  const faults = await findWallFaults(db, logins);
  if (faults.length === 0) return;
  throw new LoginError(
    'walls_broken',
    `The walls between businesses have a hole: ${shortened(faults.map(({ table, fault }) => `of ${table}, ${fault}`))}. Let the owner of the tables run: ${faults.map(({ mend }) => `${mend};`).join(' ')}`,
  );
}

function refuseStrength({ login, strengths }: { login: string; strengths: string[] }): string {
  if (strengths.length === 0) return login;
  throw new LoginError(
    'login_too_strong',
    `The login ${login} ${strengths.join(' and ')}, with which it could see past row security; take that away, or use another login`,
  );
}

interface RoleFacts {
  login: string;
  acts_as: string;
  attributes: string[];
  owns: string[];
  member_of: string[];
}

/** Of the login itself, not of the role that a setting makes it act as: it can become itself again at any time. */
async function strengthOf(db: Database, ask: typeof queryGlobal, other: string | null) {
  const [role] = await ask<RoleFacts>(
    db,
    `WITH owners AS (
       SELECT nspowner AS oid FROM pg_namespace WHERE nspname = 'carillon'
       UNION SELECT c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'carillon')
     SELECT r.rolname::text AS login, current_user::text AS acts_as,
            array_remove(ARRAY[CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END,
              CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolreplication THEN 'REPLICATION' END], NULL)
              AS attributes,
            ARRAY(SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE n.nspname = 'carillon' AND c.relowner = r.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
                  UNION ALL SELECT 'the function ' || p.proname
                    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                   WHERE n.nspname = 'carillon' AND p.proowner = r.oid
                  UNION ALL SELECT 'the schema carillon' FROM pg_namespace n
                   WHERE n.nspname = 'carillon' AND n.nspowner = r.oid ORDER BY 1 LIMIT 3) AS owns,
            ARRAY(SELECT m.rolname::text FROM pg_roles m
                   WHERE m.oid <> r.oid AND NOT r.rolsuper AND pg_has_role(r.oid, m.oid, 'MEMBER')
                     AND (m.rolsuper OR m.rolbypassrls OR m.rolcreaterole OR m.rolreplication
                          OR m.oid IN (SELECT oid FROM owners) OR m.rolname = $1
                          OR m.rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_read_server_files',
                               'pg_write_server_files', 'pg_execute_server_program'))) AS member_of
       FROM pg_roles r WHERE r.rolname = session_user`,
    [other],
  );
  if (!role) throw new Error('the server does not say who is logged in');
  const strengths = [
    ...role.attributes.map((attribute) => `has ${attribute}`),
    ...(role.owns.length > 0 ? [`owns ${role.owns.join(', ')}`] : []),
    ...role.member_of.map((name) => `is a member of ${name}`),
    ...(role.acts_as === role.login ? [] : [`acts as ${role.acts_as}`]),
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
