import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { onTestFinished } from 'vitest';

/** A directory with these migrations, by file name; it is removed at the end of the test. */
export async function migrationFiles(files: Readonly<Record<string, string>>): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'carillon-migrations-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) await writeFile(path.join(directory, name), text);
  return directory;
}

/** A table, then an index that is built without a transaction, then another table. */
export const BOTH_MODES: Readonly<Record<string, string>> = {
  '0001_things.sql': `
    CREATE TABLE carillon.things (business_id bigint, id bigint, name text, PRIMARY KEY (business_id, id));
    INSERT INTO carillon.things SELECT 1, n, 'thing; ' || n FROM generate_series(1, 100) n;`,
  '0002_index.sql': `-- carillon: no-transaction
    ALTER TABLE carillon.things ADD COLUMN IF NOT EXISTS size integer NOT NULL DEFAULT 0;
    DROP INDEX CONCURRENTLY IF EXISTS carillon.things_name;
    CREATE INDEX CONCURRENTLY things_name ON carillon.things (business_id, name);`,
  '0003_more.sql': 'CREATE TABLE carillon.more (business_id bigint PRIMARY KEY);',
};
