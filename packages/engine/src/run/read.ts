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

interface JobRow {
  run_id: RunId;
  seq: JobKey['seq'];
  lead_id: number;
  phone: string;
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

/** A run's jobs by number, optionally those that effectively are in one state. Throws `run_not_found`. */
export async function listJobs(
  db: Database,
  business_id: BusinessId,
  run_id: RunId,
  options: { status?: JobStatus | undefined; after?: number | undefined; limit: number },
): Promise<Page<Job>> {
  return await inBusiness(db, business_id, async (tx) => {
    const [run] = await tx.query<{ status: RunStatus }>(
      'SELECT status FROM carillon.outbound_call_runs WHERE business_id = $1 AND run_id = $2',
      [business_id, run_id],
    );
    if (!run) throw new CarillonError('run_not_found');
    const rows = await tx.query<JobRow>(
      `${JOB} AND j.seq > $3 AND ($4::text[] IS NULL OR j.status = ANY ($4)) ORDER BY j.seq LIMIT $5`,
      [
        business_id,
        run_id,
        options.after ?? 0,
        options.status ? rowStatusesOf(run.status, options.status) : null,
        options.limit + 1,
      ],
    );
    return keysetPage(rows.map(viewJob), options.limit, (job) => job.job_id.split('-')[1] ?? '');
  });
}

/** The states in which a row may stand for a job that effectively is in `wanted`. */
function rowStatusesOf(run: RunStatus, wanted: JobStatus): JobStatus[] {
  const candidates: JobStatus[] = [wanted, 'queued', 'waiting'];
  return candidates.filter((status) => effectiveJobStatus(run, status) === wanted);
}

interface AttemptRow {
  attempt_no: number;
  state: string;
  outcome: Outcome | null;
  cause: string | null;
  call_id: string | null;
  from_number: string;
  intent_us: number;
  placed_us: number | null;
  answered_us: number | null;
  ended_us: number | null;
  duration_s: number | null;
}

/** One job with all its attempts, the open one last. Throws `job_not_found`. */
export async function getJob(
  db: Database,
  business_id: BusinessId,
  key: JobKey,
): Promise<Job & { attempts_made: Attempt[] }> {
  return await inBusiness(db, business_id, async (tx) => {
    const params = [business_id, key.run_id, key.seq];
    const [jobs, attempts] = await Promise.all([
      tx.query<JobRow>(`${JOB} AND j.seq = $3`, params),
      tx.query<AttemptRow>(
        `SELECT * FROM (
           SELECT DISTINCT ON (attempt_no) attempt_no, 'closed' AS state, outcome, cause, call_id, from_number,
                  intent_us, placed_us, answered_us, ended_us, duration_s
           FROM carillon.attempts WHERE business_id = $1 AND run_id = $2 AND seq = $3
           ORDER BY attempt_no, revision DESC) closed
         UNION ALL
         SELECT attempt_no, state, NULL, cause, call_id, from_number, intent_us, placed_us, answered_us, NULL, NULL
         FROM carillon.open_attempts WHERE business_id = $1 AND run_id = $2 AND seq = $3
         ORDER BY attempt_no`,
        params,
      ),
    ]);
    if (!jobs[0]) throw new CarillonError('job_not_found');
    return { ...viewJob(jobs[0]), attempts_made: attempts.map(viewAttempt) };
  });
}

function viewJob(row: JobRow): Job {
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

function viewAttempt(row: AttemptRow): Attempt {
  return {
    attempt_no: row.attempt_no,
    state: row.state,
    outcome: row.outcome,
    cause: row.cause,
    call_id: row.call_id,
    from: row.from_number,
    intent_at: new Date(row.intent_us / 1_000).toISOString(),
    placed_at: isoMicroseconds(row.placed_us),
    answered_at: isoMicroseconds(row.answered_us),
    ended_at: isoMicroseconds(row.ended_us),
    duration_s: row.duration_s,
  };
}

function isoMicroseconds(us: number | null): string | null {
  return us === null ? null : new Date(us / 1_000).toISOString();
}

/** `rows` holds one more than `limit` when there is a next page. */
export function keysetPage<T>(rows: T[], limit: number, key: (item: T) => string): Page<T> {
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  return { items, next: rows.length > limit && last ? key(last) : null };
}
