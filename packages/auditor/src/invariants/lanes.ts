import type { Snapshot } from '../snapshot.ts';
import type { AuditLimits, Violation } from '../types.ts';
import { isoTime } from './audited.ts';

/** A lane, its carrier account, and how many attempts are open on it. */
export interface Lane {
  carrier_account_id: number;
  driver: string;
  account_sid: string;
  concurrency_limit: number;
  calls_per_second: number;
  tat_us: number;
  halted_reason: string | null;
  open: number;
}

const LANES = `
  SELECT l.carrier_account_id, a.driver, a.account_sid, l.concurrency_limit, l.calls_per_second, l.tat_us,
    l.halted_reason, coalesce(o.open, 0) AS open
  FROM carillon.lanes l
  JOIN carillon.carrier_accounts a ON a.business_id = $1 AND a.carrier_account_id = l.carrier_account_id
  LEFT JOIN (SELECT carrier_account_id, count(*) AS open FROM carillon.open_attempts WHERE business_id = $1
             GROUP BY carrier_account_id) o ON o.carrier_account_id = l.carrier_account_id
  WHERE l.business_id = $1 ORDER BY l.carrier_account_id`;

export async function readLanes(snapshot: Snapshot): Promise<Map<number, Lane>> {
  const lanes = await snapshot.query<Lane>(LANES, [snapshot.business_id]);
  return new Map(lanes.map((lane) => [lane.carrier_account_id, lane]));
}

/** A stretch of time in which an attempt held a line. */
interface Interval {
  carrier_account_id: number;
  run_id: number;
  seq: number;
  attempt_no: number;
  /** 0: it begins with the intent. Above: late evidence brought a call back that was believed over. */
  revision: number;
  from_us: number;
  /** Null: it holds it still. */
  to_us: number | null;
  /** The carrier made a call of it. */
  called: boolean;
}

const INTERVALS = `
  DECLARE intervals NO SCROLL CURSOR FOR
  SELECT carrier_account_id, run_id, seq, attempt_no, revision,
    CASE WHEN revision = 0 THEN intent_us ELSE coalesce(placed_us, ended_us) END AS from_us, ended_us AS to_us,
    call_id IS NOT NULL AS called
  FROM carillon.attempts WHERE business_id = $1 AND ($2::bigint[] IS NULL OR run_id = ANY ($2))
  UNION ALL
  SELECT carrier_account_id, run_id, seq, attempt_no, revision,
    CASE WHEN revision = 0 THEN intent_us ELSE coalesce(placed_us, intent_us) END, NULL,
    call_id IS NOT NULL
  FROM carillon.open_attempts WHERE business_id = $1 AND ($2::bigint[] IS NULL OR run_id = ANY ($2))
  ORDER BY carrier_account_id, from_us, run_id, seq`;
const FETCH = 'FETCH 5000 FROM intervals';

async function* readIntervals(snapshot: Snapshot, run_ids: readonly number[] | null): AsyncGenerator<Interval[]> {
  await snapshot.declare(INTERVALS, [snapshot.business_id, run_ids]);
  for (;;) {
    const page = await snapshot.query<Interval>(FETCH);
    if (page.length === 0) break;
    yield page;
  }
  await snapshot.declare('CLOSE intervals', []);
}

/** When lines become free again, ascending: as many entries as there are lines in use, and few of them. */
function createEnds() {
  let ends: number[] = [];
  const above = (us: number) => {
    let low = 0;
    for (let high = ends.length; low < high; ) {
      const middle = (low + high) >>> 1;
      if ((ends[middle] ?? 0) <= us) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return {
    add: (us: number) => void ends.splice(above(us), 0, us),
    /** How many end after `us`. */
    after: (us: number) => ends.length - above(us),
    forget(us: number) {
      const gone = above(us);
      if (gone > 0) ends = ends.slice(gone);
    },
    get size() {
      return ends.length;
    },
  };
}

/** The attempts that one claim committed: one run, one intent. */
interface Claim {
  at_us: number;
  run_id: number;
  attempts: Interval[];
}

export interface Judged {
  /** Every run's own limit. */
  concurrency: ReadonlyMap<number, number>;
  /** Whose attempts are looked at; null: everybody's. */
  run_ids: readonly number[] | null;
  limits: AuditLimits;
  isBlurred(us: number): boolean;
}

/**
 * Until when a claim may have counted the lines after it had read the clock. A call of its own run can't have ended in
 * between, for both need the run's lock; a call of another run may, and was rightly counted as over. The next claim
 * waits for the lane, so it came later. And a claim by which somebody was called was through before its dial deadline,
 * any other one before the server ended its idle transaction, which it does below the lease's time.
 */
function countedBy({ at_us, attempts }: Claim, next_us: number, limits: AuditLimits): number {
  const called = attempts.some((attempt) => attempt.called);
  const longest_ms = called ? limits.dial_deadline_ms : limits.lease_ttl_ms;
  return Math.min(next_us, at_us + longest_ms * 1_000);
}

/**
 * Invariant 5: whenever attempts were committed, the lane and the run had lines for them, unknown calls included until
 * they are settled; and the starts fit the lane's rate. Attempts alone are held to the limits: a call that late evidence
 * brings back holds a line as well, and nothing is committed while it makes them too many.
 */
export async function* lanesAndRates(
  snapshot: Snapshot,
  lanes: ReadonlyMap<number, Lane>,
  judged: Judged,
): AsyncGenerator<Violation> {
  let judge: ReturnType<typeof createLaneJudge> | null = null;
  for await (const page of readIntervals(snapshot, judged.run_ids))
    for (const interval of page) {
      if (judge?.lane.carrier_account_id !== interval.carrier_account_id) {
        if (judge) yield* judge.end();
        const lane = lanes.get(interval.carrier_account_id);
        if (!lane) throw new Error(`attempts of carrier account ${interval.carrier_account_id}, which has no lane`);
        judge = createLaneJudge(snapshot.business_id, lane, judged);
      }
      yield* judge.take(interval);
    }
  if (judge) yield* judge.end();
}

function createLaneJudge(business_id: number, lane: Lane, judged: Judged) {
  const onLane = createEnds();
  const ofRun = new Map<number, ReturnType<typeof createEnds>>();
  const pace = createPaceJudge(business_id, lane, judged.limits);
  let pending: Claim | null = null;
  /** Calls brought back since the pending claim. */
  let back: Interval[] = [];

  function hold({ run_id, to_us }: Interval): void {
    const end = to_us ?? Infinity;
    onLane.add(end);
    let mine = ofRun.get(run_id);
    if (!mine) ofRun.set(run_id, (mine = createEnds()));
    mine.add(end);
  }

  function* judgePending(next_us: number): Generator<Violation> {
    if (!pending) return;
    const { at_us, run_id, attempts } = pending;
    const mine = ofRun.get(run_id);
    onLane.forget(at_us);
    mine?.forget(at_us);
    if (mine?.size === 0) ofRun.delete(run_id);
    if (judged.isBlurred(at_us)) pace.reset();
    else {
      const counted_us = countedBy(pending, next_us, judged.limits);
      const own = mine?.after(at_us) ?? 0;
      const of_others = onLane.after(counted_us) - (mine?.after(counted_us) ?? 0);
      const live = own + of_others + attempts.length;
      if (live > lane.concurrency_limit)
        yield exceeded(pending, `the lane of carrier account ${lane.carrier_account_id}`, live, lane.concurrency_limit);
      const live_in_run = own + attempts.length;
      const limit = judged.concurrency.get(run_id);
      if (limit !== undefined && live_in_run > limit) yield exceeded(pending, `run ${run_id}`, live_in_run, limit);
      for (const attempt of attempts) yield* pace.take(attempt);
    }
    for (const interval of [...attempts, ...back]) hold(interval);
    pending = null;
    back = [];
  }

  function exceeded({ at_us, run_id, attempts }: Claim, of: string, live: number, limit: number): Violation {
    const last = attempts.at(-1);
    return {
      invariant: 5,
      business_id,
      run_id,
      job_id: `${run_id}-${last?.seq}`,
      attempt: last?.attempt_no ?? 0,
      what: `With attempt ${last?.attempt_no} of job ${run_id}-${last?.seq}, committed at ${isoTime(at_us)}, ${of} had ${live} live calls; its limit is ${limit}`,
      evidence: { at_us, live, limit, carrier_account_id: lane.carrier_account_id },
    };
  }

  return {
    lane,
    *take(interval: Interval): Generator<Violation> {
      if (interval.revision > 0) {
        if (pending) back.push(interval);
        else hold(interval);
        return;
      }
      if (pending && (pending.at_us !== interval.from_us || pending.run_id !== interval.run_id))
        yield* judgePending(interval.from_us);
      pending ??= { at_us: interval.from_us, run_id: interval.run_id, attempts: [] };
      pending.attempts.push(interval);
    },
    *end(): Generator<Violation> {
      yield* judgePending(Infinity);
    },
  };
}

/**
 * The starts that a claim commits lie in the instants after it, up to claim_ahead_ms; only the intent is on record. So
 * each attempt is given the earliest start that the rate leaves it. One that then lies further ahead than a claim may
 * take means: whichever way the starts lay, in some span T there were more than rate × T + 1.
 */
function createPaceJudge(business_id: number, lane: Lane, limits: AuditLimits) {
  const interval_us = Math.ceil(1_000_000 / lane.calls_per_second);
  const ahead_us = limits.claim_ahead_ms * 1_000;
  let next_us = 0;
  let since_us = 0;
  let starts = 0;
  return {
    reset: () => void (next_us = 0),
    *take({ from_us, run_id, seq, attempt_no }: Interval): Generator<Violation> {
      if (next_us <= from_us) {
        next_us = from_us;
        since_us = from_us;
        starts = 0;
      }
      starts += 1;
      if (next_us > from_us + ahead_us) {
        const span_s = (from_us + ahead_us - since_us) / 1_000_000;
        yield {
          invariant: 5,
          business_id,
          run_id,
          job_id: `${run_id}-${seq}`,
          attempt: attempt_no,
          what:
            `Attempt ${attempt_no} of job ${run_id}-${seq} is the ${ordinal(starts)} start within ${span_s.toFixed(3)} s ` +
            `on carrier account ${lane.carrier_account_id}, which may start ${lane.calls_per_second} a second`,
          evidence: { intent_us: from_us, since_us, starts, calls_per_second: lane.calls_per_second },
        };
        // One too many is one violation, not one for each start behind it.
        next_us = from_us;
        since_us = from_us;
        starts = 1;
      }
      next_us += interval_us;
    },
  };
}

function ordinal(n: number): string {
  const tail = n % 100;
  if (tail >= 11 && tail <= 13) return `${n}th`;
  return `${n}${['th', 'st', 'nd', 'rd'][n % 10] ?? 'th'}`;
}

export const LANE_STATEMENTS = { LANES, INTERVALS };
