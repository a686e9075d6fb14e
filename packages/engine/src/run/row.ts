import type { FollowUpOutcome, LiveCalls, Policy, Run, RunId, RunStatus } from '@carillon/contract';
import { CarillonError, isFinalRun } from '@carillon/contract';
import type { Tx } from '../db/database.ts';

/** A run's counters: how many of its jobs are in each state. They add up to total_leads. */
export interface Counters {
  queued: number;
  waiting: number;
  in_progress: number;
  completed: number;
  failed: number;
  cancelled: number;
  skipped: number;
  needs_review: number;
}

export interface RunRow extends Counters {
  business_id: number;
  run_id: RunId;
  name: string;
  status: RunStatus;
  list_id: number | null;
  from_run_id: RunId | null;
  from_outcomes: FollowUpOutcome[] | null;
  carrier_account_id: number;
  concurrency: number;
  policy: Policy;
  answer: { say: string; language: string };
  starts_at: Date | null;
  ends_at: Date | null;
  total_leads: number;
  filled_seq: number;
  claim_cursor: number;
  swept_seq: number;
  cursor_position: number;
  control_epoch: number;
  cancel_requested_at: Date | null;
  pause_reason: string | null;
  /** What the last pause or stop wanted done with live calls; null while the run goes on. */
  live_calls: LiveCalls | null;
  locked_by_worker: string | null;
  lock_ts: Date | null;
  lease_epoch: number;
  reclaim_count: number;
  lease_claimed: boolean;
  lease_settled: boolean;
  fruitless_leases: number;
  last_error: string | null;
  created_at: Date;
  created_by: string;
  created_by_user_id: string | null;
  started_at: Date | null;
  updated_at: Date;
  ended_at: Date | null;
  idempotency_key: string | null;
  request_hash: string | null;
}

/** What the lane of a run says about why nothing is being called. */
export interface LaneNews {
  /** Null unless the lane is halted at this moment. */
  halted_reason: string | null;
}

/** Takes the run's lock, the first in the lock order (run, lane, person, job, attempt). Throws `run_not_found`. */
export async function lockRun(tx: Tx, run_id: RunId): Promise<RunRow> {
  const [run] = await tx.query<RunRow>(
    'SELECT * FROM carillon.outbound_call_runs WHERE business_id = $1 AND run_id = $2 FOR NO KEY UPDATE',
    [tx.business_id, run_id],
  );
  if (!run) throw new CarillonError('run_not_found');
  return run;
}

/** The run as the world sees it. */
export function viewRun(row: RunRow & LaneNews): Run {
  const time = (value: Date | null) => value?.toISOString() ?? null;
  return {
    run_id: row.run_id,
    name: row.name,
    status: row.status,
    total_leads: row.total_leads,
    queued: row.queued,
    waiting: row.waiting,
    in_progress: row.in_progress,
    completed: row.completed,
    failed: row.failed,
    cancelled: row.cancelled,
    skipped: row.skipped,
    needs_review: row.needs_review,
    cursor_position: row.cursor_position,
    concurrency: row.concurrency,
    list_id: row.list_id,
    from_run_id: row.from_run_id,
    carrier_account_id: row.carrier_account_id,
    last_error: row.last_error,
    waiting_reason: waitingReason(row),
    created_at: row.created_at.toISOString(),
    created_by_user_id: row.created_by_user_id,
    created_by: row.created_by,
    starts_at: time(row.starts_at),
    ends_at: time(row.ends_at),
    started_at: time(row.started_at),
    updated_at: row.updated_at.toISOString(),
    ended_at: time(row.ended_at),
    cancel_requested: row.cancel_requested_at !== null,
    can_cancel: !isFinalRun(row.status) && row.status !== 'cancelling',
    locked_by_worker: row.locked_by_worker,
    lock_ts: time(row.lock_ts),
    reclaim_count: row.reclaim_count,
  };
}

/** Derived from the row, so it is never stale and costs no write. Null: nothing is in the way. */
function waitingReason(row: RunRow & LaneNews): string | null {
  if (row.status === 'paused') return row.pause_reason ?? 'paused';
  if (row.status === 'pending')
    return row.starts_at ? `starts at ${row.starts_at.toISOString()}` : 'waiting for a worker';
  if (row.status !== 'running') return null;
  if (row.halted_reason) return `the carrier account is halted: ${row.halted_reason}`;
  // Until that is near, no worker holds it.
  if (row.queued === 0 && row.in_progress === 0 && row.waiting > 0) return 'leads wait for their next try';
  if (!row.locked_by_worker) return 'waiting for a worker';
  return null;
}
