import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { MigrateError } from './migrate-error.ts';
import { type SqlStatement, SqlSyntaxError, splitStatements } from './split-sql.ts';

/** One file NNNN_what.sql, read and cut into statements. */
export interface MigrationFile {
  version: number;
  /** The file's name, `0001_businesses.sql`. */
  name: string;
  /** SHA-256 of the text with LF line ends, in hex: a checkout on Windows is the same migration. */
  checksum: string;
  /** False for a file that begins with `-- carillon: no-transaction`. */
  transactional: boolean;
  statements: SqlStatement[];
}

/** A row of carillon.schema_migrations. */
export interface HistoryRow {
  version: number;
  name: string;
  checksum: string;
  applied_at: Date;
  duration_ms: number;
}

export const MIGRATIONS_DIRECTORY = path.join(import.meta.dirname, '../../migrations');
export const NO_TRANSACTION = '-- carillon: no-transaction';

const FILE_NAME = /^(\d{4})_[a-z0-9_]+\.sql$/;
// The runner alone begins and ends transactions: a COMMIT in a file would split what is promised as one step.
const TRANSACTION_CONTROL =
  /^(begin|start\s+transaction|commit|end|rollback|abort|savepoint|release|prepare\s+transaction)\b/i;

/** Reads and checks every .sql file of the directory, in order of version; gaps are left to `planMigrations`. */
export async function readMigrations(directory: string): Promise<MigrationFile[]> {
  const names = await readdir(directory).catch((error: Error) => {
    throw new MigrateError('migrations_unreadable', `The migrations can't be read from ${directory}: ${error.message}`);
  });
  const files: MigrationFile[] = [];
  for (const name of names.filter((n) => n.endsWith('.sql')).sort()) {
    const file = parseMigration(name, await readFile(path.join(directory, name), 'utf8'));
    const twin = files.find((f) => f.version === file.version);
    if (twin)
      throw new MigrateError(
        'migration_duplicate',
        `${twin.name} and ${name} bear the same number; renumber one of them`,
      );
    files.push(file);
  }
  if (files.length === 0)
    throw new MigrateError('migrations_unreadable', `There is no migration NNNN_what.sql in ${directory}`);
  return files;
}

export function parseMigration(name: string, raw: string): MigrationFile {
  const version = Number(FILE_NAME.exec(name)?.[1]);
  if (!Number.isInteger(version) || version === 0)
    throw new MigrateError('migration_misnamed', `${name} is not named NNNN_what.sql (0001 or higher, a-z, 0-9 and _)`);
  const text = raw.replace(/^\uFEFF/, '').replaceAll('\r\n', '\n');
  const statements = statementsOf(name, text);
  const control = statements.find((s) => TRANSACTION_CONTROL.test(s.text));
  if (control)
    throw new MigrateError(
      'migration_malformed',
      `${name} line ${control.line}: "${firstWords(control.text)}" begins or ends a transaction, which the runner does; leave it out, or make the file's first line "${NO_TRANSACTION}"`,
    );
  return {
    version,
    name,
    checksum: createHash('sha256').update(text).digest('hex'),
    transactional: text.split('\n', 1)[0]?.trim() !== NO_TRANSACTION,
    statements,
  };
}

function statementsOf(name: string, text: string): SqlStatement[] {
  try {
    return splitStatements(text);
  } catch (error) {
    if (!(error instanceof SqlSyntaxError)) throw error;
    throw new MigrateError('migration_malformed', `${name} line ${error.line}: ${error.message}`);
  }
}

/** The beginning of a statement, on one line, as a message can hold it. */
export function firstWords(statement: string): string {
  const line = statement.replace(/\s+/g, ' ');
  return line.length <= 70 ? line : `${line.slice(0, 67)}…`;
}

/**
 * What is left to apply. Throws where files and history are not one story: a changed, renamed or missing file, a gap in
 * the numbers, a database that a newer release has migrated.
 */
export function planMigrations(files: readonly MigrationFile[], history: readonly HistoryRow[]): MigrationFile[] {
  const byVersion = new Map(files.map((file) => [file.version, file]));
  const newest = files.at(-1)?.version ?? 0;
  for (const row of history) {
    const file = byVersion.get(row.version);
    if (!file && row.version > newest)
      throw new MigrateError(
        'database_newer',
        `The database has migration ${row.name}, and the newest file here has number ${newest}: this Carillon is older than the database; run the release that migrated it, or a newer one`,
      );
    if (!file)
      throw new MigrateError('migration_missing', `Migration ${row.name} was applied but its file is gone; restore it`);
    if (file.name !== row.name || file.checksum !== row.checksum)
      throw new MigrateError(
        'migration_changed',
        `Migration ${file.name} is not what was applied as ${row.name} on ${row.applied_at.toISOString()}; restore the file and put the change into a new one`,
      );
  }
  files.forEach((file, index) => {
    if (file.version !== index + 1)
      throw new MigrateError(
        'migration_gap',
        `Migration ${String(index + 1).padStart(4, '0')} is missing before ${file.name}`,
      );
  });
  const applied = new Set(history.map((row) => row.version));
  const pending = files.filter((file) => !applied.has(file.version));
  const behind = pending.find((file) => history.some((row) => row.version > file.version));
  if (behind)
    throw new MigrateError(
      'migration_gap',
      `The history has later migrations than ${behind.name} but not that one; restore the database's schema_migrations`,
    );
  return pending;
}
