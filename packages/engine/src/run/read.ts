import {
  type Attempt,
  type BusinessId,
  CarillonError,
  effectiveJobStatus,
  formatJobId,
  type Job,
  type JobKey,
  type JobStatus,
  type Outcome,
  type Run,
  type RunId,
  type RunStatus,
} from '@carillon/contract';
import type { Database, Tx } from '../db/database.ts';
import { inBusiness } from '../db/database.ts';
import { isoMicroseconds, readAttempts, viewAttempt } from './attempts.ts';
import { type LaneNews, type RunRow, viewRun } from './row.ts';

/** Pages are keyset pages: `after` is the last item's key, never an offset. */
export interface Page<T> {
  items: T[];
  next: string | null;
}

const RUN_WITH_LANE = `
  SELECT r.*, CASE WHEN l.halted_until_us IS NULL OR l.halted_until_us > extract(epoch FROM now()) * 1000000
                   THEN l.halted_reason END AS halted_reason
  FROM carillon.outbound_call_runs r
  JOIN carillon.lanes l ON l.business_id = r.business_id AND l.carrier_account_id = r.carrier_account_id
  WHERE r.business_id = $1`;

export async function readRun(tx: Tx, run_id: RunId): Promise<Run> {
  const [row] = await tx.query<RunRow & LaneNews>(`${RUN_WITH_LANE} AND r.run_id = $2`, [tx.business_id, run_id]);
  if (!row) throw new CarillonError('run_not_found');
  return viewRun(row);
}

/** One run. Throws `run_not_found`, for another business's run in the same words. */
export async function getRun(db: Database, business_id: BusinessId, run_id: RunId): Promise<Run> {
  return await inBusiness(db, business_id, (tx) => readRun(tx, run_id));
}

/** The business's runs, newest first. */
export async function listRuns(
  db: Database,
  business_id: BusinessId,
  options: { after?: RunId | undefined; limit: number },
): Promise<Page<Run>> {
  const rows = await inBusiness(db, business_id, (tx) =>
    tx.query<RunRow & LaneNews>(
      `${RUN_WITH_LANE} AND ($2::bigint IS NULL OR r.run_id < $2) ORDER BY r.run_id DESC LIMIT $3`,
      [business_id, options.after ?? null, options.limit + 1],
    ),
  );
  return keysetPage(rows.map(viewRun), options.limit, (run) => String(run.run_id));
}

export interface JobRow {
  run_id: RunId;
  seq: JobKey['seq'];
  lead_id: number;
  phone: string | null;
  lead_name: string | null;
  run_status: RunStatus;
  status: JobStatus;
  attempts: number;
  last_outcome: Outcome | null;
  reason: string | null;
  due_us: number | null;
  updated_at: Date;
}

/** Look-ups by key for each job of a page, whatever the planner believes of the tables: see docs/adr/0003. */
const JOB = `
  SELECT j.run_id, j.seq, j.lead_id, l.phone, l.name AS lead_name, r.status AS run_status, j.status, j.attempts,
         j.last_outcome, coalesce(s.reason, j.reason) AS reason, s.due_us, j.updated_at
  FROM carillon.outbound_call_jobs j
  JOIN carillon.outbound_call_runs r ON r.business_id = j.business_id AND r.run_id = j.run_id
  CROSS JOIN LATERAL (
    SELECT phone, name FROM carillon.leads WHERE business_id = $1 AND lead_id = j.lead_id OFFSET 0) l
  LEFT JOIN LATERAL (
    SELECT due_us, reason FROM carillon.job_schedule
    WHERE business_id = $1 AND run_id = $2 AND seq = j.seq AND j.status = 'waiting' OFFSET 0) s ON true
  WHERE j.business_id = $1 AND j.run_id = $2`;

/** Rows looked through for one page: status is in no index, and the one job under review may be the millionth. */
const PAGE_SCANS_JOBS = 100_000;

/**
 * A run's jobs by number, optionally those that effectively are in one state: then a page may be short, or empty, though
 * it has a next one. Throws `run_not_found`.
 */
export async function listJobs(
  db: Database,
  business_id: BusinessId,
  run_id: RunId,
  options: { status?: JobStatus | undefined; after?: number | undefined; limit: number },
): Promise<Page<Job>> {
  return await inBusiness(db, business_id, async (tx) => {
    const [run] = await tx.query<{ status: RunStatus; filled_seq: number }>(
      'SELECT status, filled_seq FROM carillon.outbound_call_runs WHERE business_id = $1 AND run_id = $2',
      [business_id, run_id],
    );
    if (!run) throw new CarillonError('run_not_found');
    const after = options.after ?? 0;
    const to = Math.min(after + PAGE_SCANS_JOBS, run.filled_seq);
    const statuses = options.status ? rowStatusesOf(run.status, options.status) : null;
    const rows = await tx.query<JobRow>(
      `${JOB} AND j.seq > $3 AND j.seq <= $4 AND ($5::text[] IS NULL OR j.status = ANY ($5)) ORDER BY j.seq LIMIT $6`,
      [business_id, run_id, after, to, statuses, options.limit + 1],
    );
    const page = keysetPage(rows.map(viewJob), options.limit, (job) => job.job_id.split('-')[1] ?? '');
    return { items: page.items, next: page.next ?? (to < run.filled_seq ? String(to) : null) };
  });
}

/** The states in which a row may stand for a job that effectively is in `wanted`. */
function rowStatusesOf(run: RunStatus, wanted: JobStatus): JobStatus[] {
  const candidates: JobStatus[] = [wanted, 'queued', 'waiting'];
  return candidates.filter((status) => effectiveJobStatus(run, status) === wanted);
}

/** One job with all its attempts, the open one last. Throws `job_not_found`. */
export async function getJob(
  db: Database,
  business_id: BusinessId,
  key: JobKey,
): Promise<Job & { attempts_made: Attempt[] }> {
  return await inBusiness(db, business_id, async (tx) => {
    const [jobs, attempts] = await Promise.all([
      tx.query<JobRow>(`${JOB} AND j.seq = $3`, [business_id, key.run_id, key.seq]),
      readAttempts(tx, [key]),
    ]);
    if (!jobs[0]) throw new CarillonError('job_not_found');
    return { ...viewJob(jobs[0]), attempts_made: (attempts.get(formatJobId(key)) ?? []).map(viewAttempt) };
  });
}

export function viewJob(row: JobRow): Job {
  return {
    job_id: formatJobId(row),
    run_id: row.run_id,
    lead_id: row.lead_id,
    phone: row.phone,
    lead_name: row.lead_name,
    status: effectiveJobStatus(row.run_status, row.status),
    attempts: row.attempts,
    last_outcome: row.last_outcome,
    reason: row.reason,
    due_at: isoMicroseconds(row.due_us),
    updated_at: row.updated_at.toISOString(),
  };
}

/** `rows` holds one more than `limit` when there is a next page. */
export function keysetPage<T>(rows: T[], limit: number, key: (item: T) => string): Page<T> {
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  return { items, next: rows.length > limit && last ? key(last) : null };
}
