import type { BusinessId, RunId } from '@carillon/contract';
import { localActor } from '../actor.ts';
import { trailRun } from '../audit/trail.ts';
import type { Database, Tx } from '../db/database.ts';
import { discover, inBusiness, queryGlobal } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import type { RunRow } from './row.ts';
import { BACK_OFF_LONGEST_US, CLOCK_SET_BACK_US, RETRY } from './set-back.ts';

/** A worker's time-limited right to work on a run. Void once another epoch is on the row. */
export interface Lease {
  business_id: BusinessId;
  run_id: RunId;
  carrier_account_id: number;
  lease_epoch: number;
}

export interface LeaseNews {
  taken: Lease[];
  /** How many runs each live worker should hold; a worker with more gives the excess back. */
  fair_share: number;
}

/**
 * A run rests that only waits, the first of its leads for longer than `run_rest_ms`. Until then it needs no worker, and
 * would keep a place from runs of other businesses, for up to 30 days. Of run `r`, that it only waits.
 */
const WAITS = `r.status = 'running' AND r.queued = 0 AND r.in_progress = 0`;

const NOW_US = '(extract(epoch FROM now()) * 1000000)::bigint';

/**
 * Of the first lead that is due, that it can be slept on; but not where that lies further ahead than anything of this run
 * waits: then it was told before the database's clock was set back, and a claim is to bring it forward.
 */
const CAN_REST = `due_us > ${NOW_US} + $1::bigint * 1000 AND due_us <= ${NOW_US} + $2::bigint + CASE
         WHEN reason = $3 THEN (
           SELECT coalesce(max(after_s::text::float8), 0) * 1000000
           FROM jsonb_path_query(r.policy, '$.retry.*.after_s') AS after_s)
         ELSE $4 END`;

const restParams = (limits: Limits) => [limits.run_rest_ms, CLOCK_SET_BACK_US, RETRY, BACK_OFF_LONGEST_US];

/**
 * Takes up to the worker's fair share of the runs that nobody works on: fresh ones, resumed ones, and those whose
 * worker missed its heartbeats. One run of each business comes before any business's second, so that many runs of one
 * do not keep another waiting. Those that rest are nobody's, and count for nobody.
 *
 * A heartbeat in the future was written before the database's clock was set back; it is as good as none.
 *
 * Also tells that this worker is alive. `onError` hears of runs that could not be taken; the others are.
 */
export async function leaseRuns(
  db: Database,
  worker_id: string,
  held: number,
  limits: Limits,
  onError: (error: unknown) => void,
): Promise<LeaseNews> {
  const workers = await markAlive(db, worker_id, limits);
  const [due] = await discover<{ runs: number }>(
    db,
    `SELECT count(*) AS runs FROM carillon.outbound_call_runs r
     WHERE status IN ('pending', 'running') AND (starts_at IS NULL OR starts_at <= now())
       AND (${WAITS} AND (
         SELECT ${CAN_REST} FROM carillon.job_schedule
         WHERE business_id = r.business_id AND run_id = r.run_id AND due_us > 0
         ORDER BY due_us LIMIT 1)) IS NOT TRUE`,
    restParams(limits),
  );
  const fair_share = Math.min(limits.worker_runs, Math.ceil((due?.runs ?? 0) / workers));
  const taken: Lease[] = [];
  if (held >= fair_share) return { taken, fair_share };
  const free = await discover<{ business_id: BusinessId; run_id: RunId }>(
    db,
    `SELECT business_id, run_id
     FROM (SELECT business_id, run_id, row_number() OVER (PARTITION BY business_id ORDER BY run_id) AS turn
           FROM carillon.outbound_call_runs r
           WHERE status IN ('pending', 'running') AND (starts_at IS NULL OR starts_at <= now())
             AND (lock_ts IS NULL OR lock_ts NOT BETWEEN now() - $5 * interval '1 ms' AND now() + interval '2 s')
             AND (${WAITS} AND (
               SELECT ${CAN_REST} FROM carillon.job_schedule
               WHERE business_id = r.business_id AND run_id = r.run_id AND due_us > 0
               ORDER BY due_us LIMIT 1)) IS NOT TRUE) unheld
     ORDER BY turn, run_id LIMIT $6`,
    [...restParams(limits), limits.lease_ttl_ms, fair_share - held],
  );
  for (const run of free) {
    try {
      const lease = await inBusiness(db, run.business_id, 'lease', (tx) => leaseRun(tx, run.run_id, worker_id, limits));
      if (lease) taken.push(lease);
    } catch (error) {
      onError(error);
    }
  }
  return { taken, fair_share };
}

/**
 * Takes one run, if it is still free. SKIP LOCKED: of two workers that want it, the second goes on at once. A run whose
 * leases started calls and finished none, again and again, is failed instead of taken.
 */
export async function leaseRun(tx: Tx, run_id: RunId, worker_id: string, limits: Limits): Promise<Lease | null> {
  const [run] = await tx.query<RunRow>(
    `SELECT * FROM carillon.outbound_call_runs
     WHERE business_id = $1 AND run_id = $2 AND status IN ('pending', 'running')
       AND (starts_at IS NULL OR starts_at <= now())
       AND (lock_ts IS NULL OR lock_ts NOT BETWEEN now() - $3 * interval '1 ms' AND now() + interval '2 s')
     FOR NO KEY UPDATE SKIP LOCKED`,
    [tx.business_id, run_id, limits.lease_ttl_ms],
  );
  if (!run) return null;
  const reclaimed = run.locked_by_worker !== null;
  const fruitless = run.lease_settled ? 0 : run.fruitless_leases + (reclaimed && run.lease_claimed ? 1 : 0);
  if (fruitless >= limits.fruitless_leases) {
    await failRun(tx, run, fruitless, worker_id);
    return null;
  }
  await tx.query(
    `UPDATE carillon.outbound_call_runs SET
       status = 'running', started_at = coalesce(started_at, now()), locked_by_worker = $3, lock_ts = now(),
       lease_epoch = lease_epoch + 1, reclaim_count = reclaim_count + $4, lease_claimed = false, lease_settled = false,
       fruitless_leases = $5, updated_at = now()
     WHERE business_id = $1 AND run_id = $2`,
    [tx.business_id, run_id, worker_id, reclaimed ? 1 : 0, fruitless],
  );
  const lease_epoch = run.lease_epoch + 1;
  trailRun(
    tx,
    localActor(`worker:${worker_id}`),
    run.status === 'pending' ? 'run.started' : reclaimed ? 'run.reclaimed' : 'run.leased',
    run,
    { status: 'running', lease_epoch, locked_by_worker: worker_id },
    { lease_epoch: run.lease_epoch, locked_by_worker: run.locked_by_worker },
  );
  return { business_id: tx.business_id, run_id, carrier_account_id: run.carrier_account_id, lease_epoch };
}

/**
 * Gives those of a worker's runs back that rest, so that nobody holds them until shortly before a lead is due, or until
 * something is to be done sooner. To be called before `leaseRuns`, which counts only those that do not rest. Returns those
 * that were given back.
 */
export async function restRuns(
  db: Database,
  leases: readonly Lease[],
  worker_id: string,
  limits: Limits,
  onError: (error: unknown) => void,
): Promise<Lease[]> {
  if (leases.length === 0) return [];
  const resting = await discover<{ at: number }>(
    db,
    `SELECT (mine.at - 1)::int AS at
     FROM unnest($5::bigint[], $6::bigint[]) WITH ORDINALITY AS mine (business_id, run_id, at)
     CROSS JOIN LATERAL (
       SELECT business_id, run_id, status, queued, in_progress, policy FROM carillon.outbound_call_runs
       WHERE business_id = mine.business_id AND run_id = mine.run_id OFFSET 0) r
     WHERE ${WAITS} AND (
       SELECT ${CAN_REST} FROM carillon.job_schedule s
       WHERE s.business_id = r.business_id AND s.run_id = r.run_id AND due_us > 0
       ORDER BY due_us LIMIT 1)`,
    [...restParams(limits), leases.map((one) => one.business_id), leases.map((one) => one.run_id)],
  );
  const given: Lease[] = [];
  for (const lease of resting.flatMap(({ at }) => leases[at] ?? [])) {
    try {
      if (await inBusiness(db, lease.business_id, 'release', (tx) => restRun(tx, lease, worker_id))) given.push(lease);
    } catch (error) {
      onError(error);
    }
  }
  return given;
}

/** Looks again whether it waits, but not until when: where that has changed meanwhile, the next look takes it. */
async function restRun(tx: Tx, lease: Lease, worker_id: string): Promise<boolean> {
  const rested = await tx.query(
    `UPDATE carillon.outbound_call_runs r SET locked_by_worker = NULL, lock_ts = NULL
     WHERE business_id = $1 AND run_id = $2 AND locked_by_worker = $3 AND lease_epoch = $4 AND ${WAITS} RETURNING 1`,
    [tx.business_id, lease.run_id, worker_id, lease.lease_epoch],
  );
  return rested.length > 0;
}

/**
 * Gives up on a run. It becomes final once its open attempts are settled; until then it is stopped like a cancelled
 * one, so that no further lease is taken.
 */
async function failRun(tx: Tx, run: RunRow, fruitless: number, worker_id: string): Promise<void> {
  const error = `${fruitless} workers in a row started calls of this run and died before any of them finished`;
  const status = run.in_progress === 0 ? 'failed' : 'cancelling';
  await tx.query(
    `UPDATE carillon.outbound_call_runs SET
       status = $5, ended_at = CASE WHEN in_progress = 0 THEN now() END, last_error = $3,
       cancel_requested_at = now(), control_epoch = control_epoch + 1,
       cancelled = cancelled + queued + waiting, queued = 0, waiting = 0,
       fruitless_leases = $4, locked_by_worker = NULL, lock_ts = NULL, updated_at = now()
     WHERE business_id = $1 AND run_id = $2`,
    [tx.business_id, run.run_id, error, fruitless, status],
  );
  const action = status === 'failed' ? 'run.failed' : 'run.cancel_requested';
  trailRun(tx, localActor(`worker:${worker_id}`), action, run, {
    status,
    control_epoch: run.control_epoch + 1,
    last_error: error,
  });
}

const FORGET_WORKERS_AFTER = '1 hour';

/** Says that this worker lives, at most ten times a TTL. Returns how many do, itself included. */
async function markAlive(db: Database, worker_id: string, limits: Limits): Promise<number> {
  const shown = await queryGlobal(
    db,
    `INSERT INTO carillon.workers AS w (worker_id) VALUES ($1) ON CONFLICT (worker_id) DO UPDATE SET seen_at = now()
     WHERE w.seen_at NOT BETWEEN now() - $2 * interval '1 ms' AND now() + interval '2 s' RETURNING worker_id`,
    [worker_id, limits.lease_ttl_ms / 10],
  );
  if (shown.length > 0)
    await queryGlobal(db, 'DELETE FROM carillon.workers WHERE seen_at < now() - $1::interval', [FORGET_WORKERS_AFTER]);
  const [alive] = await queryGlobal<{ workers: number }>(
    db,
    `SELECT count(*) AS workers FROM carillon.workers
     WHERE seen_at BETWEEN now() - $1 * interval '1 ms' AND now() + interval '2 s'`,
    [limits.lease_ttl_ms],
  );
  return Math.max(1, alive?.workers ?? 1);
}

/** A worker that stops says so, and the others take over its share at once. */
export async function leaveWorkers(db: Database, worker_id: string): Promise<void> {
  await queryGlobal(db, 'DELETE FROM carillon.workers WHERE worker_id = $1', [worker_id]);
}
