import type { BusinessId, JobStatus, LeadHistory, LeadId, RunId, Seq } from '@carillon/contract';
import { formatJobId } from '@carillon/contract';
import type { Database, Tx } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import { readAttempts, viewAttempt } from '../run/attempts.ts';
import { type JobRow, keysetPage, type Page, viewJob } from '../run/read.ts';
import { readLead } from './view.ts';

/** Runs looked through for one page. No index leads from a lead to its jobs: each run is asked for it by its key. */
const PAGE_ASKS_RUNS = 5_000;

/**
 * A lead's jobs with their attempts, the newest run first; `after` is a run. A page may be short, or empty, though it
 * has a next one, where a business has thousands of runs. Throws `lead_not_found`.
 */
export async function leadHistory(
  db: Database,
  business_id: BusinessId,
  lead_id: LeadId,
  options: { after?: RunId | undefined; limit: number },
): Promise<Page<LeadHistory>> {
  return await inBusiness(db, business_id, async (tx) => {
    await readLead(tx, lead_id);
    const [edge] = await tx.query<{ run_id: RunId }>(
      `SELECT run_id FROM carillon.outbound_call_runs WHERE business_id = $1 AND ($2::bigint IS NULL OR run_id < $2)
       ORDER BY run_id DESC OFFSET $3 LIMIT 1`,
      [business_id, options.after ?? null, PAGE_ASKS_RUNS - 1],
    );
    const rows = await readJobsOf(tx, lead_id, options.after ?? null, edge?.run_id ?? 0, options.limit + 1);
    const page = keysetPage(rows, options.limit, (row) => String(row.run_id));
    const attempts = await readAttempts(tx, page.items);
    return {
      items: page.items.map((row) => ({
        ...viewJob(row),
        run_name: row.run_name,
        attempts_made: (attempts.get(formatJobId(row)) ?? []).map(viewAttempt),
      })),
      next: page.next ?? (edge ? String(edge.run_id) : null),
    };
  });
}

/**
 * The job of the lead `$2` in the run `r`. Between two bounds that are the same, and in its order: so only the index on
 * leads will do. Asked for with `=`, the primary key looks as cheap while runs look small, and then reads a whole run.
 */
const LEADS_JOB = `
  SELECT * FROM carillon.outbound_call_jobs
  WHERE business_id = $1 AND run_id = r.run_id AND lead_id >= $2 AND lead_id <= $2 ORDER BY lead_id LIMIT 1`;

async function readJobsOf(tx: Tx, lead_id: LeadId, after: RunId | null, from: number, limit: number) {
  return await tx.query<JobRow & { run_name: string }>(
    `SELECT j.run_id, j.seq, j.lead_id, l.phone, l.name AS lead_name, r.status AS run_status, r.name AS run_name,
            j.status, j.attempts, j.last_outcome, coalesce(s.reason, j.reason) AS reason, s.due_us, j.updated_at
     FROM carillon.outbound_call_runs r
     CROSS JOIN LATERAL (${LEADS_JOB}) j
     CROSS JOIN LATERAL (
       SELECT phone, name FROM carillon.leads WHERE business_id = $1 AND lead_id = $2 OFFSET 0) l
     LEFT JOIN LATERAL (
       SELECT due_us, reason FROM carillon.job_schedule
       WHERE business_id = $1 AND run_id = j.run_id AND seq = j.seq AND j.status = 'waiting' OFFSET 0) s ON true
     WHERE r.business_id = $1 AND ($3::bigint IS NULL OR r.run_id < $3) AND r.run_id >= $4
     ORDER BY r.run_id DESC LIMIT $5`,
    [tx.business_id, lead_id, after, from, limit],
  );
}

export interface OpenJob {
  run_id: RunId;
  seq: Seq;
  status: JobStatus;
}

/** The lead's jobs in runs that have not ended, in the order of the runs. */
export async function jobsInOpenRuns(tx: Tx, lead_id: LeadId): Promise<OpenJob[]> {
  return await tx.query<OpenJob>(
    `SELECT r.run_id, j.seq, j.status FROM carillon.outbound_call_runs r CROSS JOIN LATERAL (${LEADS_JOB}) j
     WHERE r.business_id = $1 AND r.ended_at IS NULL ORDER BY r.run_id`,
    [tx.business_id, lead_id],
  );
}
