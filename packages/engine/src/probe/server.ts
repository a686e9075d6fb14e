import type { Clock } from '../clock.ts';
import { type Database, discover, queryGlobal } from '../db/database.ts';
import type { Limits } from '../limits.ts';

/** How far this process's clock is ahead of the database's, and how exactly that is known, in milliseconds. */
export async function probeClock(db: Database, clock: Clock): Promise<{ skew_ms: number; uncertainty_ms: number }> {
  const before = { monotonic_ms: clock.monotonicMs(), wall_ms: clock.wallMs() };
  const [row] = await queryGlobal<{ now_ms: number }>(
    db,
    'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS now_ms',
  );
  const half_ms = (clock.monotonicMs() - before.monotonic_ms) / 2;
  return { skew_ms: Math.round(before.wall_ms + half_ms - (row?.now_ms ?? 0)), uncertainty_ms: Math.ceil(half_ms) };
}

/** Notes how far a worker's clock is ahead of the database's, for whoever asks whether the installation is ready. */
export async function tellWorkerClock(db: Database, worker_id: string, wall_ms: number): Promise<void> {
  await queryGlobal(
    db,
    `UPDATE carillon.workers SET skew_ms = $2::bigint - (extract(epoch FROM now()) * 1000)::bigint WHERE worker_id = $1`,
    [worker_id, Math.round(wall_ms)],
  );
}

export interface WorkersProbe {
  /** Seen within the lease's TTL. */
  alive: number;
  /** The most that a live worker's clock is off the database's; null: none has told. */
  worst_skew_ms: number | null;
}

export async function probeWorkers(db: Database, limits: Limits): Promise<WorkersProbe> {
  const [row] = await queryGlobal<WorkersProbe>(
    db,
    `SELECT count(*) AS alive, max(abs(skew_ms)) AS worst_skew_ms FROM carillon.workers
     WHERE seen_at BETWEEN now() - $1 * interval '1 ms' AND now() + interval '2 s'`,
    [limits.lease_ttl_ms],
  );
  return row ?? { alive: 0, worst_skew_ms: null };
}

/** Whether this worker was seen within the lease's TTL. */
export async function isWorkerAlive(db: Database, worker_id: string, limits: Limits): Promise<boolean> {
  const rows = await queryGlobal(
    db,
    `SELECT 1 FROM carillon.workers
     WHERE worker_id = $1 AND seen_at BETWEEN now() - $2 * interval '1 ms' AND now() + interval '2 s'`,
    [worker_id, limits.lease_ttl_ms],
  );
  return rows.length > 0;
}

export interface LoadProbe {
  /** Runs that somebody should be working on. */
  runs_due: number;
  /** Of those, whose worker's last heartbeat is older than the TTL and the 2 s in which another takes over. */
  stale_leases: number;
  oldest_lock_age_s: number | null;
  /** Open attempts, and those whose answer was lost. */
  open_attempts: number;
  unknown_attempts: number;
  /** How long ago the oldest of those should have been dialled. */
  oldest_unknown_s: number | null;
  /** Calls that nobody wants and that are not known to be over. */
  unwanted_calls: number;
  /** Live calls of which their carrier has said nothing for two minutes. */
  silent_calls: number;
  /** Since the last callback of any carrier; null: there was none. */
  last_callback_age_s: number | null;
  halted_lanes: number;
  needs_review: number;
  runs_failed: number;
  reclaims: number;
}

/** The whole installation's work in figures, through discovery; canaries are left out. */
export async function probeLoad(db: Database, limits: Limits): Promise<LoadProbe> {
  const [row] = await discover<LoadProbe>(
    db,
    `WITH runs AS (
       SELECT r.* FROM (SELECT business_id, run_id, status, queued, in_progress, starts_at, lock_ts, needs_review,
                          reclaim_count
                        FROM carillon.outbound_call_runs) r
       JOIN carillon.businesses b ON b.business_id = r.business_id AND NOT b.canary),
     unknown AS (
       SELECT o.deadline_us FROM carillon.open_attempts o
       JOIN carillon.businesses b ON b.business_id = o.business_id AND NOT b.canary WHERE o.state = 'unknown')
     SELECT
       (SELECT count(*) FROM runs r WHERE status IN ('pending', 'running') AND (starts_at IS NULL OR starts_at <= now())
          -- But for those that rest: see run/lease.ts.
          AND (lock_ts IS NULL AND queued = 0 AND in_progress = 0
            AND (SELECT min(due_us) FROM carillon.job_schedule s
                 WHERE s.business_id = r.business_id AND s.run_id = r.run_id AND s.due_us > 0)
              > extract(epoch FROM now()) * 1000000 + $2::bigint * 1000) IS NOT TRUE) AS runs_due,
       (SELECT count(*) FROM runs WHERE status = 'running' AND lock_ts < now() - ($1 + 2000) * interval '1 ms')
         AS stale_leases,
       (SELECT extract(epoch FROM now() - min(lock_ts))::float8 FROM runs WHERE status = 'running') AS oldest_lock_age_s,
       (SELECT count(*) FROM carillon.open_attempts) AS open_attempts,
       (SELECT count(*) FROM unknown) AS unknown_attempts,
       (SELECT (extract(epoch FROM now()) - min(deadline_us) / 1e6)::float8 FROM unknown) AS oldest_unknown_s,
       (SELECT count(*) FROM carillon.unwanted_calls WHERE over_at IS NULL) AS unwanted_calls,
       (SELECT count(*) FROM carillon.open_attempts
        WHERE state IN ('placed', 'ringing', 'in_call') AND heard_us < (extract(epoch FROM now()) - 120) * 1000000)
         AS silent_calls,
       (SELECT extract(epoch FROM now() - max(last_callback_at))::float8 FROM carillon.carrier_accounts)
         AS last_callback_age_s,
       (SELECT count(*) FROM carillon.lanes WHERE halted_reason IS NOT NULL
          AND (halted_until_us IS NULL OR halted_until_us > extract(epoch FROM now()) * 1000000)) AS halted_lanes,
       (SELECT coalesce(sum(needs_review), 0)::bigint FROM runs) AS needs_review,
       (SELECT count(*) FROM runs WHERE status = 'failed') AS runs_failed,
       (SELECT coalesce(sum(reclaim_count), 0)::bigint FROM runs) AS reclaims`,
    [limits.lease_ttl_ms, limits.run_rest_ms],
  );
  if (!row) throw new Error('the counts gave no row');
  return row;
}

export interface ServerProbe {
  /** As the server has them. */
  settings: Record<string, string>;
  /** Of the sessions of this database that this login may look into. */
  oldest_transaction_s: number;
  /** Sessions of other logins, of which the server tells this one nothing. */
  hidden_sessions: number;
  connections: number;
  max_connections: number;
}

/** Durability settings, the oldest transaction and the connections, as far as the application's login may see them. */
export async function probeServer(db: Database): Promise<ServerProbe> {
  const [row] = await queryGlobal<ServerProbe>(
    db,
    `SELECT (SELECT jsonb_object_agg(name, setting) FROM pg_settings
             WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'server_version')) AS settings,
            (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8 FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()) AS oldest_transaction_s,
            (SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND backend_start IS NULL) AS hidden_sessions,
            (SELECT sum(numbackends) FROM pg_stat_database)::bigint AS connections,
            current_setting('max_connections')::bigint AS max_connections`,
  );
  if (!row) throw new Error('the server gave no row');
  return row;
}
