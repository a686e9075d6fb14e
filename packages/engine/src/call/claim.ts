import { randomBytes } from 'node:crypto';
import type { BusinessId, RunId, Seq } from '@carillon/contract';
import { localActor } from '../actor.ts';
import type { Clock } from '../clock.ts';
import type { Database, Tx } from '../db/database.ts';
import { databaseNow, inBusiness } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import { IS_WHOLE, type Recollection } from '../restore/state.ts';
import type { Lease } from '../run/lease.ts';
import type { RunRow } from '../run/row.ts';
import { bringForwardSetBack } from '../run/set-back.ts';
import {
  busyNumbers,
  type Candidate,
  choose,
  dueJobs,
  freshJobs,
  hasNumber,
  isUnclaimed,
  lockPersons,
  nextDue,
} from './candidates.ts';
import { pace } from './pace.ts';
import { changeJobs } from './stretches.ts';
import { ERASED, withdrawJobs } from './withdraw.ts';

/** One committed intent to call, as the worker needs it to dial. */
export interface ClaimedAttempt {
  business_id: BusinessId;
  run_id: RunId;
  seq: Seq;
  attempt_no: number;
  carrier_account_id: number;
  token: string;
  to: string;
  from: string;
  /** When the call may start and until when it may be asked for, on the claiming process's two clocks. */
  start_monotonic_ms: number;
  /** Between two starts of the lane, at its rate. */
  interval_ms: number;
  deadline_monotonic_ms: number;
  deadline_wall_ms: number;
  /** The same deadline in microseconds of the database's clock, from which absence is counted. */
  deadline_us: number;
}

/**
 * Why a claim took nothing, or less than there is:
 * - `lost`: this worker does not hold the run (any more), or the run does not run.
 * - `lines`: every line of the lane or of the run is busy; a settlement will free one.
 * - `rate`: the lane's next start lies further ahead than a claim may take.
 * - `halted`: the lane takes no calls for now, or none does while a restore is not acknowledged.
 * - `idle`: nothing is due.
 * - `more`: this claim was full; the next may follow at once.
 */
export type ClaimState = 'lost' | 'lines' | 'rate' | 'halted' | 'idle' | 'more';

export interface Claim {
  state: ClaimState;
  attempts: ClaimedAttempt[];
  /** Jobs of the run are still to be made, and few lie ahead of the cursor: see `fillAhead`. */
  unfilled: boolean;
  /** When the next claim may find something, on the monotonic clock; null: only a wake-up can tell. */
  again_monotonic_ms: number | null;
}

interface LaneRow {
  concurrency_limit: number;
  calls_per_second: number;
  tat_us: number;
  halted_reason: string | null;
  halted_until_us: number | null;
  refusals_in_a_row: number;
  from_numbers: string[];
  /** The business has others beside it. */
  one_of_several: boolean;
}

/**
 * Commits what may start within the next `claim_ahead_ms`: locks the run, then the lane; then reads, in statements
 * whose snapshot is taken after the locks (lock and count in one statement sees what was there before it waited, and
 * gave two calls on one line); then writes jobs, attempts, cursor, counters and pace together.
 *
 * Both of the process's clocks are read before the claim is sent, so that a process stopped anywhere behind this line
 * finds its deadline past when it wakes.
 *
 * `memory`: what this process has written to the database last. One that no longer has it, or that is suspected to have
 * forgotten calls, gives nothing to claim (docs/adr/0009).
 */
export async function claim(
  db: Database,
  lease: Lease,
  worker_id: string,
  clock: Clock,
  limits: Limits,
  memory: Recollection | null = null,
): Promise<Claim> {
  const asked = { monotonic_ms: clock.monotonicMs(), wall_ms: clock.wallMs() };
  return await inBusiness(db, lease.business_id, 'claim', async (tx) => {
    const [run, lane, now_us, whole] = await lockRunAndLane(tx, lease, worker_id, limits, memory);
    const now_monotonic_ms = clock.monotonicMs();
    const toMonotonic = (us: number) => now_monotonic_ms + (us - now_us) / 1_000;
    const nothing = (state: ClaimState, again_us: number | null): Claim => ({
      state,
      attempts: [],
      unfilled: run !== null && isUnfilled(run, limits),
      again_monotonic_ms: again_us === null ? null : toMonotonic(again_us),
    });
    if (!run || !lane) return nothing('lost', null);
    if (!whole) return nothing('halted', null);
    if (isHalted(lane, now_us, limits)) return nothing('halted', lane.halted_until_us);
    // Whoever stops overdue runs comes round now and then; no call may begin in between.
    const ends_us = run.ends_at === null ? Number.POSITIVE_INFINITY : run.ends_at.getTime() * 1_000;
    if (ends_us <= now_us) return nothing('idle', null);

    const may = pace({
      tat_us: lane.tat_us,
      now_us,
      ahead_us: limits.claim_ahead_ms * 1_000,
      ends_us,
      calls_per_second: lane.calls_per_second,
      wanted: Math.min(limits.claim_batch_attempts, run.concurrency, lane.concurrency_limit),
    });
    // The lane has a start for this run only after its end.
    if (may.starts_us.length === 0 && lane.tat_us > ends_us) return nothing('idle', null);
    if (may.starts_us.length === 0) return nothing('rate', lane.tat_us - limits.claim_ahead_ms * 1_000);

    const { open, candidates, alone, all } = await readCandidates(tx, lease, run, lane, now_us, may.starts_us.length);
    const free = freeLines(lane, run, open);
    if (free <= 0) return nothing('lines', null);

    if (lane.one_of_several) await lockPersons(tx, candidates);
    const others = lane.one_of_several || open.business > open.run;
    const busy = others ? await busyNumbers(tx, lease, candidates) : new Set<string>();
    const callable = (job: Candidate) => hasNumber(job) && !busy.has(job.phone);
    const taken = choose(candidates, callable, Math.min(free, may.starts_us.length));
    const [clashing, clear] = partition(taken.filter(hasNumber), (job) => busy.has(job.phone));
    const attempts = clear.map((job, i) => intend(job, may.starts_us[i] ?? now_us));
    writeClaim(tx, { run, lease, worker_id, now_us, limits, attempts, clashing, taken, alone });
    paceLane(tx, lease, lane, attempts.at(-1)?.start_us);

    const exhausted = all && taken.length === candidates.length;
    if (exhausted && run.waiting > 0) await bringForwardSetBack(tx, run, now_us);
    const next_due_us = exhausted ? await nextDue(tx, lease) : now_us;
    return {
      state: exhausted ? 'idle' : 'more',
      unfilled: isUnfilled(run, limits),
      attempts: attempts.map((attempt) => ({
        ...attempt,
        start_monotonic_ms: toMonotonic(attempt.start_us),
        interval_ms: 1_000 / lane.calls_per_second,
        deadline_monotonic_ms: asked.monotonic_ms + limits.dial_deadline_ms,
        deadline_wall_ms: asked.wall_ms + limits.dial_deadline_ms,
        deadline_us: now_us + limits.dial_deadline_ms * 1_000,
      })),
      again_monotonic_ms: next_due_us === null ? null : toMonotonic(next_due_us),
    };

    function intend(job: Candidate & { phone: string }, start_us: number): Intent {
      return {
        job,
        start_us,
        business_id: lease.business_id,
        run_id: lease.run_id,
        seq: job.seq,
        attempt_no: job.attempts + 1,
        carrier_account_id: lease.carrier_account_id,
        token: randomBytes(16).toString('base64url'),
        to: job.phone,
        from: lane?.from_numbers[job.seq % lane.from_numbers.length] ?? '',
      };
    }
  });
}

type Intent = Omit<
  ClaimedAttempt,
  'start_monotonic_ms' | 'interval_ms' | 'deadline_monotonic_ms' | 'deadline_wall_ms' | 'deadline_us'
> & {
  job: Candidate;
  start_us: number;
};

async function lockRunAndLane(tx: Tx, lease: Lease, worker_id: string, limits: Limits, memory: Recollection | null) {
  const [runs, lanes, now_us, wholes] = await Promise.all([
    tx.query<RunRow>(
      `SELECT *, lock_ts BETWEEN now() - $3 * interval '1 ms' AND now() + interval '2 s' AS alive FROM carillon.outbound_call_runs
       WHERE business_id = $1 AND run_id = $2 FOR NO KEY UPDATE`,
      [lease.business_id, lease.run_id, limits.lease_ttl_ms],
    ) as Promise<(RunRow & { alive: boolean })[]>,
    tx.query<LaneRow>(
      `SELECT l.concurrency_limit, l.calls_per_second, l.tat_us, l.halted_reason, l.halted_until_us,
              l.refusals_in_a_row, a.from_numbers,
              EXISTS (SELECT FROM carillon.lanes o WHERE o.business_id = $1 AND o.carrier_account_id <> $2) AS one_of_several
       FROM carillon.lanes l
       JOIN carillon.carrier_accounts a
         ON a.business_id = l.business_id AND a.carrier_account_id = l.carrier_account_id
       WHERE l.business_id = $1 AND l.carrier_account_id = $2 FOR NO KEY UPDATE OF l`,
      [lease.business_id, lease.carrier_account_id],
    ),
    databaseNow(tx),
    tx.query<{ whole: boolean }>(IS_WHOLE, [memory?.witness_id ?? null, memory?.beat ?? null]),
  ]);
  const [run] = runs;
  const ours =
    run?.status === 'running' &&
    run.locked_by_worker === worker_id &&
    run.lease_epoch === lease.lease_epoch &&
    run.alive;
  return [ours ? run : null, lanes[0] ?? null, now_us, wholes[0]?.whole === true] as const;
}

interface Open {
  business: number;
  lane: number;
  run: number;
  dialing: number;
  dialing_run: number;
}

/**
 * Whom this claim may take, in order: who is due, then the fresh. Where there is nobody else, and nobody of the run is
 * being dialled, one of those that are tried last. `all`: there are no more of them at this moment.
 */
async function readCandidates(tx: Tx, lease: Lease, run: RunRow, lane: LaneRow, now_us: number, wanted: number) {
  const [open, due, fresh] = await Promise.all([
    countOpen(tx, lease),
    dueJobs(tx, lease, now_us, wanted),
    freshJobs(tx, run, wanted),
  ]);
  // A lane is probed with whoever was tried least: one lead that is refused each time must not be the probe for ever.
  // The fresh keep their order, in which the cursor passes them.
  const probing = lane.refusals_in_a_row > 0;
  const candidates = probing ? [...fresh, ...due.toSorted((a, b) => a.attempts - b.attempts)] : [...due, ...fresh];
  const others = candidates.length > 0 || open.dialing_run > 0 || run.filled_seq < run.total_leads;
  const last = others ? [] : await dueJobs(tx, lease, now_us, 1, true);
  return {
    open,
    candidates: others ? candidates : last,
    alone: last.length > 0,
    all: Math.max(due.length, fresh.length) < wanted,
  };
}

function isUnfilled(run: RunRow, limits: Limits): boolean {
  return run.filled_seq < run.total_leads && run.filled_seq - run.claim_cursor < limits.fill_ahead_jobs;
}

/** A halt that reaches further than the longest one was written before the database's clock was set back. */
function isHalted(lane: LaneRow, now_us: number, limits: Limits): boolean {
  if (lane.halted_reason === null) return false;
  if (lane.halted_until_us === null) return true;
  return lane.halted_until_us > now_us && lane.halted_until_us <= now_us + 2 * limits.lane_halt_longest_ms * 1_000;
}

/** Open attempts hold lines, whatever their state: counted from the rows, so that a line can't leak. */
async function countOpen(tx: Tx, lease: Lease): Promise<Open> {
  const [open] = await tx.query<Open>(
    `SELECT count(*) AS business, count(*) FILTER (WHERE carrier_account_id = $2) AS lane,
            count(*) FILTER (WHERE run_id = $3) AS run,
            count(*) FILTER (WHERE carrier_account_id = $2 AND state = 'dialing') AS dialing,
            count(*) FILTER (WHERE run_id = $3 AND state = 'dialing') AS dialing_run
     FROM carillon.open_attempts
     WHERE business_id = $1`,
    [lease.business_id, lease.carrier_account_id, lease.run_id],
  );
  if (!open) throw new Error('a count gave no row');
  return open;
}

/** A lane that was refused lately is probed with one call at a time until one is accepted. */
function freeLines(lane: LaneRow, run: RunRow, open: Open): number {
  const free = Math.min(lane.concurrency_limit - open.lane, run.concurrency - open.run);
  return lane.refusals_in_a_row > 0 ? Math.min(free, 1 - open.dialing) : free;
}

/** How long a job waits whose number is on the line for another run. */
const CLASH_WAIT_US = 5_000_000;

interface Taken {
  run: RunRow;
  lease: Lease;
  worker_id: string;
  now_us: number;
  limits: Limits;
  attempts: Intent[];
  clashing: Candidate[];
  taken: Candidate[];
  /** It takes one that is tried last. */
  alone: boolean;
}

function writeClaim(tx: Tx, claim: Taken): void {
  const { run, lease, attempts, clashing, taken, now_us, limits } = claim;
  if (taken.length === 0) return;
  const key = [lease.business_id, lease.run_id] as const;
  const called = attempts.map((attempt) => attempt.seq);
  const left_queue = (jobs: Candidate[], status: string) => jobs.filter((job) => job.status === status).length;
  const started = attempts.map((attempt) => attempt.job);
  const from_queue = left_queue(started, 'queued') + left_queue(clashing, 'queued');
  const from_waiting = left_queue(started, 'waiting');
  const cursor = Math.max(run.claim_cursor, ...taken.filter(({ fresh }) => fresh).map((job) => job.seq + 1));

  if (attempts.length > 0) {
    changeJobs(
      tx,
      key,
      called,
      `UPDATE carillon.outbound_call_jobs SET status = 'in_progress', attempts = attempts + 1, updated_at = now()
       WHERE business_id = $1 AND run_id = $2 AND seq >= $3 AND seq <= $4 AND seq + 0 = ANY ($5) AND status IN ('queued', 'waiting')`,
    );
    insertIntents(tx, claim);
  }
  if (from_waiting > 0)
    tx.send('DELETE FROM carillon.job_schedule WHERE business_id = $1 AND run_id = $2 AND seq = ANY ($3)', [
      ...key,
      called,
    ]);
  if (clashing.length > 0) postpone(tx, key, clashing, now_us + CLASH_WAIT_US);
  const to_waiting = left_queue(clashing, 'queued') - from_waiting;
  tx.send(
    `UPDATE carillon.outbound_call_runs SET claim_cursor = $3, queued = queued - $4, waiting = waiting + $5,
       in_progress = in_progress + $6, lease_claimed = lease_claimed OR $7, lock_ts = now(), updated_at = now()
     WHERE business_id = $1 AND run_id = $2`,
    // What becomes of one that is tried alone speaks for it, not for its run: see `gave_up`.
    [...key, cursor, from_queue, to_waiting, attempts.length, attempts.length > 0 && !claim.alone],
    1,
  );
  const counted = {
    ...run,
    queued: run.queued - from_queue,
    waiting: run.waiting + to_waiting,
    in_progress: run.in_progress + attempts.length,
  };
  const erased = taken.filter((job) => isUnclaimed(job) && job.phone === null);
  withdrawJobs(tx, counted, erased, ERASED, { limits, actor: localActor(`worker:${claim.worker_id}`) });
}

function insertIntents(tx: Tx, claim: Taken): void {
  const { run, lease, attempts, now_us, limits } = claim;
  tx.send(
    `WITH intents AS (
       INSERT INTO carillon.open_attempts (business_id, run_id, carrier_account_id, state, worker_id, lease_epoch,
         control_epoch, intent_us, heard_us, deadline_us, call_max_ms, seq, attempt_no, lead_id, token, from_number,
         to_number)
       SELECT $1, $2, $3, 'dialing', $4, $5, $6, $7, $7, $8, $9, i.*
       FROM unnest($10::int[], $11::int[], $12::bigint[], $13::text[], $14::text[], $15::text[]) AS i
       RETURNING 1)
     SELECT count(*) FROM intents`,
    [
      lease.business_id,
      lease.run_id,
      lease.carrier_account_id,
      claim.worker_id,
      lease.lease_epoch,
      run.control_epoch,
      now_us,
      now_us + limits.dial_deadline_ms * 1_000,
      limits.call_max_ms,
      attempts.map((attempt) => attempt.seq),
      attempts.map((attempt) => attempt.attempt_no),
      attempts.map((attempt) => attempt.job.lead_id),
      attempts.map((attempt) => attempt.token),
      attempts.map((attempt) => attempt.from),
      attempts.map((attempt) => attempt.to),
    ],
  );
}

function partition<T>(items: readonly T[], test: (item: T) => boolean): [T[], T[]] {
  return [items.filter(test), items.filter((item) => !test(item))];
}

function postpone(tx: Tx, key: readonly [number, number], jobs: Candidate[], due_us: number): void {
  tx.send(
    `WITH later AS (
       INSERT INTO carillon.job_schedule AS s (business_id, run_id, seq, due_us, reason)
       SELECT $1, $2, i.seq, $4, 'number busy' FROM unnest($3::int[]) AS i (seq)
       ON CONFLICT (business_id, run_id, seq) DO UPDATE SET due_us = excluded.due_us, reason = excluded.reason
       RETURNING 1)
     SELECT count(*) FROM later`,
    [...key, jobs.map((job) => job.seq), due_us],
  );
  changeJobs(
    tx,
    key,
    jobs.filter((job) => job.status === 'queued').map((job) => job.seq),
    `UPDATE carillon.outbound_call_jobs SET status = 'waiting', updated_at = now()
     WHERE business_id = $1 AND run_id = $2 AND seq >= $3 AND seq <= $4 AND seq + 0 = ANY ($5) AND status = 'queued'`,
  );
}

function paceLane(tx: Tx, lease: Lease, lane: LaneRow, last_start_us: number | undefined): void {
  if (last_start_us === undefined) return;
  tx.send(
    'UPDATE carillon.lanes SET tat_us = $3 WHERE business_id = $1 AND carrier_account_id = $2',
    [lease.business_id, lease.carrier_account_id, last_start_us + Math.ceil(1_000_000 / lane.calls_per_second)],
    1,
  );
}
