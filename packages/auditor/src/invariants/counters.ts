import type { JobStatus, Outcome } from '@carillon/contract';
import { type JobRecord, STOPPED_RUNS, tookPlace } from '../rows.ts';
import type { Violation } from '../types.ts';
import { type AuditedRun, type Doubt, jobViolation, runViolation } from './audited.ts';

const STATES = [
  'queued',
  'waiting',
  'in_progress',
  'completed',
  'failed',
  'cancelled',
  'skipped',
  'needs_review',
] as const satisfies JobStatus[];
const FINISHED: readonly JobStatus[] = ['completed', 'failed', 'cancelled', 'skipped', 'needs_review'];

/** What a run's rows say, counted anew. */
export interface Recount {
  /** Rows there are; each as its run makes it: a queued or waiting job of a stopped run is cancelled. */
  jobs: number;
  states: Record<JobStatus, number>;
  highest_seq: number;
}

export function createRecount(): Recount {
  const states = {
    queued: 0,
    waiting: 0,
    in_progress: 0,
    completed: 0,
    failed: 0,
    cancelled: 0,
    skipped: 0,
    needs_review: 0,
  };
  return { jobs: 0, states, highest_seq: 0 };
}

export function effectiveStatus({ run }: AuditedRun, status: JobStatus): JobStatus {
  return STOPPED_RUNS.includes(run.status) && (status === 'queued' || status === 'waiting') ? 'cancelled' : status;
}

export function countJob(recount: Recount, audited: AuditedRun, { row }: JobRecord): void {
  if (!row) return;
  recount.jobs += 1;
  recount.states[effectiveStatus(audited, row.status)] += 1;
  recount.highest_seq = Math.max(recount.highest_seq, row.seq);
}

/**
 * Invariant 3: each counter of the run equals its rows' effective states, those not yet made from the list being queued
 * (or cancelled, once the run is stopped), the states sum to total_leads and the finished ones to cursor_position.
 */
export function* counters(audited: AuditedRun, { jobs, states, highest_seq }: Recount): Generator<Violation> {
  const { run } = audited;
  if (jobs !== run.filled_seq || highest_seq !== run.filled_seq)
    yield runViolation(3, audited, `has ${jobs} jobs up to ${highest_seq}, and says that ${run.filled_seq} are made`, {
      jobs,
      highest_seq,
      filled_seq: run.filled_seq,
    });
  const unmade = run.total_leads - run.filled_seq;
  const counted = { ...states };
  counted[effectiveStatus(audited, 'queued')] += unmade;
  const wrong = STATES.filter((state) => run[state] !== counted[state]);
  if (wrong.length > 0)
    yield runViolation(3, audited, `counts ${inWords(wrong, run)}; its rows are ${inWords(wrong, counted)}`, {
      counters: pick(wrong, run),
      rows: pick(wrong, counted),
    });
  const sum = STATES.reduce((total, state) => total + run[state], 0);
  if (sum !== run.total_leads)
    yield runViolation(3, audited, `has ${run.total_leads} leads, and its counters add up to ${sum}`, {
      sum,
      total_leads: run.total_leads,
    });
  const finished = FINISHED.reduce((total, state) => total + run[state], 0);
  if (run.cursor_position !== finished)
    yield runViolation(3, audited, `has finished ${finished} jobs, and its cursor stands at ${run.cursor_position}`, {
      finished,
      cursor_position: run.cursor_position,
    });
}

function pick(states: readonly JobStatus[], of: Readonly<Record<JobStatus, number>>): Record<string, number> {
  return Object.fromEntries(states.map((state) => [state, of[state]]));
}

function inWords(states: readonly JobStatus[], of: Readonly<Record<JobStatus, number>>): string {
  return states.map((state) => `${of[state]} ${state.replace('_', ' ')}`).join(', ');
}

/** One row of the schedule for a waiting job, and none for any other. */
export function* scheduled(audited: AuditedRun, job: JobRecord): Generator<Violation> {
  const times = job.schedule.length;
  const status = job.row?.status;
  if (times > 1 || (times === 1 && status !== 'waiting'))
    yield jobViolation(
      3,
      audited,
      job,
      `is ${status ?? 'not there'}, and is scheduled ${times === 1 ? 'once' : `${times} times`}`,
      {
        status,
        due_us: job.schedule,
      },
    );
}

/** After which outcomes of its attempts a job may be in a state; `null`: after none. */
const LAST_OUTCOMES: Partial<Record<JobStatus, readonly (Outcome | null)[]>> = {
  queued: [null],
  failed: ['busy', 'no_answer', 'voicemail', 'failed', 'cancelled', 'rejected'],
  needs_review: ['unknown', 'absent', 'not_dialed', 'rejected'],
};

/** A job's state is one that its attempts give, unless a person has decided otherwise. */
export function* unexplainedStates(audited: AuditedRun, job: JobRecord): Generator<Doubt> {
  if (!job.row) return;
  const { status } = job.row;
  const { tries } = job;
  const last = tries.at(-1)?.outcome ?? null;
  const reached = tries.some(({ outcome }) => outcome === 'completed');
  // Late evidence may have closed an attempt that is not the last.
  const fits = (wanted: readonly (Outcome | null)[]) =>
    tries.length === 0 ? wanted.includes(null) : tries.some(({ outcome }) => wanted.includes(outcome));
  const wanted = LAST_OUTCOMES[status];
  const holds = status === 'completed' ? reached : wanted === undefined || fits(wanted);
  const ended = tries.filter(({ outcome }) => tookPlace(outcome)).length;
  if (!holds)
    yield {
      violation: jobViolation(
        3,
        audited,
        job,
        tries.length === 0 ? `is ${status}, and no attempt was made for it` : `is ${status} after "${last ?? 'open'}"`,
        { status, attempts: tries.length, calls: ended, last_outcome: last },
      ),
      after_us: 0,
      before_us: audited.now_us,
      ...(tries.length === 0 && { unless_adopted: { run_id: audited.run.run_id, seq: job.seq, status } }),
      unless_restored: status === 'needs_review',
    };
}
