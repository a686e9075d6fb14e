import type { JobStatus, Outcome, Policy, RunStatus, Seq } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import { trail, trailRun } from '../audit/trail.ts';
import type { Tx } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import type { Counters, RunRow } from '../run/row.ts';
import { BACK_OFF_LONGEST_US, RETRY } from '../run/set-back.ts';
import { type Closing, NOBODY_SAID, type OpenAttempt, OWN_ERROR } from './attempt.ts';
import { countRefusals, judgeUnlisted } from './refusals.ts';
import { changeJobs } from './stretches.ts';

/** What becomes of a job whose attempt has ended. */
export interface JobEnd {
  status: Exclude<JobStatus, 'queued' | 'in_progress' | 'skipped'>;
  reason: string | null;
  /** Set for `waiting`. */
  due_us: number | null;
}

export interface ClosedAttempt {
  attempt: OpenAttempt;
  closing: Closing;
  /** Who brought the evidence. */
  actor: Actor;
}

/** What is known of a job's attempts before the one that ends. */
interface History {
  calls_before: number;
  fruitless: number;
  refused: number;
}

/** A run that makes nobody wait any more: its jobs are done once their open attempts are. */
const STOPPING: readonly RunStatus[] = ['cancelling', 'cancelled', 'failed'];

/**
 * Decides a job's fate. The only way back to the pool: `waiting` while the run goes on (never `queued`, which lies
 * behind the claim cursor), `cancelled` when the run or the job was told to stop.
 *
 * `calls_before` is how many calls this job had before this attempt; `fruitless`, how many attempts in which whoever
 * dialled it came to grief, this one included; `refused`, how many that were refused for the lane's sake though the lane
 * takes others.
 */
export function endJob(
  run: { status: RunStatus; policy: Policy },
  { attempt, closing }: Omit<ClosedAttempt, 'actor'>,
  { calls_before, fruitless, refused, limits }: History & { limits: Limits },
  now_us: number,
): JobEnd {
  if (closing.next === 'review') {
    const reason = attempt.hang_up === 'job' ? CANCELLED_UNHEARD : closing.cause;
    return { status: 'needs_review', reason, due_us: null };
  }
  const stopped = STOPPING.includes(run.status) || attempt.hang_up === 'job';
  const pool = (reason: string, due_us: number) => toPool(reason, due_us, stopped);
  if (closing.next === 'pool') {
    // A policy may ask that a call which might have been is never made again by itself.
    if (closing.outcome === 'absent' && run.policy.review_always && !stopped)
      return { status: 'needs_review', reason: 'the policy asks for a review', due_us: null };
    if (fruitless >= limits.fruitless_attempts && !stopped)
      return {
        status: 'needs_review',
        reason: `given up: ${fruitless} dials ended with whoever dialled`,
        due_us: null,
      };
    if (refused >= limits.refused_attempts && !stopped)
      return {
        status: 'needs_review',
        reason: `given up: refused ${refused} times with ${closing.cause}, while others were called`,
        due_us: null,
      };
    const reason = fruitless >= TRIED_LAST_AFTER ? TRIED_LAST : closing.outcome;
    return pool(reason, now_us + backOffUs(closing.outcome, attempt.attempt_no));
  }
  if (closing.outcome === 'completed') return { status: 'completed', reason: null, due_us: null };
  if (closing.outcome === 'cancelled' && stopped) return { status: 'cancelled', reason: null, due_us: null };
  const retry = isRetryable(closing.outcome) ? run.policy.retry?.[closing.outcome] : undefined;
  if (retry && calls_before < retry.times) return pool(RETRY, now_us + retry.after_s * 1_000_000);
  return { status: 'failed', reason: closing.cause, due_us: null };
}

/**
 * Why a job is under review that was cancelled while nobody could say whether it was being called. The wish to hang up
 * went with its open attempt, and is read from here if the call shows up: see `late.ts`. The cause is in the history.
 */
export const CANCELLED_UNHEARD = 'cancelled while nobody could say whether it was being called';

/** Back to the pool, under the run's lock: to wait, never `queued`, which lies behind the claim cursor. */
export function toPool(reason: string, due_us: number, stopped: boolean): JobEnd {
  return stopped ? { status: 'cancelled', reason: null, due_us: null } : { status: 'waiting', reason, due_us };
}

/**
 * Why a job waits that is dialled when there is nothing else to do, and alone: those that were dialled beside it when
 * its worker died are not to die with it again.
 */
export const TRIED_LAST = 'tried last: whoever dialled it came to grief';
/** Once may be chance, and twice is for those beside it too. */
const TRIED_LAST_AFTER = 2;

const BACK_OFF_US = 100_000;

/** The first tries of what was not dialled, or refused, follow at once; one that never gets through must not spin. */
function backOffUs(outcome: Outcome, attempt_no: number): number {
  if (outcome === 'absent' || attempt_no <= 3) return 0;
  return Math.min(BACK_OFF_US * 2 ** Math.min(attempt_no - 3, 20), BACK_OFF_LONGEST_US);
}

type Retryable = keyof NonNullable<Policy['retry']>;

function isRetryable(outcome: Outcome): outcome is Retryable {
  return outcome === 'busy' || outcome === 'no_answer' || outcome === 'voicemail' || outcome === 'failed';
}

/**
 * Closes attempts of one run under its lock: history, jobs, schedule, counters and, when nothing is left, the run
 * itself, in the transaction of the caller. Whoever brings the open attempts of a stopping run to zero makes it final.
 * Returns the run's new status.
 */
export async function closeAttempts(
  tx: Tx,
  run: RunRow,
  brought: ClosedAttempt[],
  now_us: number,
  limits: Limits,
): Promise<RunStatus> {
  const last = brought.at(-1);
  if (!last) return run.status;
  const closed = await judgeUnlisted(tx, run, brought, limits);
  const refused = closed.find(({ closing }) => closing.lane_refused);
  const was_trusted = refused ? await haltLane(tx, run, refused, now_us, limits) : false;
  // Of several that are refused together the first alone can say that the lane was trusted until then.
  const blamed = was_trusted && refused?.closing.refusal === 'lane' ? refused : null;
  const [calls, griefs, refusals] = await Promise.all([
    countCallsBefore(tx, run, closed),
    countFruitless(tx, run, closed),
    blamed ? countRefusals(tx, blamed) : 0,
  ]);
  const ends = closed.map((item) => {
    const { seq } = item.attempt;
    const history = {
      calls_before: calls.get(seq) ?? 0,
      fruitless: griefs.get(seq) ?? 0,
      refused: item === blamed ? refusals : 0,
      limits,
    };
    return { ...item, end: endJob(run, item, history, now_us) };
  });
  moveToHistory(tx, run, closed, blamed, now_us);
  const groups = Map.groupBy(ends, ({ end, closing }) => JSON.stringify([end.status, closing.outcome, end.reason]));
  for (const group of groups.values()) moveJobs(tx, run, group);
  scheduleJobs(
    tx,
    run,
    ends.flatMap(({ attempt: { seq }, end: { due_us, reason } }) => (due_us === null ? [] : [{ seq, due_us, reason }])),
  );
  const delta: Partial<Counters> = { in_progress: -closed.length };
  for (const { end } of ends) delta[end.status] = (delta[end.status] ?? 0) + 1;
  const settled = ends.some(({ closing }) => closing.next === 'settle');
  const gave_up = ends.some(({ end, closing }) => end.status === 'needs_review' && closing.next === 'pool');
  return moveCounters(tx, run, delta, { settled, gave_up, limits, actor: last.actor });
}

/**
 * Changes a locked run's counters and makes it final when nothing is left to do. Returns the run's status after it.
 * The database checks that the counters add up to total_leads.
 */
export function moveCounters(
  tx: Tx,
  run: RunRow,
  delta: Partial<Counters>,
  options: { settled: boolean; gave_up?: boolean; limits: Limits; actor: Actor },
): RunStatus {
  const of = (name: keyof Counters) => run[name] + (delta[name] ?? 0);
  const done = of('queued') + of('waiting') + of('in_progress') === 0;
  const final = done && run.ended_at === null ? finalStatus(run, options.limits) : null;
  const status = final ?? run.status;
  tx.send(
    `UPDATE carillon.outbound_call_runs SET queued = queued + $3, waiting = waiting + $4,
       in_progress = in_progress + $5, completed = completed + $6, failed = failed + $7, cancelled = cancelled + $8,
       skipped = skipped + $9, needs_review = needs_review + $10, status = $11,
       ended_at = CASE WHEN $12 THEN now() ELSE ended_at END,
       locked_by_worker = CASE WHEN $12 THEN NULL ELSE locked_by_worker END,
       lock_ts = CASE WHEN $12 THEN NULL ELSE lock_ts END,
       lease_settled = lease_settled OR $13, lease_claimed = lease_claimed OR $14, updated_at = now()
     WHERE business_id = $1 AND run_id = $2`,
    [
      run.business_id,
      run.run_id,
      delta.queued ?? 0,
      delta.waiting ?? 0,
      delta.in_progress ?? 0,
      delta.completed ?? 0,
      delta.failed ?? 0,
      delta.cancelled ?? 0,
      delta.skipped ?? 0,
      delta.needs_review ?? 0,
      status,
      final !== null,
      options.settled,
      // A lead that is given up counts like a lease that came to nothing: a run of nothing else must fail some time.
      options.gave_up === true,
    ],
    1,
  );
  if (final) trailRun(tx, options.actor, `run.${final}`, run, { status: final });
  return status;
}

function finalStatus(run: RunRow, limits: Limits): 'completed' | 'failed' | 'cancelled' {
  if (run.status !== 'cancelling') return 'completed';
  return run.fruitless_leases >= limits.fruitless_leases ? 'failed' : 'cancelled';
}

/** Calls that took place, by job; asked only where a retry policy needs it. */
async function countCallsBefore(tx: Tx, run: RunRow, closed: ClosedAttempt[]): Promise<Map<number, number>> {
  const seqs = closed
    .filter(({ closing }) => isRetryable(closing.outcome) && run.policy.retry?.[closing.outcome])
    .map(({ attempt }) => attempt.seq);
  if (seqs.length === 0) return new Map();
  const rows = await tx.query<{ seq: number; calls: number }>(
    `SELECT seq, count(DISTINCT attempt_no) AS calls FROM carillon.attempts
     WHERE business_id = $1 AND run_id = $2 AND seq = ANY ($3)
       AND outcome IN ('completed', 'busy', 'no_answer', 'voicemail', 'failed', 'cancelled')
     GROUP BY seq`,
    [run.business_id, run.run_id, seqs],
  );
  return new Map(rows.map((row) => [row.seq, row.calls]));
}

const GRIEFS = [NOBODY_SAID, OWN_ERROR];

function isFruitless({ attempt, closing }: ClosedAttempt): boolean {
  return closing.next === 'pool' && GRIEFS.includes(closing.cause ?? '') && attempt.revision === 0;
}

/**
 * Attempts of a job that certainly made no call and in which whoever dialled came to grief, those that are being closed
 * included; asked only for these.
 */
async function countFruitless(tx: Tx, run: RunRow, closed: ClosedAttempt[]): Promise<Map<number, number>> {
  const seqs = closed.filter(isFruitless).map(({ attempt }) => attempt.seq);
  if (seqs.length === 0) return new Map();
  const rows = await tx.query<{ seq: number; attempts: number }>(
    `SELECT seq, count(DISTINCT attempt_no) AS attempts FROM carillon.attempts
     WHERE business_id = $1 AND run_id = $2 AND seq = ANY ($3)
       AND outcome IN ('absent', 'not_dialed') AND cause = ANY ($4)
     GROUP BY seq`,
    [run.business_id, run.run_id, seqs, GRIEFS],
  );
  const before = new Map(rows.map((row) => [row.seq, row.attempts]));
  return new Map(seqs.map((seq) => [seq, (before.get(seq) ?? 0) + 1]));
}

/** Moves open attempts to the history, with how they ended. Nothing ever changes a row that is there. */
function moveToHistory(
  tx: Tx,
  run: RunRow,
  closed: ClosedAttempt[],
  blamed: ClosedAttempt | null,
  now_us: number,
): void {
  const column = <T>(of: (item: ClosedAttempt) => T) => closed.map(of);
  tx.send(
    `WITH gone AS (
       DELETE FROM carillon.open_attempts o
       USING unnest($4::int[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::int[], $10::text[], $11::text[],
           $12::boolean[])
         AS e (ended_seq, ended_call_id, ended_placed_us, ended_ringing_us, ended_answered_us, duration_s, outcome,
               ended_cause, lane_was_trusted)
       WHERE o.business_id = $1 AND o.run_id = $2 AND o.seq = e.ended_seq
       RETURNING o.*, e.*)
     INSERT INTO carillon.attempts (business_id, run_id, seq, attempt_no, revision, carrier_account_id, lead_id, token,
       worker_id, lease_epoch, control_epoch, from_number, intent_us, call_id, placed_us, ringing_us, answered_us,
       ended_us, duration_s, outcome, cause, lane_was_trusted)
     SELECT business_id, run_id, seq, attempt_no, revision, carrier_account_id, lead_id, token,
       worker_id, lease_epoch, control_epoch, from_number, intent_us, ended_call_id, ended_placed_us, ended_ringing_us,
       ended_answered_us, $3, duration_s, outcome, ended_cause, lane_was_trusted
     FROM gone`,
    [
      run.business_id,
      run.run_id,
      now_us,
      column(({ attempt }) => attempt.seq),
      column(({ attempt }) => attempt.call_id),
      column(({ attempt }) => attempt.placed_us),
      column(({ attempt }) => attempt.ringing_us),
      column(({ attempt }) => attempt.answered_us),
      column(({ closing }) => closing.duration_s),
      column(({ closing }) => closing.outcome),
      column(({ closing }) => closing.cause),
      column((item) => (item === blamed ? true : null)),
    ],
    closed.length,
  );
}

/** Grouped by what becomes of them: an UPDATE joined to unnest(…) became a nested loop over a scan on stale statistics. */
function moveJobs(tx: Tx, run: RunRow, group: { attempt: OpenAttempt; closing: Closing; end: JobEnd }[]): void {
  const [first] = group;
  if (!first) return;
  changeJobs(
    tx,
    [run.business_id, run.run_id],
    group.map(({ attempt }) => attempt.seq),
    `UPDATE carillon.outbound_call_jobs SET status = $6, last_outcome = $7, reason = $8, updated_at = now()
     WHERE business_id = $1 AND run_id = $2 AND seq >= $3 AND seq <= $4 AND seq + 0 = ANY ($5) AND status = 'in_progress'`,
    [first.end.status, first.closing.outcome, first.end.reason],
  );
}

/** When jobs that are `waiting` from now on are due. */
export function scheduleJobs(tx: Tx, run: RunRow, jobs: { seq: Seq; due_us: number; reason: string | null }[]): void {
  if (jobs.length === 0) return;
  tx.send(
    `WITH later AS (
       INSERT INTO carillon.job_schedule (business_id, run_id, seq, due_us, reason)
       SELECT $1, $2, i.* FROM unnest($3::int[], $4::bigint[], $5::text[]) AS i RETURNING 1)
     SELECT count(*) FROM later`,
    [
      run.business_id,
      run.run_id,
      jobs.map((job) => job.seq),
      jobs.map((job) => job.due_us),
      jobs.map((job) => job.reason),
    ],
  );
}

/**
 * The lane's breaker: each refusal in a row doubles its pause; an accepted call closes it (see `record`). In the trail
 * stands when it opens, not each refusal of those that were under way by then. A halt without an end is a person's.
 * Returns whether the lane was trusted: a call was accepted since the refusal before this one, if there was any.
 */
async function haltLane(
  tx: Tx,
  run: RunRow,
  { closing, actor }: ClosedAttempt,
  now_us: number,
  limits: Limits,
): Promise<boolean> {
  const halted_reason = closing.cause ?? 'refused';
  const [lane] = await tx.query<{ was_trusted: boolean; was_halted: boolean; halted_until_us: number }>(
    `WITH lane AS MATERIALIZED (
       SELECT trusted, refusals_in_a_row, halted_until_us > $4 AS was_halted FROM carillon.lanes
       WHERE business_id = $1 AND carrier_account_id = $2 AND (halted_reason IS NULL OR halted_until_us IS NOT NULL)
       FOR NO KEY UPDATE)
     UPDATE carillon.lanes l SET trusted = false, refusals_in_a_row = least(l.refusals_in_a_row + 1, 30),
       halted_reason = $3, halted_until_us = $4 + least($5 * power(2, lane.refusals_in_a_row), $6)::bigint * 1000
     FROM lane WHERE l.business_id = $1 AND l.carrier_account_id = $2
     RETURNING lane.trusted AS was_trusted, coalesce(lane.was_halted, false) AS was_halted,
       l.halted_until_us`,
    [
      run.business_id,
      run.carrier_account_id,
      halted_reason,
      now_us,
      limits.lane_halt_first_ms,
      limits.lane_halt_longest_ms,
    ],
  );
  if (!lane) return false;
  if (lane.was_halted) return lane.was_trusted;
  trail(tx, actor, {
    action: 'lane.halted',
    subject: { type: 'carrier_account', id: run.carrier_account_id },
    before: { halted_reason: null },
    after: { halted_reason, halted_until: new Date(lane.halted_until_us / 1_000).toISOString() },
  });
  return lane.was_trusted;
}
