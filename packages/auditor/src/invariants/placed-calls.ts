import { type JobRecord, madeNoCall, tookPlace } from '../rows.ts';
import type { Snapshot } from '../snapshot.ts';
import type { Violation } from '../types.ts';
import { type AuditedRun, jobViolation } from './audited.ts';

/**
 * Invariant 2, as far as the rows alone can tell: an attempt that says it was placed names its call, one that says it
 * made none names none. What the carrier says is compared in ledger-check.ts and carrier-check.ts.
 */
export function* placedCalls(audited: AuditedRun, job: JobRecord): Generator<Violation> {
  const live = job.open.some(({ state }) => state === 'placed' || state === 'ringing' || state === 'in_call');
  for (const { attempt_no, outcome, call_id } of job.tries) {
    const placed = outcome === null ? live : tookPlace(outcome);
    if (placed && call_id === null)
      yield jobViolation(2, audited, job, 'says that it was placed, and names no call', { outcome }, attempt_no);
    if (call_id !== null && madeNoCall(outcome))
      yield jobViolation(2, audited, job, `is ${outcome}, and names a call`, { outcome, call_id }, attempt_no);
  }
}

const ONE_CALL_TWO_ATTEMPTS = `
  SELECT carrier_account_id, call_id, min(attempt) AS first, max(attempt) AS last
  FROM (SELECT carrier_account_id, call_id, ARRAY[run_id, seq::bigint, attempt_no::bigint] AS attempt
        FROM carillon.attempts
        WHERE business_id = $1 AND ($2::bigint[] IS NULL OR run_id = ANY ($2)) AND call_id IS NOT NULL
        UNION ALL
        SELECT carrier_account_id, call_id, ARRAY[run_id, seq::bigint, attempt_no::bigint]
        FROM carillon.open_attempts
        WHERE business_id = $1 AND ($2::bigint[] IS NULL OR run_id = ANY ($2)) AND call_id IS NOT NULL) calls
  GROUP BY carrier_account_id, call_id HAVING min(attempt) <> max(attempt)
  ORDER BY min(attempt) LIMIT $3`;

const LISTED = 100;

/** No two attempts claim the same call. */
export async function* callsTwice(snapshot: Snapshot, run_ids: readonly number[] | null): AsyncGenerator<Violation> {
  const { business_id } = snapshot;
  type Row = { carrier_account_id: number; call_id: string; first: number[] | string[]; last: number[] | string[] };
  for (const row of await snapshot.query<Row>(ONE_CALL_TWO_ATTEMPTS, [business_id, run_ids, LISTED])) {
    const [[, , first_no = 0], [run_id = 0, seq = 0, attempt = 0]] = [row.first.map(Number), row.last.map(Number)];
    const first_job = `${row.first[0]}-${row.first[1]}`;
    yield {
      invariant: 2,
      business_id,
      run_id,
      job_id: `${run_id}-${seq}`,
      attempt,
      what: `Attempt ${attempt} of job ${run_id}-${seq} names the call of attempt ${first_no} of job ${first_job}`,
      evidence: {
        call_id: row.call_id,
        carrier_account_id: row.carrier_account_id,
        first_job,
        first_attempt: first_no,
      },
    };
  }
}

export const PLACED_STATEMENTS = { ONE_CALL_TWO_ATTEMPTS };
