import type { z } from 'zod';
import { type Database, queryGlobal } from './database.ts';

/** The next id of a table of ours, for a row that must know its own before it is written. */
export async function reserveId<Schema extends z.ZodType>(
  db: Database,
  table: string,
  column: string,
  schema: Schema,
): Promise<z.infer<Schema>> {
  const rows = await queryGlobal<{ id: unknown }>(
    db,
    "SELECT nextval(pg_get_serial_sequence('carillon.' || $1, $2)) AS id",
    [table, column],
  );
  return schema.parse(rows[0]?.id);
}
