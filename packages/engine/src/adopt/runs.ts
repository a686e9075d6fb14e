import type { BusinessId } from '@carillon/contract';
import { type Database, discover, inBusiness, type Tx } from '../db/database.ts';
import type { OldRun } from './old-rows.ts';
import type { Tally } from './tally.ts';

/** Which of the old runs' ids are those of runs here already, of whatever business: a run's id is told to people. */
export async function takenRunIds(db: Database, runs: readonly OldRun[]): Promise<Set<number>> {
  const taken = await discover<{ run_id: number }>(
    db,
    'SELECT DISTINCT run_id FROM carillon.outbound_call_runs WHERE run_id = ANY ($1)',
    [runs.map((run) => run.id)],
  );
  return new Set(taken.map((run) => run.run_id));
}

/** Counts a run that is met for the first time. Returns the id that it keeps; null: it gets a new one. */
export function numberRun(run: OldRun, taken: ReadonlySet<number>, tally: Tally, kept_id: number): number | null {
  const keeps = run.id > 0 && run.id <= kept_id && !taken.has(run.id);
  tally.runs.read++;
  tally.runs[keeps ? 'kept_id' : 'new_id']++;
  return keeps ? run.id : null;
}

/** Those of a page's runs that this adoption has met, and the ids that runs of any adoption were given. */
export async function readMetRuns(tx: Tx, adoption_id: number | null, runs: readonly OldRun[]) {
  const ids = runs.map((run) => run.id);
  const [met, given] = await Promise.all([
    tx.query<{ old_run_id: number; jobs: number; made: boolean; run_id: number }>(
      `SELECT old_run_id, run_id, jobs, made_at IS NOT NULL AS made FROM carillon.adopted_runs
       WHERE business_id = $1 AND adoption_id = $2 AND old_run_id = ANY ($3)`,
      [tx.business_id, adoption_id, ids],
    ),
    tx.query<{ run_id: number }>(
      'SELECT run_id FROM carillon.adopted_runs WHERE business_id = $1 AND run_id = ANY ($2)',
      [tx.business_id, ids],
    ),
  ]);
  return { met, given: given.map((run) => run.run_id) };
}

/** Notes a page of a business's runs with the numbers that they will have. Those that are noted stay as they are. */
export async function noteRuns(
  db: Database,
  business_id: BusinessId,
  adoption_id: number,
  runs: readonly OldRun[],
  kept_id: number,
): Promise<void> {
  const elsewhere = await takenRunIds(db, runs);
  await inBusiness(db, business_id, async (tx) => {
    const [adoption] = await tx.query<{ tally: Tally }>(
      'SELECT tally FROM carillon.adoptions WHERE business_id = $1 AND adoption_id = $2 FOR UPDATE',
      [business_id, adoption_id],
    );
    if (!adoption) throw new Error('an adoption was begun and is not there');
    const { met, given } = await readMetRuns(tx, adoption_id, runs);
    const known = new Set(met.map((run) => run.old_run_id));
    const taken = new Set([...elsewhere, ...given]);
    const fresh = runs.filter((run) => !known.has(run.id));
    if (fresh.length === 0) return;
    const numbers = fresh.map((run) => numberRun(run, taken, adoption.tally, kept_id));
    tx.send(
      `WITH added AS (
         INSERT INTO carillon.adopted_runs (business_id, adoption_id, old_run_id, run_id, row)
         SELECT $1, $2, r.old_run_id,
           coalesce(r.run_id, nextval(pg_get_serial_sequence('carillon.outbound_call_runs', 'run_id'))), r.row::jsonb
         FROM unnest($3::bigint[], $4::bigint[], $5::text[]) AS r (old_run_id, run_id, row)
         RETURNING 1)
       SELECT 1 FROM added`,
      [business_id, adoption_id, fresh.map((run) => run.id), numbers, fresh.map((run) => run.text)],
      fresh.length,
    );
    tx.send('UPDATE carillon.adoptions SET tally = $3::jsonb WHERE business_id = $1 AND adoption_id = $2', [
      business_id,
      adoption_id,
      JSON.stringify(adoption.tally),
    ]);
  });
}
