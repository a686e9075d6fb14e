import type { JobStatus } from '@carillon/contract';
import type { JobRecord, RunEvent, RunRow } from '../rows.ts';
import type { AuditLimits, Invariant, Violation } from '../types.ts';

/** A run that is being judged, and what its judges need to know beside its rows. */
export interface AuditedRun {
  business_id: number;
  run: RunRow;
  /** Its changes, as the trail has them. */
  events: readonly RunEvent[];
  /** When the trail began; runs that are older have no event of their creation. */
  trail_since_us: number;
  now_us: number;
  limits: AuditLimits;
  /** A moment that the database's clock showed twice: which of two things came first can't be told by it. */
  isBlurred(us: number): boolean;
}

/** A violation that a person's decision about the job, between these times, would explain. */
export interface Doubt {
  violation: Violation;
  after_us: number;
  before_us: number;
  /** Only the decision to call again explains it, not just any. */
  call_again?: boolean;
  /** For a job without attempts: the state in which it may have been adopted, with calls that an older system made. */
  unless_adopted?: { run_id: number; seq: number; status: JobStatus };
  /** A carrier's list may have shown a call to this lead that a restored database had forgotten. */
  unless_restored?: boolean;
}

export function jobViolation(
  invariant: Invariant,
  { business_id, run }: AuditedRun,
  { seq }: Pick<JobRecord, 'seq'>,
  what: string,
  evidence: Record<string, unknown>,
  attempt?: number,
): Violation {
  const { run_id } = run;
  const job_id = `${run_id}-${seq}`;
  const of = attempt === undefined ? `Job ${job_id}` : `Attempt ${attempt} of job ${job_id}`;
  return {
    invariant,
    business_id,
    run_id,
    job_id,
    ...(attempt !== undefined && { attempt }),
    what: `${of} ${what}`,
    evidence,
  };
}

export function runViolation(
  invariant: Invariant,
  { business_id, run }: AuditedRun,
  what: string,
  evidence: Record<string, unknown>,
): Violation {
  return { invariant, business_id, run_id: run.run_id, what: `Run ${run.run_id} ${what}`, evidence };
}

export function isoTime(us: number): string {
  return new Date(us / 1_000).toISOString();
}
