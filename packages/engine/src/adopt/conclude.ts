import type { RunStatus } from '@carillon/contract';
import type { TakenStatus } from './judge.ts';
import type { OldRun } from './old-rows.ts';

const words = (list: string) => new Set(list.split(' '));
const UNFINISHED = words(
  'draft queued pending new scheduled waiting running in_progress active started processing paused interrupted stale',
);
const COMPLETED = words('completed complete done finished success succeeded');
const FAILED = words('failed failure error crashed');
const CANCELLED = words('cancelled canceled cancelling canceling stopped stopping aborted');

export interface Conclusion {
  status: Extract<RunStatus, 'paused' | 'completed' | 'failed' | 'cancelled'>;
  /** Why its queued jobs are cancelled; null: they stay queued. */
  cancel_queued: string | null;
  pause_reason: string | null;
  last_error: string | null;
  /** The old status, where nobody knows what it means. */
  unknown_status: string | null;
}

/**
 * What an old run becomes. One that was not finished is paused: a person has to let it go on. It is completed where
 * nobody is left to be called, because such a run could never end by itself. One that was told to stop is stopped.
 */
export function concludeRun(run: OldRun, jobs: Readonly<Record<TakenStatus, number>>): Conclusion {
  const { status, last_error } = run;
  const ended = (became: 'completed' | 'failed' | 'cancelled', why: string): Conclusion => ({
    status: became,
    cancel_queued: why,
    pause_reason: null,
    last_error,
    unknown_status: null,
  });
  if (status !== null && COMPLETED.has(status)) return ended('completed', 'its run had ended when it was adopted');
  if (status !== null && FAILED.has(status)) return ended('failed', 'its run had failed when it was adopted');
  if (run.cancel_requested || (status !== null && CANCELLED.has(status)))
    return ended('cancelled', 'its run had been stopped when it was adopted');
  // Without a column for it nothing was said that could be misunderstood.
  const unknown_status = status === null || UNFINISHED.has(status) ? null : status;
  if (jobs.queued === 0) return { ...ended('completed', ''), unknown_status };
  return {
    status: 'paused',
    cancel_queued: null,
    pause_reason: 'adopted from an older installation; resume it when its old workers are stopped',
    last_error,
    unknown_status,
  };
}

export const noJobs = (): Record<TakenStatus, number> => ({
  queued: 0,
  completed: 0,
  failed: 0,
  cancelled: 0,
  skipped: 0,
  needs_review: 0,
});
