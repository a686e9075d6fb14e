import type { LedgerEntry } from '@carillon/carrier-sim';
import { CALLBACK_ROUTE, CallbackPath } from '@carillon/contract';
import type { Postgres } from './postgres.ts';

/** A call, by the carrier's own books. */
export interface Call {
  sid: string;
  account: string;
  to: string;
  created_us: number;
  /** Null: it lives. */
  ended_us: number | null;
  status: LedgerEntry['status'];
  /** Whose it is, by the address that it was given for its events. */
  attempt: CallbackPath | null;
}

const NAMES = [...CALLBACK_ROUTE.matchAll(/:(\w+)/g)].map(([, name = '']) => name);
const FINAL: readonly string[] = ['completed', 'busy', 'no-answer', 'canceled', 'failed'];

export function readCalls(ledger: readonly LedgerEntry[]): Call[] {
  return ledger.map(({ sid, account, to, created_us, status, statuses, url }) => {
    const parts = URL.parse(url ?? '')?.pathname.split('/') ?? [];
    const first = parts.lastIndexOf('carriers') + 1;
    const named = Object.fromEntries(NAMES.map((name, index) => [name, parts[first + index]]));
    const ended_us = statuses.find((one) => FINAL.includes(one.status))?.at_us ?? null;
    return { sid, account, to, created_us, ended_us, status, attempt: CallbackPath.safeParse(named).data ?? null };
  });
}

/** An attempt, as one of its revisions has it. */
export interface AttemptRow {
  business_id: number;
  run_id: number;
  seq: number;
  attempt_no: number;
  carrier_account_id: number;
  intent_us: number;
  outcome: string;
  cause: string | null;
}

export interface JobRow {
  business_id: number;
  run_id: number;
  seq: number;
  phone: string;
  status: string;
  last_outcome: string | null;
  reason: string | null;
}

export interface RunRow {
  business_id: number;
  run_id: number;
  status: string;
  total_leads: number;
  concurrency: number;
  reclaim_count: number;
  last_error: string | null;
}

export interface Rows {
  runs: RunRow[];
  jobs: JobRow[];
  /** As they stand at the end, in their newest revision. */
  attempts: AttemptRow[];
  /** What was believed of them before late evidence, in the order of the revisions. */
  earlier: AttemptRow[];
}

export async function readRows(postgres: Postgres): Promise<Rows> {
  const revisions = await postgres.rows<AttemptRow & { newest: boolean }>(
    `SELECT business_id, run_id, seq, attempt_no, carrier_account_id, intent_us, outcome, cause,
       revision = max(revision) OVER (PARTITION BY business_id, run_id, seq, attempt_no) AS newest
     FROM (SELECT business_id, run_id, seq, attempt_no, revision, carrier_account_id, intent_us, outcome, cause
           FROM carillon.attempts
           UNION ALL
           SELECT business_id, run_id, seq, attempt_no, revision, carrier_account_id, intent_us, 'open', cause
           FROM carillon.open_attempts) every
     ORDER BY business_id, run_id, seq, attempt_no, revision`,
  );
  return {
    runs: await postgres.rows<RunRow>(
      `SELECT business_id, run_id, status, total_leads, concurrency, reclaim_count, last_error
       FROM carillon.outbound_call_runs ORDER BY business_id, run_id`,
    ),
    // A queued or waiting row of a stopped run is cancelled, whether it was swept yet or not.
    jobs: await postgres.rows<JobRow>(
      `SELECT j.business_id, j.run_id, j.seq, l.phone, j.last_outcome, j.reason,
         CASE WHEN r.status IN ('cancelled', 'failed') AND j.status IN ('queued', 'waiting') THEN 'cancelled'
              ELSE j.status END AS status
       FROM carillon.outbound_call_jobs j
       JOIN carillon.outbound_call_runs r USING (business_id, run_id)
       JOIN carillon.leads l USING (business_id, lead_id) ORDER BY j.business_id, j.run_id, j.seq`,
    ),
    attempts: revisions.filter(({ newest }) => newest),
    earlier: revisions.filter(({ newest }) => !newest),
  };
}
