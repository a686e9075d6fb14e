import { type CarrierCall, effectiveJobStatus, type JobStatus, type Outcome } from '@carillon/contract';
import type { Actor } from '../actor.ts';
import type { Tx } from '../db/database.ts';
import { databaseNow } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import type { RunRow } from '../run/row.ts';
import {
  applyEvidence,
  type AttemptKey,
  type Closing,
  type Evidence,
  type EvidenceItem,
  type OpenAttempt,
  type Recorded,
} from './attempt.ts';
import { CANCELLED_UNHEARD, closeAttempts, endJob, moveCounters } from './close.ts';
import { CALL_AGAIN, COUNTED_AS_CALLED } from './resolve.ts';
import { wantGone } from './unwanted.ts';

interface ClosedRow extends AttemptKey {
  revision: number;
  carrier_account_id: number;
  lead_id: number;
  worker_id: string;
  lease_epoch: number;
  control_epoch: number;
  from_number: string;
  intent_us: number;
  call_id: string | null;
  outcome: Outcome;
}

interface JobNow {
  status: JobStatus;
  attempts: number;
  reason: string | null;
  /** Null when the lead is erased: nobody calls there again. */
  phone: string | null;
}

/**
 * Evidence about an attempt that is closed. Mostly it is a repeated callback and says nothing new. But where no call
 * was believed to exist (`absent`) or nobody could say (`needs_review`) and here it is: while no newer attempt exists
 * the call is taken back as this attempt's; otherwise nobody wants it and it is hung up.
 */
export async function recordLate(
  tx: Tx,
  { key, evidence, actor }: EvidenceItem,
  limits: Limits,
): Promise<Recorded | 'reopened'> {
  const keys = [tx.business_id, key.run_id, key.seq] as const;
  const [runs, closed, others, jobs, now_us] = await Promise.all([
    tx.query<RunRow>(
      'SELECT * FROM carillon.outbound_call_runs WHERE business_id = $1 AND run_id = $2 FOR NO KEY UPDATE',
      [tx.business_id, key.run_id],
    ),
    tx.query<ClosedRow>(
      `SELECT * FROM carillon.attempts WHERE business_id = $1 AND run_id = $2 AND seq = $3 AND attempt_no = $4
       ORDER BY revision DESC LIMIT 1`,
      [...keys, key.attempt_no],
    ),
    // The open one, which may be an older one that was taken back, and newer ones that were, or may have been, calls. One
    // that was never dialled supersedes nothing.
    tx.query<{ attempt_no: number; token: string }>(
      `SELECT attempt_no, token FROM carillon.open_attempts
       WHERE business_id = $1 AND run_id = $2 AND seq = $3
       UNION ALL
       SELECT attempt_no, token FROM carillon.attempts
       WHERE business_id = $1 AND run_id = $2 AND seq = $3 AND attempt_no > $4
         AND outcome NOT IN ('not_dialed', 'rejected', 'absent')`,
      [...keys, key.attempt_no],
    ),
    tx.query<JobNow>(
      `SELECT j.status, j.attempts, j.reason, l.phone FROM carillon.outbound_call_jobs j
       CROSS JOIN LATERAL (
         SELECT phone FROM carillon.leads WHERE business_id = $1 AND lead_id = j.lead_id OFFSET 0) l
       WHERE j.business_id = $1 AND j.run_id = $2 AND j.seq = $3`,
      [...keys],
    ),
    databaseNow(tx),
  ]);
  const [run] = runs;
  const [before] = closed;
  const [job] = jobs;
  if (!run || !job || before?.token !== key.token) return 'unknown_attempt';
  // Other evidence took it back a moment ago: it is open, and this is ordinary evidence about it.
  if (others.some(({ token }) => token === key.token)) return 'reopened';
  const call = callShownBy(evidence);
  if (!call) return 'nothing';
  const known = call.call_id === before.call_id;
  // A call that is known says nothing new, but where nobody could say what became of it.
  if (known && before.outcome !== 'unknown') return 'nothing';
  const live = call.phase !== 'ended';
  const account = before.carrier_account_id;
  if (before.call_id !== null && !known) {
    if (live) wantGone(tx, account, call.call_id, 'a second call for one attempt');
    return live ? 'unwanted' : 'nothing';
  }
  // What a person said of a call that nobody could tell of stands until the carrier tells.
  const counted_as_called = job.status === 'completed' && job.reason === COUNTED_AS_CALLED;
  const superseded = others.length > 0 || (job.status === 'completed' && !counted_as_called);
  // A waiting row of a run that stops is effectively cancelled, and its counter has moved already.
  const stopped = effectiveJobStatus(run.status, job.status) === 'cancelled';
  const unwanted = whyUnwanted(job, superseded, stopped);
  const over = unwanted !== null || run.ended_at !== null || counted_as_called;
  const hang_up = whoHangsUp(run, job);
  if (live && over) {
    // The end of a call under review settles it; until then the run that ended stays ended.
    const settles_later = job.status === 'needs_review' || counted_as_called;
    if (unwanted === null && settles_later && hang_up === null) return 'nothing';
    wantGone(tx, account, call.call_id, unwanted ?? (hang_up === 'job' ? CANCELLED : STOPPED));
    return 'unwanted';
  }
  const attempt = { ...reopened(before, key, job, call, now_us, limits), hang_up };
  if (over) {
    await reviseClosed(tx, run, job, { attempt, call, actor, superseded }, limits, now_us);
    return 'applied';
  }
  await takeBack(tx, run, job, attempt);
  const verdict = applyEvidence(attempt, { kind: 'call', call }, now_us);
  const counted = { ...run, [job.status]: run[job.status] - 1, in_progress: run.in_progress + 1 };
  if (verdict.kind === 'closed') await closeAttempts(tx, counted, [{ ...verdict, actor }], now_us, limits);
  return 'applied';
}

const STOPPED = 'the run was stopped';
const CANCELLED = 'the job was cancelled';

/** Why a call that shows up now can't be its attempt's any more; null when it can. */
function whyUnwanted(job: JobNow, superseded: boolean, stopped: boolean): string | null {
  if (superseded) return 'superseded';
  if (job.phone === null) return 'the lead was erased';
  return stopped ? STOPPED : null;
}

/** A job of which nobody could say whether its call took place, or only a person. */
function isUncertain(job: JobNow): boolean {
  if (job.status === 'completed') return job.reason === COUNTED_AS_CALLED;
  return job.status === 'needs_review' || (job.status === 'cancelled' && job.reason === CALL_AGAIN);
}

/**
 * Who wanted this call hung up that only shows up now: whoever cancelled its job, or the last pause or stop of its run.
 * The job's comes first: it outlasts a resume.
 */
function whoHangsUp(run: RunRow, job: JobNow): OpenAttempt['hang_up'] {
  if (job.reason === CANCELLED_UNHEARD) return 'job';
  return run.live_calls === 'hang_up' ? 'run' : null;
}

/** The call that this evidence shows to exist, if it does. */
function callShownBy(evidence: Evidence): CarrierCall | null {
  if (evidence.kind === 'call') return evidence.call;
  if (evidence.kind !== 'accepted') return null;
  const { call_id } = evidence;
  return { call_id, phase: 'queued', outcome: null, duration_s: null, created_at_s: null, cause: null };
}

function reopened(
  before: ClosedRow,
  key: AttemptKey,
  job: JobNow,
  call: CarrierCall,
  now_us: number,
  limits: Limits,
): OpenAttempt {
  const state = call.phase === 'queued' || call.phase === 'ended' ? 'placed' : call.phase;
  return {
    ...before,
    ...key,
    revision: before.revision + 1,
    to_number: job.phone ?? '',
    deadline_us: before.intent_us,
    call_max_ms: limits.call_max_ms,
    state,
    call_id: call.call_id,
    placed_us: now_us,
    ringing_us: null,
    answered_us: null,
    unknown_us: null,
    cause: null,
    heard_us: now_us,
    asked_us: 0,
    hang_up: null,
  };
}

/** Makes the attempt open again and its job `in_progress`, from waiting, review or a refusal that was none. */
async function takeBack(tx: Tx, run: RunRow, job: JobNow, attempt: OpenAttempt): Promise<void> {
  const key = [tx.business_id, attempt.run_id, attempt.seq];
  tx.send('DELETE FROM carillon.job_schedule WHERE business_id = $1 AND run_id = $2 AND seq = $3', key);
  tx.send(
    `UPDATE carillon.outbound_call_jobs SET status = 'in_progress', reason = NULL, updated_at = now()
     WHERE business_id = $1 AND run_id = $2 AND seq = $3 AND status = $4`,
    [...key, job.status],
    1,
  );
  tx.send(
    `INSERT INTO carillon.open_attempts (business_id, run_id, seq, attempt_no, revision, carrier_account_id, lead_id,
       token, state, worker_id, lease_epoch, control_epoch, from_number, to_number, intent_us, deadline_us,
       call_max_ms, call_id, placed_us, heard_us, hang_up)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)`,
    [
      ...key,
      attempt.attempt_no,
      attempt.revision,
      attempt.carrier_account_id,
      attempt.lead_id,
      attempt.token,
      attempt.state,
      attempt.worker_id,
      attempt.lease_epoch,
      attempt.control_epoch,
      attempt.from_number,
      attempt.to_number,
      attempt.intent_us,
      attempt.deadline_us,
      attempt.call_max_ms,
      attempt.call_id,
      attempt.placed_us,
      attempt.heard_us,
      attempt.hang_up,
    ],
    1,
  );
  tx.send(
    `UPDATE carillon.outbound_call_runs SET in_progress = in_progress + 1,
       waiting = waiting - ($3 = 'waiting')::int, needs_review = needs_review - ($3 = 'needs_review')::int,
       failed = failed - ($3 = 'failed')::int, updated_at = now()
     WHERE business_id = $1 AND run_id = $2`,
    [tx.business_id, run.run_id, job.status],
    1,
  );
}

/** The truth about a call that is over, where nothing can be reopened: history always, the job if it was in review. */
async function reviseClosed(
  tx: Tx,
  run: RunRow,
  job: JobNow,
  late: { attempt: OpenAttempt; call: CarrierCall; actor: Actor; superseded: boolean },
  limits: Limits,
  now_us: number,
): Promise<void> {
  const { attempt, call, actor, superseded } = late;
  const verdict = applyEvidence(attempt, { kind: 'call', call }, now_us);
  if (verdict.kind !== 'closed') throw new Error('a call that has ended did not close its attempt');
  revise(tx, attempt, verdict.closing, now_us);
  if (!isUncertain(job) || superseded) return;
  const over = { ...run, status: 'completed' as const, policy: { ...run.policy, retry: {} } };
  const end = endJob(over, verdict, { calls_before: 0, fruitless: 0, refused: 0, limits }, now_us);
  tx.send(
    `UPDATE carillon.outbound_call_jobs SET status = $4, last_outcome = $5, reason = $6, updated_at = now()
     WHERE business_id = $1 AND run_id = $2 AND seq = $3 AND status = $7`,
    [tx.business_id, attempt.run_id, attempt.seq, end.status, verdict.closing.outcome, end.reason, job.status],
    1,
  );
  if (end.status === job.status) return;
  moveCounters(tx, run, { [job.status]: -1, [end.status]: 1 }, { settled: true, limits, actor });
}

/** Appends what is known better now; the row of the revision before stays as it was. */
function revise(tx: Tx, attempt: OpenAttempt, closing: Closing, now_us: number): void {
  tx.send(
    `INSERT INTO carillon.attempts (business_id, run_id, seq, attempt_no, revision, carrier_account_id, lead_id, token,
       worker_id, lease_epoch, control_epoch, from_number, intent_us, call_id, placed_us, ended_us, duration_s, outcome,
       cause)
     SELECT business_id, run_id, seq, attempt_no, revision + 1, carrier_account_id, lead_id, token, worker_id,
       lease_epoch, control_epoch, from_number, intent_us, $6, $7, $7, $8, $9, $10
     FROM carillon.attempts
     WHERE business_id = $1 AND run_id = $2 AND seq = $3 AND attempt_no = $4 AND revision = $5`,
    [
      attempt.business_id,
      attempt.run_id,
      attempt.seq,
      attempt.attempt_no,
      attempt.revision - 1,
      attempt.call_id,
      now_us,
      closing.duration_s,
      closing.outcome,
      closing.cause,
    ],
    1,
  );
}
