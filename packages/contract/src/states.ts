/**
 * The states of runs, jobs and attempts, each with who enters it, who leaves it, and who cleans it up when nobody else
 * does (its reaper). A state without a reaper is a bug: a test walks these tables against the database's CHECKs.
 */
export interface StateRow {
  final: boolean;
  entered_by: string;
  left_by: string;
  /** Who moves it on when the usual party is gone, and what that waits for. 'none: final' for final states. */
  reaper: string;
}

const FINAL = { final: true, left_by: 'nobody', reaper: 'none: final' } as const;

export const RUN_STATES = {
  draft: {
    final: false,
    entered_by: 'create with draft',
    left_by: 'resume (starts it), stop',
    reaper: 'a person: a draft calls nobody and holds nothing',
  },
  pending: {
    final: false,
    entered_by: 'create, resume of a run that never started',
    left_by: 'the first lease, pause, stop',
    reaper: 'any worker, once starts_at has come',
  },
  running: {
    final: false,
    entered_by: 'the first lease, resume',
    left_by: 'the settlement that finishes the last job, pause, stop, fail',
    reaper: 'another worker, lease_ttl_ms after the last heartbeat',
  },
  paused: {
    final: false,
    entered_by: 'pause, a restore found at start-up',
    left_by: 'resume, stop, the settlement that finishes the last job',
    reaper: 'a person: its open attempts have reapers of their own',
  },
  cancelling: {
    final: false,
    entered_by: 'stop with open attempts',
    left_by: 'whoever closes the last open attempt',
    reaper: 'the reapers of its open attempts; the last one makes it final',
  },
  completed: { ...FINAL, entered_by: 'the settlement that finishes the last job' },
  failed: { ...FINAL, entered_by: 'reclaim, after too many leases that finished nothing' },
  cancelled: { ...FINAL, entered_by: 'stop without open attempts, or whoever closes the last one' },
} as const satisfies Record<string, StateRow>;
export type RunStatus = keyof typeof RUN_STATES;

export const JOB_STATES = {
  queued: {
    final: false,
    entered_by: 'fill',
    left_by: 'claim, job cancel, erasure of its lead, sweep',
    reaper: 'the run’s next lease; sweep in a stopped run',
  },
  waiting: {
    final: false,
    entered_by: 'return to the pool, a person’s resolve',
    left_by: 'claim once due, job cancel, erasure of its lead, sweep',
    reaper: 'the run’s next lease after due_at; sweep in a stopped run',
  },
  in_progress: {
    final: false,
    entered_by: 'claim, late evidence for an absent attempt',
    left_by: 'whoever closes its open attempt',
    reaper: 'the reaper of its open attempt',
  },
  completed: { ...FINAL, entered_by: 'settlement of an answered call, a person’s resolve' },
  failed: { ...FINAL, entered_by: 'settlement of the last allowed attempt, refusal of the number' },
  cancelled: {
    ...FINAL,
    entered_by: 'job cancel, return to the pool in a stopping run, a person’s resolve in a run that is over, sweep',
  },
  skipped: { ...FINAL, entered_by: 'claim, when a gate forbids the call or the lead is erased; erasure of its lead' },
  needs_review: {
    final: true,
    entered_by:
      'reconcile that can neither find the call nor prove its absence; dials that ended with whoever dialled, too often',
    left_by: 'late evidence, a person’s resolve',
    reaper: 'a person: nobody else may decide whether the call took place',
  },
} as const satisfies Record<string, StateRow>;
export type JobStatus = keyof typeof JOB_STATES;

export const ATTEMPT_STATES = {
  dialing: {
    final: false,
    entered_by: 'claim',
    left_by: 'the carrier’s answer, an event, not_dialed',
    reaper: 'expire: becomes unknown past its dial deadline, whoever holds the run',
  },
  placed: {
    final: false,
    entered_by: 'the carrier’s acceptance, reconcile',
    left_by: 'events',
    reaper: 'poll: asks the carrier for the call after poll_after_ms of silence',
  },
  ringing: {
    final: false,
    entered_by: 'events',
    left_by: 'events',
    reaper: 'poll: asks the carrier for the call after poll_after_ms of silence (ring time-out is sent along)',
  },
  in_call: {
    final: false,
    entered_by: 'events',
    left_by: 'events',
    reaper: 'poll: asks the carrier for the call after poll_after_ms of silence (longest call is sent along)',
  },
  unknown: {
    final: false,
    entered_by: 'an unreadable answer, expire',
    left_by: 'an event with its token, reconcile',
    reaper: 'reconcile: found, absent, or review once the call can no longer be live',
  },
} as const satisfies Record<string, StateRow>;
export type AttemptState = keyof typeof ATTEMPT_STATES;

/** How a closed attempt ended. The first group are calls that took place; the second are none; `unknown` is neither. */
export const CALL_OUTCOMES = ['completed', 'busy', 'no_answer', 'voicemail', 'failed', 'cancelled'] as const;
export const NO_CALL_OUTCOMES = ['rejected', 'not_dialed', 'absent'] as const;
export const OUTCOMES = [...CALL_OUTCOMES, ...NO_CALL_OUTCOMES, 'unknown'] as const;
export type CallOutcome = (typeof CALL_OUTCOMES)[number];
export type Outcome = (typeof OUTCOMES)[number];

/**
 * How a job ended, as a follow-up run asks for it: `needs_review` and `skipped` by the job's state, the others by what
 * became of its last call, and `cancelled` for a lead that was not called or not to the end.
 */
export const FOLLOW_UP_OUTCOMES = [
  'busy',
  'no_answer',
  'voicemail',
  'failed',
  'rejected',
  'cancelled',
  'skipped',
  'needs_review',
] as const;
export type FollowUpOutcome = (typeof FOLLOW_UP_OUTCOMES)[number];
/** What a follow-up run takes up where nothing is said: not the refused numbers, nor those that may not be called, nor those in review. */
export const UNREACHED = ['busy', 'no_answer', 'voicemail', 'failed', 'cancelled'] as const satisfies FollowUpOutcome[];

export const RUN_STATUSES = Object.keys(RUN_STATES) as RunStatus[];
export const JOB_STATUSES = Object.keys(JOB_STATES) as JobStatus[];

/** Runs in these states have been told to stop: their queued and waiting jobs are effectively cancelled. */
export const STOPPED_RUN_STATUSES = ['cancelling', 'cancelled', 'failed'] as const satisfies RunStatus[];

export function isFinalRun(status: RunStatus): boolean {
  return RUN_STATES[status].final;
}

/** What a job *is*, for every reader: a queued or waiting job of a stopped run is cancelled before its row is swept. */
export function effectiveJobStatus(run: RunStatus, job: JobStatus): JobStatus {
  const stopped = (STOPPED_RUN_STATUSES as readonly RunStatus[]).includes(run);
  return stopped && (job === 'queued' || job === 'waiting') ? 'cancelled' : job;
}
