import type pg from 'pg';
import { CarillonError } from '@carillon/contract';
import { connect } from './snapshot.ts';

/** What there is to audit, as the login sees it that looks across businesses. */
export interface Businesses {
  /** How many runs of each are to be audited. */
  runs: ReadonlyMap<number, number>;
  /** All that have a run. */
  known: ReadonlySet<number>;
  /** Runs of all businesses that want to be worked on. */
  runs_to_hold: number;
}

/** Throws `run_not_found`. */
export async function findBusinesses(
  discovery_url: string,
  only: { business_id?: number | undefined; run_id?: number | undefined },
): Promise<Businesses> {
  const rows = await atDiscovery(discovery_url, async (client) => {
    return await discover<{ business_id: number; wanted: number; to_hold: number }>(
      client,
      `SELECT business_id, count(*) FILTER (WHERE $1::bigint IS NULL OR run_id = $1) AS wanted,
         count(*) FILTER (WHERE status IN ('pending', 'running') AND (starts_at IS NULL OR starts_at <= now())) AS to_hold
       FROM carillon.outbound_call_runs GROUP BY business_id ORDER BY business_id`,
      [only.run_id ?? null],
    );
  });
  const wanted = rows.filter((row) => row.wanted > 0 && (only.business_id ?? row.business_id) === row.business_id);
  if (only.run_id !== undefined && wanted.length === 0) throw new CarillonError('run_not_found');
  const runs = new Map(wanted.map((row) => [row.business_id, row.wanted]));
  // One without a run is no less a business.
  if (only.business_id !== undefined && !runs.has(only.business_id)) runs.set(only.business_id, 0);
  const known = new Set(rows.map((row) => row.business_id));
  return { runs, known, runs_to_hold: rows.reduce((sum, row) => sum + row.to_hold, 0) };
}

/** How many runs the business has now. */
export async function countRuns(discovery_url: string, business_id: number): Promise<number> {
  const [row] = await atDiscovery(discovery_url, async (client) =>
    discover<{ runs: number }>(
      client,
      'SELECT count(*) AS runs FROM carillon.outbound_call_runs WHERE business_id = $1',
      [business_id],
    ),
  );
  return row?.runs ?? 0;
}

async function atDiscovery<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = await connect(url);
  try {
    return await work(client);
  } finally {
    await client.end().catch(() => {});
  }
}

/** Reads across businesses: a few columns, no writes. */
async function discover<Row extends object>(client: pg.Client, sql: string, params: unknown[]): Promise<Row[]> {
  return (await client.query<Row & pg.QueryResultRow>(sql, params)).rows as Row[];
}
