/**
 * The states of runs, jobs and attempts, each with who enters it, who leaves it, and who cleans it up when nobody else
 * does (its reaper). A state without a reaper is a bug: a test walks these tables against the database's CHECKs, and
 * another drives each reaper with everybody else dead.
 *
 * Who enters and leaves is named by the file, below `packages/engine/src`, whose transaction does it (of the two kinds in
 * `call/record`, late evidence is named by itself). A test reads from the engine which files write a state and finds them
 * here, these and no others; and in the tests of engine, worker and API the database refuses a change between two states
 * that no file here makes, which leaves the one and enters the other.
 */
export interface StateRow {
  final: boolean;
  entered_by: Doers;
  left_by: Doers;
  /** Who moves it on when the usual party is gone, and what that waits for. 'none: final' for final states. */
  reaper: string;
}

/** By file, what it does. */
export type Doers = Readonly<Record<string, string>>;

const NOBODY: Doers = {};
const FINAL = { final: true, left_by: NOBODY, reaper: 'none: final' } as const;

/** Who takes away the last job that a run waits for, other than by a call. */
const LAST_JOB_GONE = {
  'call/cancel-job': 'cancel of the last job that waits',
  'lead/erase': 'erasure of the lead of the last job that waits',
  'restore/review': 'review, after a restore, of the last jobs that wait',
} as const satisfies Doers;

export const RUN_STATES = {
  draft: {
    final: false,
    entered_by: { 'run/create': 'create with draft' },
    left_by: { 'run/resume': 'resume, which starts it', 'run/stop': 'stop', ...LAST_JOB_GONE },
    reaper: 'a person: a draft calls nobody and holds nothing',
  },
  pending: {
    final: false,
    entered_by: { 'run/create': 'create', 'run/resume': 'resume of a draft, or of a run that never started' },
    left_by: {
      'run/lease': 'the first lease',
      'run/pause': 'pause',
      'restore/notice': 'a restore that is noticed',
      'run/stop': 'stop, and ends_at',
      ...LAST_JOB_GONE,
    },
    reaper: 'any worker, once starts_at has come',
  },
  running: {
    final: false,
    entered_by: { 'run/lease': 'the first lease', 'run/resume': 'resume' },
    left_by: {
      'call/record': 'the settlement that finishes the last job',
      'call/late': 'late evidence of the last job’s call, which is over',
      'call/claim': 'a claim that finds only erased leads left',
      'run/lease': 'a lease after too many that finished nothing: it fails the run, or stops it while calls are open',
      'run/pause': 'pause',
      'restore/notice': 'a restore that is noticed, whenever that is',
      'run/stop': 'stop, and ends_at',
      ...LAST_JOB_GONE,
    },
    reaper:
      'another worker, lease_ttl_ms after the last heartbeat; where it rests any, run_rest_ms before a lead is due',
  },
  paused: {
    final: false,
    entered_by: {
      'run/pause': 'pause',
      'restore/notice': 'a restore that is noticed, whenever that is, and again while nobody has acknowledged it',
      'adopt/make-run': 'adoption of a run that was not finished',
    },
    left_by: {
      'run/resume': 'resume',
      'run/stop': 'stop, and ends_at',
      'call/record': 'the settlement that finishes the last job',
      'call/late': 'late evidence of the last job’s call, which is over',
      ...LAST_JOB_GONE,
    },
    reaper: 'a person: its open attempts have reapers of their own',
  },
  cancelling: {
    final: false,
    entered_by: { 'run/stop': 'stop with open attempts', 'run/lease': 'giving up a run that has open attempts' },
    left_by: { 'call/record': 'whoever closes the last open attempt' },
    reaper: 'the reapers of its open attempts; the last one makes it final',
  },
  completed: {
    ...FINAL,
    entered_by: {
      'call/record': 'the settlement that finishes the last job',
      'call/late': 'late evidence of the last job’s call, which is over',
      'call/claim': 'a claim that finds only erased leads left',
      ...LAST_JOB_GONE,
      'adopt/make-run': 'adoption of a run that had completed, or has nobody left to call',
    },
  },
  failed: {
    ...FINAL,
    entered_by: {
      'run/lease': 'a lease after too many that finished nothing',
      'call/record': 'whoever closes the last open attempt of a run that was given up',
      'adopt/make-run': 'adoption of a run that had failed',
    },
  },
  cancelled: {
    ...FINAL,
    entered_by: {
      'run/stop': 'stop without open attempts',
      'call/record': 'whoever closes the last open attempt of a run that was stopped',
      'adopt/make-run': 'adoption of a run that had been stopped',
    },
  },
} as const satisfies Record<string, StateRow>;
export type RunStatus = keyof typeof RUN_STATES;

const ADOPTED = { 'adopt/make-run': 'adoption of a job in this state' } as const satisfies Doers;

/** What takes away jobs that wait to be called, whatever the run has in mind. */
const NOT_CALLED = {
  'call/cancel-job': 'job cancel',
  'lead/erase': 'erasure of its lead',
  'restore/review': 'review after a restore: its lead was called by a call that the database has forgotten',
  'run/sweep': 'sweep of a stopped run',
} as const satisfies Doers;

export const JOB_STATES = {
  queued: {
    final: false,
    entered_by: {
      'run/create': 'create: the first jobs of a run',
      'run/resume': 'start of a draft: the same',
      'run/fill': 'fill: the next ones, ahead of the claims',
      'run/sweep': 'sweep, of those that a stopped run has yet to make',
      'restore/review': 'review after a restore, of those that a run has yet to make',
      ...ADOPTED,
    },
    left_by: { 'call/claim': 'claim', ...NOT_CALLED },
    reaper: 'the run’s next lease; sweep in a stopped run',
  },
  waiting: {
    final: false,
    entered_by: {
      'call/record': 'return to the pool, a retry',
      'call/claim': 'claim, while the number is on the line for another run',
      'call/resolve': 'a person’s resolve: to be called again',
    },
    left_by: {
      'call/claim': 'claim once due',
      'call/late': 'late evidence: there is a call after all',
      ...NOT_CALLED,
    },
    reaper: 'the run’s next lease after due_at; sweep in a stopped run',
  },
  in_progress: {
    final: false,
    entered_by: {
      'call/claim': 'claim',
      'call/late': 'late evidence of a call that was not believed to exist',
    },
    left_by: { 'call/record': 'whoever closes its open attempt, also at once after late evidence has opened it again' },
    reaper: 'the reaper of its open attempt',
  },
  completed: {
    ...FINAL,
    entered_by: {
      'call/record': 'settlement of an answered call',
      'call/late': 'late evidence of an answered call',
      'call/resolve': 'a person’s resolve: to be counted as called',
      ...ADOPTED,
    },
    left_by: { 'call/late': 'late evidence of a call that failed, where a person had counted it as called' },
  },
  failed: {
    ...FINAL,
    entered_by: {
      'call/record': 'settlement of the last allowed attempt, refusal of the number',
      'call/late': 'late evidence of a call that failed',
      ...ADOPTED,
    },
    left_by: { 'call/late': 'late evidence of a call that was believed refused, in a run that has not ended' },
  },
  cancelled: {
    ...FINAL,
    entered_by: {
      'call/record': 'return to the pool in a stopping run, the end of a call that was hung up for a cancel',
      'call/cancel-job': 'job cancel',
      'call/resolve': 'a person’s resolve in a run that is over: to be called again, by a follow-up run',
      'run/sweep': 'sweep of a stopped run',
      ...ADOPTED,
    },
    left_by: { 'call/late': 'late evidence of a call, where a person had wanted another in a run that was over' },
  },
  skipped: {
    ...FINAL,
    entered_by: { 'call/claim': 'claim, when the lead is erased', 'lead/erase': 'erasure of its lead', ...ADOPTED },
  },
  needs_review: {
    final: true,
    entered_by: {
      'call/record':
        'reconcile that can neither find the call nor prove its absence, or that proves it where the policy asks for a ' +
        'review; poll of a call of which the carrier can not tell; dials that ended with whoever dialled, or refusals of the ' +
        'lane at this lead alone, too often',
      'restore/review': 'review after a restore: its lead was called by a call that the database has forgotten',
      ...ADOPTED,
    },
    left_by: { 'call/late': 'late evidence', 'call/resolve': 'a person’s resolve' },
    reaper: 'a person: nobody else may decide whether the call took place',
  },
} as const satisfies Record<string, StateRow>;
export type JobStatus = keyof typeof JOB_STATES;

const EVENTS = { 'call/record': 'events, poll' } as const satisfies Doers;
const TAKEN_BACK = { 'call/late': 'late evidence of a call that was not believed to exist' } as const satisfies Doers;

export const ATTEMPT_STATES = {
  dialing: {
    final: false,
    entered_by: { 'call/claim': 'claim' },
    left_by: {
      'call/record': 'the carrier’s answer, an event, not_dialed',
      'call/tend': 'expire, also for who asks to reconcile now',
    },
    reaper: 'expire: becomes unknown past its dial deadline, whoever holds the run',
  },
  placed: {
    final: false,
    entered_by: { 'call/record': 'the carrier’s acceptance, events, reconcile', ...TAKEN_BACK },
    left_by: EVENTS,
    reaper: 'poll: asks the carrier for the call after poll_after_ms of silence',
  },
  ringing: {
    final: false,
    entered_by: { ...EVENTS, ...TAKEN_BACK },
    left_by: EVENTS,
    reaper: 'poll: asks the carrier for the call after poll_after_ms of silence (ring time-out is sent along)',
  },
  in_call: {
    final: false,
    entered_by: { ...EVENTS, ...TAKEN_BACK },
    left_by: EVENTS,
    reaper: 'poll: asks the carrier for the call after poll_after_ms of silence (longest call is sent along)',
  },
  unknown: {
    final: false,
    entered_by: { 'call/record': 'an unreadable answer', 'call/tend': 'expire' },
    left_by: { 'call/record': 'an event with its token, reconcile' },
    reaper: 'reconcile: found, absent, or review once the call can no longer be live',
  },
} as const satisfies Record<string, StateRow>;
export type AttemptState = keyof typeof ATTEMPT_STATES;

const TOOK_PLACE = {
  ...FINAL,
  entered_by: { 'call/record': 'an event, poll or reconcile that shows its end', 'call/late': 'the same, told late' },
} as const satisfies StateRow;
/** A row of the history is never changed: the truth about it is appended as its next revision. */
const REVISED = {
  'call/late': 'late evidence that there is a call: a next revision',
} as const satisfies Doers;

/** How a closed attempt ended. */
export const OUTCOME_STATES = {
  completed: TOOK_PLACE,
  busy: TOOK_PLACE,
  no_answer: TOOK_PLACE,
  voicemail: TOOK_PLACE,
  failed: TOOK_PLACE,
  cancelled: TOOK_PLACE,
  rejected: { ...FINAL, entered_by: { 'call/record': 'refusal by the carrier' }, left_by: REVISED },
  not_dialed: {
    ...FINAL,
    entered_by: { 'call/record': 'word of the dialler that it did not dial' },
    left_by: REVISED,
  },
  absent: { ...FINAL, entered_by: { 'call/record': 'reconcile: proven absent' }, left_by: REVISED },
  unknown: {
    ...FINAL,
    entered_by: { 'call/record': 'reconcile or poll: nobody can say' },
    left_by: { 'call/late': 'late evidence of what became of its call: a next revision' },
  },
} as const satisfies Record<string, StateRow>;

/** The first group are calls that took place; the second are none; `unknown` is neither. */
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
