import { type BusinessId, JOB_STATES, type Job, type RunId } from '@carillon/contract';
import { type Database, listJobs } from '@carillon/engine';

/** How many finished leads of a run ended how: an outcome's name, or a final state's where no call was made. */
export type Split = ReadonlyMap<string, number>;

export interface OutcomeReader {
  /** Reads what has finished since, at most a few pages; a long run is caught up with over several calls. */
  read(): Promise<Split>;
}

const PAGE_JOBS = 500;
const PAGES_AT_ONCE = 4;

/**
 * Splits a run's finished leads by outcome. Jobs finish nearly in the order of their numbers, so those up to the first
 * unfinished one are counted once and never read again: what a reading costs depends on the calls that are live, not on
 * the length of the run.
 */
export function createOutcomeReader(db: Database, business_id: BusinessId, run_id: RunId): OutcomeReader {
  const settled = new Map<string, number>();
  let settled_seq = 0;
  return {
    async read() {
      let whole = true;
      const ahead = new Map<string, number>();
      let after = settled_seq;
      for (let pages = 0; pages < PAGES_AT_ONCE; pages++) {
        const { items, next } = await listJobs(db, business_id, run_id, { after, limit: PAGE_JOBS });
        for (const job of items) {
          const seq = Number(job.job_id.split('-')[1]);
          const outcome = outcomeOf(job);
          whole &&= outcome !== null;
          if (outcome !== null) add(whole ? settled : ahead, outcome);
          if (whole) settled_seq = seq;
          after = seq;
        }
        // Fresh jobs are taken in order: behind a page with none that has begun there is nothing to count.
        if (next === null || items.every(({ status }) => status === 'queued')) break;
      }
      for (const [outcome, times] of settled) add(ahead, outcome, times);
      return ahead;
    },
  };
}

/** Null while the lead may still be called. */
export function outcomeOf(job: Pick<Job, 'status' | 'last_outcome'>): string | null {
  if (!JOB_STATES[job.status].final) return null;
  return job.status === 'completed' || job.status === 'failed' ? (job.last_outcome ?? job.status) : job.status;
}

function add(split: Map<string, number>, outcome: string, times = 1): void {
  split.set(outcome, (split.get(outcome) ?? 0) + times);
}

/** The same of jobs that are at hand. */
export function splitOf(jobs: readonly Job[]): Split {
  const split = new Map<string, number>();
  for (const job of jobs) {
    const outcome = outcomeOf(job);
    if (outcome !== null) add(split, outcome);
  }
  return split;
}
