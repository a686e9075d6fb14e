import { MIGRATIONS_DIRECTORY, readMigrations } from '../db/migration-files.ts';
import { checkSchema, LoginError } from '../db/check-login.ts';
import { type Database, queryGlobal, sqlState } from '../db/database.ts';
import { MigrateError } from '../db/migrate-error.ts';

export interface MigrationsProbe {
  /** Null: history and files are one story, each by its checksum. */
  problem: { code: string; sentence: string } | null;
  schema_version: number;
  /** Of this release. */
  newest_version: number;
  /** Files whose SHA-256 is the one that stands in the history. */
  checksums_equal: number;
}

/** Compares what the database says was applied with this release's files. Throws connection errors alone. */
export async function probeMigrations(db: Database, directory = MIGRATIONS_DIRECTORY): Promise<MigrationsProbe> {
  const problem = await checkSchema(db, directory).then(
    () => null,
    (error: unknown) => {
      if (!(error instanceof LoginError) && !(error instanceof MigrateError)) throw error;
      return { code: error.code, sentence: error.message };
    },
  );
  const files = await readMigrations(directory).catch(() => []);
  const applied = await queryGlobal<{ version: number; checksum: string }>(
    db,
    'SELECT version, checksum FROM carillon.schema_migrations ORDER BY version',
  ).catch((error: unknown) => {
    // No tables yet, or none that this login may read: the problem says so.
    if (problem && sqlState(error)) return [];
    throw error;
  });
  const checksums = new Map(applied.map(({ version, checksum }) => [version, checksum]));
  return {
    problem,
    schema_version: applied.at(-1)?.version ?? 0,
    newest_version: files.at(-1)?.version ?? 0,
    checksums_equal: files.filter(({ version, checksum }) => checksums.get(version) === checksum).length,
  };
}
