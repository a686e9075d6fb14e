import { applyAccess, checkLogins } from './access.ts';
import { MigrateError } from './migrate-error.ts';
import {
  firstWords,
  type HistoryRow,
  MIGRATIONS_DIRECTORY,
  type MigrationFile,
  planMigrations,
  readMigrations,
} from './migration-files.ts';
import { inTransaction, lockMigrations, type MigrationSession, openSession } from './migration-session.ts';
import type { SqlStatement } from './split-sql.ts';

export { MigrateError, type MigrateErrorCode } from './migrate-error.ts';

export interface MigrateOptions {
  /** A direct connection as the login that owns the schema, or may create it. Not through a pooler in transaction mode. */
  ownerUrl: string;
  /** The application's URL: its user and `<user>_discovery` get their grants. Without it nobody's access is touched. */
  appUrl?: string | undefined;
  /** For tests; the release's own files otherwise. */
  directory?: string;
  /** How long to wait for another migration of the same database. */
  lock_wait_ms?: number;
  /** Below the lease TTL: a process that is stopped inside a transaction must not hold its locks longer. */
  idle_in_transaction_timeout_ms?: number;
  onProgress?: (progress: MigrateProgress) => void;
  /** Called with each statement before it is sent, and awaited: where the fault tests stop. */
  onStatement?: (sql: string) => void | Promise<void>;
}

export type MigrateProgress =
  | { kind: 'waiting'; waited_ms: number }
  | { kind: 'applying'; version: number; name: string }
  | { kind: 'applied'; version: number; name: string; duration_ms: number };

export interface MigrateReport {
  applied: { version: number; name: string; duration_ms: number }[];
  /** How many migrations were in the database before. */
  already: number;
  roles_created: string[];
  schema_version: number;
  /** What the owner was not allowed to set, each with the statement that a database administrator may run. */
  warnings: string[];
}

export interface MigrationStatus {
  schema_version: number;
  /** The newest migration of this release. */
  code_version: number;
  applied: { version: number; name: string; applied_at: Date; duration_ms: number }[];
  pending: { version: number; name: string }[];
}

/**
 * Brings the schema `carillon` up to date and gives the application's logins their access. Safe to run again, from two
 * places at once, and after being killed anywhere.
 *
 * A file and its history row are one transaction; a file that begins with `-- carillon: no-transaction` runs statement
 * by statement, each of which must be safe to run again (DROP INDEX CONCURRENTLY IF EXISTS before CREATE INDEX
 * CONCURRENTLY). Throws MigrateError; what it says was not kept, was not.
 */
export async function migrate(options: MigrateOptions): Promise<MigrateReport> {
  const files = await readMigrations(options.directory ?? MIGRATIONS_DIRECTORY);
  const session = await openSession(options.ownerUrl, options.onStatement);
  try {
    await lockMigrations(session, options.lock_wait_ms ?? 600_000, (waited_ms) =>
      options.onProgress?.({ kind: 'waiting', waited_ms }),
    );
    if (options.appUrl) await checkLogins(session, options.appUrl);
    await ensureHistory(session);
    const history = await readHistory(session);
    const applied: MigrateReport['applied'] = [];
    for (const file of planMigrations(files, history)) {
      options.onProgress?.({ kind: 'applying', version: file.version, name: file.name });
      const duration_ms = await applyFile(session, file).catch((error: Error) => {
        if (error instanceof MigrateError) throw error;
        throw new MigrateError(
          'migration_failed',
          `Migration ${file.name} failed: ${error.message}. Migrate again`,
          error,
        );
      });
      applied.push({ version: file.version, name: file.name, duration_ms });
      options.onProgress?.({ kind: 'applied', version: file.version, name: file.name, duration_ms });
    }
    const access = options.appUrl
      ? await applyAccess(session, options.appUrl, options.idle_in_transaction_timeout_ms ?? 20_000)
      : { roles_created: [], warnings: [] };
    return { applied, already: history.length, schema_version: files.at(-1)?.version ?? 0, ...access };
  } finally {
    await session.end();
  }
}

/** What is applied and what is not. Changes nothing; throws the MigrateErrors that `migrate` would about files. */
export async function migrationStatus(options: { ownerUrl: string; directory?: string }): Promise<MigrationStatus> {
  const files = await readMigrations(options.directory ?? MIGRATIONS_DIRECTORY);
  const session = await openSession(options.ownerUrl);
  try {
    const history = (await inspectSchema(session)) === 'ours' ? await readHistory(session) : [];
    const pending = planMigrations(files, history);
    return {
      schema_version: history.at(-1)?.version ?? 0,
      code_version: files.at(-1)?.version ?? 0,
      applied: history.map(({ version, name, applied_at, duration_ms }) => ({
        version,
        name,
        applied_at,
        duration_ms,
      })),
      pending: pending.map(({ version, name }) => ({ version, name })),
    };
  } finally {
    await session.end();
  }
}

const HISTORY_COLUMNS =
  'version integer,name text,checksum text,applied_at timestamp with time zone,duration_ms integer';

/**
 * Whose is the schema? `absent` or `empty`: it may become ours. Throws `schema_is_foreign` where somebody else's things
 * stand in it: another owner, or tables beside which there is no history of ours.
 */
async function inspectSchema(session: MigrationSession): Promise<'absent' | 'empty' | 'ours'> {
  const [schema] = await session.run<{ owner: string; mine: boolean; things: string[]; history: string | null }>(
    `SELECT r.rolname AS owner, r.rolname = current_user AS mine,
            ARRAY(SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = n.oid
                  UNION ALL SELECT p.proname::text FROM pg_proc p WHERE p.pronamespace = n.oid
                  UNION ALL SELECT t.typname::text FROM pg_type t WHERE t.typnamespace = n.oid ORDER BY 1 LIMIT 5) AS things,
            (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ',' ORDER BY a.attnum)
               FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
              WHERE c.relnamespace = n.oid AND c.relname = 'schema_migrations' AND c.relkind = 'r'
                AND c.relowner = n.nspowner AND a.attnum > 0 AND NOT a.attisdropped) AS history
       FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner WHERE n.nspname = 'carillon'`,
  );
  if (!schema) return 'absent';
  const foreign = (why: string) =>
    new MigrateError(
      'schema_is_foreign',
      `The database ${session.database} has a schema named carillon ${why}; nothing was touched. Take another database, or rename that schema`,
    );
  if (!schema.mine) throw foreign(`that belongs to ${schema.owner}`);
  if (schema.history === HISTORY_COLUMNS) return 'ours';
  if (schema.things.length === 0) return 'empty';
  throw foreign(`with things in it that no migration of Carillon made (${schema.things.join(', ')})`);
}

async function ensureHistory(session: MigrationSession): Promise<void> {
  if ((await inspectSchema(session)) === 'ours') return;
  await inTransaction(session, async () => {
    await session.run('CREATE SCHEMA IF NOT EXISTS carillon').catch((error: Error) => {
      throw new MigrateError(
        'schema_not_allowed',
        `The owner's login may not create the schema carillon in ${session.database}: ${error.message}. Grant it CREATE on the database, or create the schema for it (CREATE SCHEMA carillon AUTHORIZATION …)`,
        error,
      );
    });
    await session.run(
      `CREATE TABLE carillon.schema_migrations (
         version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,
         applied_at timestamptz NOT NULL DEFAULT now(), duration_ms integer NOT NULL)`,
    );
  });
}

function readHistory(session: MigrationSession): Promise<HistoryRow[]> {
  return session.run<HistoryRow & Record<string, unknown>>(
    'SELECT version, name, checksum, applied_at, duration_ms FROM carillon.schema_migrations ORDER BY version',
  );
}

/** Applies one file and its history row; returns how long it took by the server's clock. */
async function applyFile(session: MigrationSession, file: MigrationFile): Promise<number> {
  const [begin] = await session.run<{ at: string }>('SELECT clock_timestamp()::text AS at');
  const record = async () => {
    const [row] = await session.run<{ duration_ms: number }>(
      `INSERT INTO carillon.schema_migrations (version, name, checksum, duration_ms)
       VALUES ($1, $2, $3, round(extract(epoch FROM clock_timestamp() - $4::timestamptz) * 1000))
       RETURNING duration_ms`,
      [file.version, file.name, file.checksum, begin?.at],
    );
    return row?.duration_ms ?? 0;
  };
  if (file.transactional)
    return inTransaction(session, async () => {
      await runStatements(session, file);
      return record();
    });
  await runStatements(session, file);
  await refuseInvalidIndexes(session, file);
  return record();
}

async function runStatements(session: MigrationSession, file: MigrationFile): Promise<void> {
  for (const [index, statement] of file.statements.entries()) {
    try {
      await session.run(statement.text);
    } catch (error) {
      throw statementFailed(file, statement, index + 1, error as Error & { code?: string; position?: string });
    }
  }
}

function statementFailed(
  file: MigrationFile,
  statement: SqlStatement,
  number: number,
  error: Error & { code?: string; position?: string },
): MigrateError {
  const before = statement.text.slice(0, Math.max(0, Number(error.position ?? 1) - 1));
  const line = statement.line + before.split('\n').length - 1;
  const kept = file.transactional
    ? 'Nothing of this file was kept'
    : `The ${number - 1} statements before it were kept, and are safe to run again`;
  return new MigrateError(
    'migration_failed',
    `Migration ${file.name} failed in statement ${number} of ${file.statements.length}, line ${line}, "${firstWords(statement.text)}": ${error.message}${error.code ? ` (${error.code})` : ''}. ${kept}`,
    error,
  );
}

/** An index build that was broken off leaves an invalid index, which IF NOT EXISTS would then take for the real one. */
async function refuseInvalidIndexes(session: MigrationSession, file: MigrationFile): Promise<void> {
  const [row] = await session.run<{ names: string[] }>(
    `SELECT ARRAY(SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                   WHERE c.relnamespace = 'carillon'::regnamespace AND c.relkind = 'i' AND NOT i.indisvalid) AS names`,
  );
  if (row && row.names.length > 0)
    throw new MigrateError(
      'migration_left_invalid_index',
      `After migration ${file.name} these indexes are invalid: ${row.names.join(', ')}. Drop them and migrate again`,
    );
}
