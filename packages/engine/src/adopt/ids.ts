import { type Database, queryGlobal } from '../db/database.ts';

const COLUMNS = { businesses: 'business_id', leads: 'lead_id', outbound_call_runs: 'run_id' } as const;
const STEP = 1_000_000;

/**
 * Moves the sequence of a table's ids past `id`, so that nobody is ever given an id that an old row keeps. By taking
 * numbers, which the application's login may do; setting the sequence would need its owner's.
 */
export async function moveSequencePast(db: Database, table: keyof typeof COLUMNS, id: number): Promise<void> {
  const sequence = [`carillon.${table}`, COLUMNS[table]];
  const [before] = await queryGlobal<{ last: string | null }>(
    db,
    'SELECT pg_sequence_last_value(pg_get_serial_sequence($1, $2)::regclass) AS last',
    sequence,
  );
  for (let last = Number(before?.last ?? 0); last < id; ) {
    const [after] = await queryGlobal<{ last: string }>(
      db,
      `SELECT max(nextval(s.name)) AS last
       FROM (SELECT pg_get_serial_sequence($1, $2)::regclass AS name OFFSET 0) s, generate_series(1, $3::int)`,
      [...sequence, Math.min(id - last, STEP)],
    );
    last = Number(after?.last);
  }
}
