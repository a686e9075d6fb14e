import type { JobStatus, Seq } from '@carillon/contract';
import type { Tx } from '../db/database.ts';
import type { Lease } from '../run/lease.ts';
import type { RunRow } from '../run/row.ts';
import { TRIED_LAST } from './close.ts';

/** A job that a claim may take, with the number to call. */
export interface Candidate {
  seq: Seq;
  /** By the cursor, or by the schedule. */
  fresh: boolean;
  status: JobStatus;
  attempts: number;
  lead_id: number;
  /** Null when the lead is erased: nobody to call. */
  phone: string | null;
}

/**
 * The lead of a job. OFFSET 0 keeps the planner from turning the look-ups by primary key into a scan of all leads, which
 * it does on stale statistics.
 */
const LEAD = `CROSS JOIN LATERAL (
  SELECT phone FROM carillon.leads WHERE business_id = $1 AND lead_id = j.lead_id OFFSET 0) l`;

/**
 * Waiting jobs whose time has come, the longest due first. That `due_us` is above 0 is what their index asks for. Those
 * that are tried last come when there are no others (`last`), and then alone.
 */
export async function dueJobs(tx: Tx, lease: Lease, now_us: number, limit: number, last = false): Promise<Candidate[]> {
  return await tx.query<Candidate>(
    `SELECT j.seq, false AS fresh, j.status, j.attempts, j.lead_id, l.phone
     FROM (SELECT seq, due_us FROM carillon.job_schedule
           WHERE business_id = $1 AND run_id = $2 AND due_us > 0 AND due_us <= $3 AND (reason = $5) = $6
           ORDER BY due_us, seq LIMIT $4) s
     CROSS JOIN LATERAL (
       SELECT * FROM carillon.outbound_call_jobs WHERE business_id = $1 AND run_id = $2 AND seq = s.seq OFFSET 0) j
     ${LEAD}
     ORDER BY s.due_us, s.seq`,
    [lease.business_id, lease.run_id, now_us, limit, TRIED_LAST, last],
  );
}

/** Fresh jobs by primary key, from the claim cursor: as cheap with ten million finished before it as with none. */
export const FRESH_JOBS = `
  SELECT j.seq, true AS fresh, j.status, j.attempts, j.lead_id, l.phone
  FROM carillon.outbound_call_jobs j
  ${LEAD}
  WHERE j.business_id = $1 AND j.run_id = $2 AND j.seq >= $3 AND j.seq < $3 + $4
  ORDER BY j.seq`;

export async function freshJobs(tx: Tx, run: RunRow, limit: number): Promise<Candidate[]> {
  return await tx.query<Candidate>(FRESH_JOBS, [run.business_id, run.run_id, run.claim_cursor, limit]);
}

/**
 * When the next waiting job is due, in microseconds of the database's clock; null where none waits, or only such as are
 * tried last: for them somebody looks now and then. That the reason is not theirs is asked by a value: `reason <> $3` is
 * next to nothing to a planner who knows of one reason only, and then it reads all that wait to find the first.
 */
export async function nextDue(tx: Tx, lease: Lease): Promise<number | null> {
  const [row] = await tx.query<{ due_us: number }>(
    `SELECT due_us FROM carillon.job_schedule
     WHERE business_id = $1 AND run_id = $2 AND due_us > 0 AND (reason = $3) = $4 ORDER BY due_us LIMIT 1`,
    [lease.business_id, lease.run_id, TRIED_LAST, false],
  );
  return row?.due_us ?? null;
}

/**
 * Numbers among the candidates that are on the line for another run, through whichever account. A run has each number
 * once, so there is nothing to look for while the business's open attempts are all its own.
 */
export async function busyNumbers(tx: Tx, lease: Lease, candidates: Candidate[]): Promise<ReadonlySet<string>> {
  const busy = await tx.query<{ to_number: string }>(
    `SELECT to_number FROM carillon.open_attempts
     WHERE business_id = $1 AND to_number = ANY ($2)`,
    [lease.business_id, candidates.flatMap((job) => job.phone ?? [])],
  );
  return new Set(busy.map((row) => row.to_number));
}

/**
 * Locks the candidates' leads in the order of their keys. Claims of one lane have its lock; those of two lanes could each
 * look whether a number is on the line before the other has committed that it is.
 */
export async function lockPersons(tx: Tx, candidates: Candidate[]): Promise<void> {
  await tx.query(
    `SELECT 1 FROM unnest($2::bigint[]) AS i (lead_id)
     CROSS JOIN LATERAL (SELECT 1 FROM carillon.leads
       WHERE business_id = $1 AND lead_id = i.lead_id OFFSET 0 FOR NO KEY UPDATE) l`,
    [tx.business_id, candidates.map((job) => job.lead_id).toSorted((a, b) => a - b)],
  );
}

/**
 * A job waits for its time in the schedule, also where it lies ahead of the cursor, as one does that somebody decided to
 * call again before the run came to it: the cursor passes it, and the schedule alone brings it.
 */
export function isUnclaimed(job: Candidate): boolean {
  return job.status === (job.fresh ? 'queued' : 'waiting');
}

/** An unclaimed job with somebody to call. */
export function hasNumber<T extends Candidate>(job: T): job is T & { phone: string } {
  return isUnclaimed(job) && job.phone !== null;
}

/**
 * The candidates up to the one that fills the last free line, in order. Those that are not callable (cancelled by
 * themselves, erased, or their number is on the line) take no line, but the cursor passes them.
 */
export function choose<T>(candidates: T[], callable: (job: T) => boolean, lines: number): T[] {
  const taken: T[] = [];
  let used = 0;
  for (const job of candidates) {
    if (used === lines) break;
    taken.push(job);
    if (callable(job)) used++;
  }
  return taken;
}
