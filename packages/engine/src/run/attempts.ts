import { type Attempt, formatJobId, type JobKey, type Outcome } from '@carillon/contract';
import type { Tx } from '../db/database.ts';

export interface AttemptRow extends JobKey {
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

/** What is known of the attempts of some jobs, by the job's id: each attempt once, as it is known best, in order. */
export async function readAttempts(tx: Tx, jobs: readonly JobKey[]): Promise<Map<string, AttemptRow[]>> {
  const rows = await tx.query<AttemptRow>(
    `SELECT k.run_id, k.seq, a.*
     FROM unnest($2::bigint[], $3::int[]) AS k (run_id, seq)
     CROSS JOIN LATERAL (
       SELECT * FROM (
         SELECT DISTINCT ON (attempt_no) attempt_no, 'closed' AS state, outcome, cause, call_id, from_number,
                intent_us, placed_us, answered_us, ended_us, duration_s
         FROM carillon.attempts WHERE business_id = $1 AND run_id = k.run_id AND seq = k.seq
         ORDER BY attempt_no, revision DESC) closed
       UNION ALL
       SELECT attempt_no, state, NULL, cause, call_id, from_number, intent_us, placed_us, answered_us, NULL, NULL
       FROM carillon.open_attempts WHERE business_id = $1 AND run_id = k.run_id AND seq = k.seq OFFSET 0) a`,
    [tx.business_id, jobs.map((job) => job.run_id), jobs.map((job) => job.seq)],
  );
  const attempts = new Map(jobs.map((job) => [formatJobId(job), new Map<number, AttemptRow>()]));
  // One that late evidence has reopened is in both tables, and the open one, which comes later, is the truth.
  for (const row of rows) attempts.get(formatJobId(row))?.set(row.attempt_no, row);
  return new Map([...attempts].map(([job_id, known]) => [job_id, [...known.values()].sort(inOrder)]));
}

const inOrder = (a: AttemptRow, b: AttemptRow) => a.attempt_no - b.attempt_no;

export function viewAttempt(row: AttemptRow): Attempt {
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

export function isoMicroseconds(us: number | null): string | null {
  return us === null ? null : new Date(us / 1_000).toISOString();
}
