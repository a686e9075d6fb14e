import type { Tx } from '../db/database.ts';
import type { Kept, Known, OpenRun } from './decide.ts';
import type { JudgedJob, TakenJob } from './judge.ts';

/** What the database knows of a batch's rows. */
export interface Stored extends Known {
  run(old_run_id: number): (OpenRun & { run_id: number }) | undefined;
  leadOf(phone: string): number | undefined;
}

/**
 * Reads what the database knows of the rows of a batch: nothing of an adoption that has not begun (`adoption_id` null).
 * By one index look-up for each row, whatever the planner believes of tables that are just being filled: hence OFFSET 0.
 */
export async function readStored(tx: Tx, adoption_id: number | null, batch: readonly JudgedJob[]): Promise<Stored> {
  const taken = batch.filter((job): job is TakenJob => job.drop === null);
  const unique = <T>(values: readonly T[]) => [...new Set(values)];
  const phones = unique(taken.map((job) => job.phone));
  const old_leads = unique(
    batch.flatMap((job) => (job.drop === null ? (job.old_lead_id ?? []) : (job.bad_lead?.id ?? []))),
  );
  const old_runs = unique(taken.map((job) => job.run_id));
  const [runRows, leadRows, metRows, takenRows] = await Promise.all([
    findRuns(tx, adoption_id, old_runs),
    tx.query<{ phone: string; lead_id: number }>(
      `SELECT p.phone, l.lead_id FROM unnest($2::text[]) AS p (phone)
       CROSS JOIN LATERAL (
         SELECT lead_id FROM carillon.leads WHERE business_id = $1 AND phone = p.phone OFFSET 0) l`,
      [tx.business_id, phones],
    ),
    findMet(tx, adoption_id, old_leads),
    tx.query<{ lead_id: number }>(
      `SELECT l.lead_id FROM unnest($2::bigint[]) AS o (id)
       CROSS JOIN LATERAL (
         SELECT lead_id FROM carillon.leads WHERE business_id = $1 AND lead_id = o.id OFFSET 0) l`,
      [tx.business_id, old_leads],
    ),
  ]);
  const runs = new Map(runRows.map((run) => [run.old_run_id, run]));
  const leads = new Map(leadRows.map((lead) => [lead.phone, lead.lead_id]));
  const met = new Set(metRows.map((row) => row.old_lead_id));
  const ids = new Set(takenRows.map((row) => row.lead_id));
  const kept = await findKept(tx, taken, runs, leads);
  return {
    run: (old_run_id) => runs.get(old_run_id),
    leadOf: (phone) => leads.get(phone),
    hasPhone: (phone) => leads.has(phone),
    hasMet: (old_lead_id) => met.has(old_lead_id),
    isTaken: (lead_id) => ids.has(lead_id),
    kept(old_run_id, phone) {
      const [run, lead_id] = [runs.get(old_run_id), leads.get(phone)];
      return run && lead_id !== undefined ? kept.get(`${run.run_id} ${lead_id}`) : undefined;
    },
  };
}

interface RunRow extends OpenRun {
  old_run_id: number;
  run_id: number;
}

async function findRuns(tx: Tx, adoption_id: number | null, old_runs: readonly number[]): Promise<RunRow[]> {
  return await tx.query<RunRow>(
    `SELECT old_run_id, run_id, jobs, made_at IS NOT NULL AS made FROM carillon.adopted_runs
     WHERE business_id = $1 AND adoption_id = $2 AND old_run_id = ANY ($3)`,
    [tx.business_id, adoption_id, old_runs],
  );
}

async function findMet(tx: Tx, adoption_id: number | null, old_leads: readonly number[]) {
  return await tx.query<{ old_lead_id: number }>(
    `SELECT o.id AS old_lead_id FROM unnest($3::bigint[]) AS o (id)
     CROSS JOIN LATERAL (
       (SELECT 1 FROM carillon.adopted_leads
         WHERE business_id = $1 AND adoption_id = $2 AND old_lead_id = o.id OFFSET 0)
       UNION ALL
       (SELECT 1 FROM carillon.adopted_rows
         WHERE business_id = $1 AND adoption_id = $2 AND kind = 'lead' AND old_id = o.id OFFSET 0)) met`,
    [tx.business_id, adoption_id, old_leads],
  );
}

async function findKept(
  tx: Tx,
  taken: readonly TakenJob[],
  runs: ReadonlyMap<number, RunRow>,
  leads: ReadonlyMap<string, number>,
): Promise<Map<string, Kept>> {
  const places = taken.flatMap((job) => {
    const [run, lead_id] = [runs.get(job.run_id), leads.get(job.phone)];
    return run && lead_id !== undefined ? [{ run_id: run.run_id, lead_id }] : [];
  });
  if (places.length === 0) return new Map();
  const rows = await tx.query<Kept & { run_id: number; lead_id: number }>(
    `SELECT p.run_id, p.lead_id, j.seq, j.rank, j.status, j.old_job_id, j.old_lead_id
     FROM unnest($2::bigint[], $3::bigint[]) AS p (run_id, lead_id)
     CROSS JOIN LATERAL (
       SELECT * FROM carillon.adopted_jobs
       WHERE business_id = $1 AND run_id = p.run_id AND lead_id = p.lead_id OFFSET 0) j`,
    [tx.business_id, places.map((place) => place.run_id), places.map((place) => place.lead_id)],
  );
  return new Map(rows.map((row) => [`${row.run_id} ${row.lead_id}`, row]));
}
