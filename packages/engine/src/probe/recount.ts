import type { BusinessId, RunId } from '@carillon/contract';
import { type Database, discover, inBusiness } from '../db/database.ts';

export interface RunToCount {
  business_id: BusinessId;
  run_id: RunId;
  total_leads: number;
}

export interface Choice {
  chosen: RunToCount[];
  /** Runs at work that the bounds left out. */
  left_out: number;
}

/** Live runs, newest first, as many as `runs_max` and together not more than `jobs_max` jobs; canaries are not among them. */
export async function chooseLiveRuns(db: Database, bounds: { runs_max: number; jobs_max: number }): Promise<Choice> {
  const [row] = await discover<{ chosen: RunToCount[] | null; at_work: number }>(
    db,
    `WITH at_work AS (
       SELECT r.business_id, r.run_id, r.total_leads,
              row_number() OVER newest AS turn, sum(r.total_leads) OVER newest AS jobs
       FROM carillon.outbound_call_runs r JOIN carillon.businesses b ON b.business_id = r.business_id AND NOT b.canary
       WHERE r.status IN ('pending', 'running', 'paused', 'cancelling')
       WINDOW newest AS (ORDER BY r.run_id DESC))
     SELECT count(*) AS at_work, json_agg(json_build_object('business_id', business_id, 'run_id', run_id,
              'total_leads', total_leads) ORDER BY turn) FILTER (WHERE turn <= $1 AND jobs <= $2) AS chosen
     FROM at_work`,
    [bounds.runs_max, bounds.jobs_max],
  );
  const chosen = row?.chosen ?? [];
  return { chosen, left_out: (row?.at_work ?? 0) - chosen.length };
}

/** The same of one business, its newest runs in whatever state. */
export async function chooseRuns(
  db: Database,
  business_id: BusinessId,
  bounds: { runs_max: number; jobs_max: number },
): Promise<Choice> {
  const runs = await inBusiness(db, business_id, (tx) =>
    tx.query<RunToCount & { turn: number; jobs: number }>(
      `SELECT business_id, run_id, total_leads, row_number() OVER newest AS turn, sum(total_leads) OVER newest AS jobs
       FROM carillon.outbound_call_runs WHERE business_id = $1 WINDOW newest AS (ORDER BY run_id DESC)`,
      [business_id],
    ),
  );
  const chosen = runs.filter(({ turn, jobs }) => turn <= bounds.runs_max && jobs <= bounds.jobs_max);
  return { chosen, left_out: runs.length - chosen.length };
}

export interface Recount {
  run_id: RunId;
  cursor_position: number;
  finished: number;
  /** What the run says beside what its rows give, for each counter that differs. */
  differing: Record<string, { kept: number; counted: number }>;
}

const STATES = ['queued', 'waiting', 'in_progress', 'completed', 'failed', 'cancelled', 'skipped', 'needs_review'];
const FINISHED = STATES.slice(3);

/**
 * Counts a run's jobs by what they effectively are and puts that beside its counters and its cursor: one statement, one
 * snapshot, so that a run may go on meanwhile. Null: the run is gone.
 */
export async function recountRun(db: Database, business_id: BusinessId, run_id: RunId): Promise<Recount | null> {
  const [row] = await inBusiness(db, business_id, (tx) =>
    tx.query<{ kept: Record<string, number>; counted: Record<string, number>; unmade: number; stopped: boolean }>(
      `SELECT jsonb_build_object('queued', r.queued, 'waiting', r.waiting, 'in_progress', r.in_progress,
                'completed', r.completed, 'failed', r.failed, 'cancelled', r.cancelled, 'skipped', r.skipped,
                'needs_review', r.needs_review, 'cursor_position', r.cursor_position) AS kept,
              coalesce((SELECT jsonb_object_agg(status, jobs) FROM (
                SELECT j.status, count(*) AS jobs FROM carillon.outbound_call_jobs j
                WHERE j.business_id = $1 AND j.run_id = $2 GROUP BY j.status) by_status), '{}') AS counted,
              r.total_leads - r.filled_seq AS unmade, r.status IN ('cancelling', 'cancelled', 'failed') AS stopped
       FROM carillon.outbound_call_runs r WHERE r.business_id = $1 AND r.run_id = $2`,
      [business_id, run_id],
    ),
  );
  if (!row) return null;
  const rows = { ...row.counted, queued: (row.counted.queued ?? 0) + row.unmade };
  const counted = row.stopped ? asCancelled(rows) : rows;
  const of = (counts: Record<string, number>, name: string) => counts[name] ?? 0;
  const finished = FINISHED.reduce((sum, state) => sum + of(counted, state), 0);
  const pairs = [
    ...STATES.map((state) => [state, of(row.kept, state), of(counted, state)] as const),
    ['cursor_position', of(row.kept, 'cursor_position'), finished] as const,
  ];
  return {
    run_id,
    cursor_position: of(row.kept, 'cursor_position'),
    finished,
    differing: Object.fromEntries(
      pairs.filter(([, kept, seen]) => kept !== seen).map(([name, kept, seen]) => [name, { kept, counted: seen }]),
    ),
  };
}

/** In a stopped run whatever is not called yet is cancelled, though its row is swept later. */
function asCancelled(rows: Record<string, number>): Record<string, number> {
  const { queued = 0, waiting = 0, cancelled = 0, ...others } = rows;
  return { ...others, cancelled: cancelled + queued + waiting };
}
