import { FINAL_RUNS, type JobRecord, type OpenRow, STOPPED_RUNS } from '../rows.ts';
import type { Snapshot } from '../snapshot.ts';
import type { AuditLimits, Violation } from '../types.ts';
import { type AuditedRun, isoTime, jobViolation, runViolation } from './audited.ts';
import type { Recount } from './counters.ts';
import type { Lane } from './lanes.ts';

/** Heartbeats that must be missed before a run counts as left lying: the promise is one, and two seconds. */
const LEASES = 3;
const STALL_MORE_US = 10_000_000;
/** What the reapers wait for may be waited for once more, after a worker that died over it. */
const REAPED_TWICE = 2;
const REAPED_MORE_US = 60_000_000;

/** Who could have moved things on. */
export interface Workers {
  /** Since when some worker has been at work without a break; null: none is. */
  alive_since_us: number | null;
  alive: number;
  /** Runs of all businesses that want to be worked on. */
  runs_to_hold: number;
}

const WORKERS = `
  SELECT count(*) AS alive, (extract(epoch FROM min(started_at)) * 1000000)::bigint AS alive_since_us
  FROM carillon.workers WHERE seen_at BETWEEN now() - $1 * interval '1 ms' AND now() + interval '2 s'`;

/** Workers that have shown themselves within the lease's time. */
export async function readWorkers(
  snapshot: Snapshot,
  { lease_ttl_ms }: AuditLimits,
  runs_to_hold: number,
): Promise<Workers> {
  const [workers] = await snapshot.query<Pick<Workers, 'alive' | 'alive_since_us'>>(WORKERS, [lease_ttl_ms]);
  return { alive: 0, alive_since_us: null, ...workers, runs_to_hold };
}

/** True when something has waited for longer than `bound_us` although a worker was there all the time. */
function isLeft(audited: AuditedRun, { alive_since_us }: Workers, since_us: number, bound_us: number): boolean {
  const latest_us = audited.now_us - bound_us;
  return alive_since_us !== null && alive_since_us <= latest_us && since_us <= latest_us;
}

/** What the run's rows say about work that is left. */
export interface Work {
  /** When the waiting job that is due first was due; null: none waits. */
  first_due_us: number | null;
}

/** Invariant 6 for a whole run. `workers`: nothing is late while there is nobody to do it. */
export function* runEnd(
  audited: AuditedRun,
  { states }: Recount,
  work: Work,
  lane: Lane | undefined,
  workers: Workers,
): Generator<Violation> {
  const { run } = audited;
  const final = FINAL_RUNS.includes(run.status);
  const left = states.queued + states.waiting + states.in_progress + Math.max(0, unmade(audited));
  if (final && run.ended_us === null)
    yield runViolation(6, audited, `is ${run.status}, and has no time of its end`, {});
  if (!final && run.ended_us !== null)
    yield runViolation(6, audited, `is ${run.status}, and says that it ended at ${isoTime(run.ended_us)}`, {});
  if (final && left > 0)
    yield runViolation(6, audited, `is ${run.status}, and ${left} of its jobs are not`, { ...states });
  if (final) return;
  if (run.status !== 'draft' && left === 0)
    yield runViolation(6, audited, `is ${run.status} with every job finished: nobody will end it`, { ...states });
  yield* leftLying(audited, states, work, lane, workers);
}

function unmade({ run }: AuditedRun): number {
  return STOPPED_RUNS.includes(run.status) ? 0 : run.total_leads - run.filled_seq;
}

function* leftLying(
  audited: AuditedRun,
  states: Recount['states'],
  { first_due_us }: Work,
  lane: Lane | undefined,
  workers: Workers,
): Generator<Violation> {
  const { run, limits, now_us } = audited;
  const stall_us = LEASES * limits.lease_ttl_ms * 1_000 + STALL_MORE_US;
  const left = (since_us: number) => isLeft(audited, workers, since_us, stall_us);
  if (run.ends_us !== null && run.status !== 'cancelling' && run.status !== 'draft' && left(run.ends_us))
    yield runViolation(6, audited, `should have ended at ${isoTime(run.ends_us)}, and nobody has stopped it`, {
      ends_us: run.ends_us,
    });
  const open = run.status === 'running' || (run.status === 'pending' && (run.starts_us ?? 0) <= now_us);
  if (!open) return;
  const queued = states.queued + unmade(audited);
  // One that only waits needs nobody until the first of its leads is due.
  const rests_until_us = queued + states.in_progress === 0 ? (first_due_us ?? 0) : 0;
  // With more runs than the workers may hold some have to wait.
  const since_us = run.lock_us ?? Math.max(run.updated_us, run.starts_us ?? 0, rests_until_us);
  if (left(since_us) && workers.runs_to_hold <= workers.alive * limits.worker_runs) {
    const what =
      run.lock_us === null ? 'nobody has taken it' : `its lease of ${isoTime(run.lock_us)} was not taken over`;
    yield runViolation(6, audited, `is ${run.status}, workers live, and ${what}`, { lock_us: run.lock_us });
    return;
  }
  const idle = run.lock_us !== null && lane?.open === 0 && lane.halted_reason === null;
  const due = queued > 0 ? run.updated_us : Math.max(first_due_us ?? Infinity, run.updated_us);
  if (idle && left(lane?.tat_us ?? 0) && left(due))
    yield runViolation(6, audited, 'has leads to call and free lines, and calls nobody', {
      queued,
      first_due_us,
      lease_us: run.lock_us,
    });
}

/** Invariant 6 for a job: nothing that nobody would ever touch again. */
export function* jobLeftLying(audited: AuditedRun, job: JobRecord, workers: Workers): Generator<Violation> {
  for (const open of job.open) if (isOverdue(audited, workers, open)) yield overdue(audited, open);
  if (!job.row) return;
  const { run } = audited;
  const { status } = job.row;
  if (status === 'in_progress' && job.open.length === 0)
    yield jobViolation(6, audited, job, 'is in progress without an open attempt: nobody will end it', {});
  if (STOPPED_RUNS.includes(run.status)) return;
  if (status === 'waiting' && job.schedule.length === 0)
    yield jobViolation(6, audited, job, 'waits for no time: nobody will call it', {});
  if (status === 'queued' && job.seq < run.claim_cursor)
    yield jobViolation(6, audited, job, 'is queued behind the claim cursor: nobody will call it', {
      claim_cursor: run.claim_cursor,
    });
}

function reapedAfterUs({ limits }: AuditedRun, { call_max_ms }: OpenRow): number {
  const { carrier_effect_delay_ms, carrier_listing_delay_ms, reconcile_margin_ms } = limits;
  const { dial_deadline_ms, ring_timeout_ms } = limits;
  const grace_ms = carrier_effect_delay_ms + carrier_listing_delay_ms + reconcile_margin_ms + dial_deadline_ms;
  return REAPED_TWICE * (grace_ms + ring_timeout_ms + call_max_ms) * 1_000 + REAPED_MORE_US;
}

function isOverdue(audited: AuditedRun, workers: Workers, open: OpenRow): boolean {
  const since_us = Math.max(open.deadline_us, open.placed_us ?? 0);
  return isLeft(audited, workers, since_us, reapedAfterUs(audited, open));
}

function overdue(audited: AuditedRun, { seq, attempt_no, state, deadline_us, placed_us }: OpenRow): Violation {
  const since = isoTime(Math.max(deadline_us, placed_us ?? 0));
  const what = `is ${state} since ${since}, past every deadline of its reapers, while workers live`;
  return jobViolation(6, audited, { seq }, what, { state, deadline_us, placed_us }, attempt_no);
}

export const RUN_END_STATEMENTS = { WORKERS };
