import type { Client } from 'pg';
import { appGrants, appUpdates } from '../src/db/access-table.ts';
import { GLOBAL_TABLES } from './catalog-rules.ts';
import type { WallTable } from './walls.ts';

/** What there is to be tried, read from the catalog of a seeded database as the superuser. */

export interface AnyTable {
  name: string;
  /** All of them. */
  columns: string[];
}

export async function readTables(client: Client): Promise<AnyTable[]> {
  const { rows } = await client.query<AnyTable>(
    `SELECT c.relname::text AS name, array_agg(a.attname::text ORDER BY a.attnum) AS columns
       FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      WHERE c.relnamespace = 'carillon'::regnamespace AND c.relkind IN ('r', 'p') GROUP BY c.relname ORDER BY 1`,
  );
  return rows;
}

export async function readSequences(client: Client): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    "SELECT relname::text AS name FROM pg_class WHERE relnamespace = 'carillon'::regnamespace AND relkind = 'S' ORDER BY 1",
  );
  return rows.map(({ name }) => name);
}

export async function readFunctions(client: Client): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    "SELECT proname::text AS name FROM pg_proc WHERE pronamespace = 'carillon'::regnamespace ORDER BY 1",
  );
  return rows.map(({ name }) => name);
}

interface Key {
  name: string;
  /** p, u or f. */
  kind: string;
  columns: string[];
}

type Row = Record<string, unknown>;

export async function readWallTables(client: Client): Promise<WallTable[]> {
  const tables: WallTable[] = [];
  for (const { name } of await readTables(client)) {
    if (name in GLOBAL_TABLES) continue;
    const { rows } = await client.query<{ columns: string[]; numbers: string[]; keys: Key[] | null }>(
      `SELECT array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE a.attgenerated = '') AS columns,
              array_agg(a.attname::text) FILTER (WHERE a.atttypid IN ('int4'::regtype, 'int8'::regtype)) AS numbers,
              (SELECT jsonb_agg(jsonb_build_object('name', k.conname, 'kind', k.contype, 'columns', ARRAY(
                  SELECT attname FROM pg_attribute WHERE attrelid = k.conrelid AND attnum = ANY (k.conkey)
                   ORDER BY array_position(k.conkey, attnum))))
                 FROM pg_constraint k WHERE k.conrelid = a.attrelid AND k.contype IN ('p', 'u', 'f')) AS keys
         FROM pg_attribute a WHERE a.attrelid = ('carillon.' || $1)::regclass AND a.attnum > 0 AND NOT a.attisdropped
        GROUP BY a.attrelid`,
      [name],
    );
    const seed = await client.query<{ row: Row }>(
      `SELECT to_jsonb(t) AS row FROM carillon.${name} t WHERE business_id IN (1, 2) ORDER BY business_id`,
    );
    const [ours, theirs] = seed.rows.map(({ row }) => row);
    const [facts] = rows;
    if (!facts || !ours || !theirs || seed.rows.length !== 2)
      throw new Error(`catalog-seed.ts must give ${name} one row of business 1 and one of business 2`);
    const keys = facts.keys ?? [];
    tables.push({
      name,
      columns: facts.columns,
      ours: JSON.stringify(ours),
      theirs: JSON.stringify(theirs),
      alike: keys.some((key) => key.kind !== 'f' && rest(key).every((c) => ours[c] !== null && ours[c] === theirs[c])),
      foreign_keys: keys
        .filter((key) => key.kind === 'f' && rest(key).length > 0)
        .map((key) => ({ name: key.name, row: JSON.stringify(reachingRow(key, keys, facts.numbers, ours, theirs)) })),
      may: appGrants[name] ?? [],
      updates: appUpdates[name] ?? [],
    });
  }
  return tables;
}

const rest = (key: Key) => key.columns.filter((column) => column !== 'business_id');

/** Ours, but referring to theirs through one key; and no duplicate of ours, so that nothing else is in its way. */
function reachingRow(key: Key, keys: Key[], numbers: string[], ours: Row, theirs: Row): Row {
  const row: Row = { ...ours };
  const referring = new Set(keys.filter(({ kind }) => kind === 'f').flatMap((other) => other.columns));
  for (const unique of keys.filter(({ kind }) => kind !== 'f'))
    for (const column of rest(unique)) if (!referring.has(column) && numbers.includes(column)) row[column] = 1_000_000;
  for (const column of rest(key)) row[column] = theirs[column];
  return row;
}
