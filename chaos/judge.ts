import type { Retry } from '@carillon/contract';
import type { z } from 'zod';
import type { AttemptRow, Call, JobRow, Rows } from './books.ts';
import type { Account, Business } from './businesses.ts';
import { LIMITS } from './limits.ts';
import { jobKey, type Promised, runKey, type Workload } from './workload.ts';

/** Everything there is to judge by: what was promised, what the rows say, what the carrier wrote down. */
export interface Evidence {
  businesses: readonly Business[];
  workload: Pick<Workload, 'started' | 'promised' | 'asked' | 'wrong'>;
  rows: Rows;
  /** In the order in which the carrier accepted them. */
  calls: readonly Call[];
}

export const keyOf = ({ business_id, run_id, seq }: { business_id: number; run_id: number; seq: number }) =>
  jobKey(business_id, run_id, seq);

/** As the retry policy calls them; a call that was hung up or cancelled is never made again. */
const OUTCOMES: Partial<Record<Call['status'], 'busy' | 'no_answer' | 'failed'>> = {
  busy: 'busy',
  'no-answer': 'no_answer',
  failed: 'failed',
};

/** Second calls, by the carrier's books, that neither the policy nor a person asked for; each in a sentence. */
export function findDoubles({ businesses, workload, calls }: Evidence): string[] {
  const policies = new Map(
    businesses.flatMap(({ accounts, policy }) => accounts.map((one) => [one.account_sid, policy.retry ?? {}])),
  );
  const doubles: string[] = [];
  for (const mine of Map.groupBy(calls, ({ account, to }) => `${account} ${to}`).values()) {
    const [first] = mine;
    if (!first || mine.length === 1) continue;
    const asked = first.attempt && workload.asked.resolved.get(keyOf(first.attempt)) === 'call_again';
    const why = mine.slice(1).map((call, i) => {
      const before = mine[i];
      return before && whyUnexplained(before, call, i + 1, policies.get(call.account) ?? {});
    });
    // A person who says "call again" asks for one call, after one of which nobody could say whether it took place.
    const unexplained = why.filter((one) => one !== null).slice(asked ? 1 : 0);
    if (unexplained.length > 0)
      doubles.push(`lead ${keyOf(first.attempt ?? NOBODY)} was called ${mine.length} times: ${unexplained.join(', ')}`);
  }
  return doubles;
}

const NOBODY = { business_id: 0, run_id: 0, seq: 0 };

type RetryPolicy = Partial<Record<string, z.infer<typeof Retry>>>;

function whyUnexplained(before: Call, call: Call, calls: number, policy: RetryPolicy): string | null {
  const outcome = OUTCOMES[before.status];
  const retry = outcome && policy[outcome];
  if (before.ended_us === null || before.ended_us > call.created_us) return `${call.sid} while ${before.sid} was live`;
  if (!retry) return `${call.sid} after ${before.sid}, which ended "${before.status}"`;
  return calls > retry.times ? `${call.sid} is call ${calls + 1} of ${retry.times + 1}` : null;
}

/** Leads that have no final state, or one that nothing explains. */
export function findLosses(evidence: Evidence): string[] {
  const { rows, calls, workload } = evidence;
  const losses: string[] = [];
  const called = new Set(calls.flatMap(({ attempt }) => (attempt ? [keyOf(attempt)] : [])));
  const jobs = Map.groupBy(rows.jobs, ({ business_id, run_id }) => runKey(business_id, run_id));
  for (const { business_id, run_id, total_leads, status, last_error } of rows.runs) {
    // A run that was stopped early has not made all of its jobs.
    const made = jobs.get(runKey(business_id, run_id))?.length ?? 0;
    const stopped = workload.asked.stops.has(runKey(business_id, run_id));
    if (made !== total_leads && !stopped) losses.push(`run ${run_id} has ${made} jobs for ${total_leads} leads`);
    if (status === 'failed') losses.push(`run ${run_id} failed: ${last_error}`);
    if (status === 'cancelled' && !stopped) losses.push(`run ${run_id} was cancelled, and nobody asked for it`);
  }
  for (const { business, campaign, run_id } of workload.started)
    if (!rows.runs.some((run) => run.run_id === run_id && run.total_leads === campaign.leads))
      losses.push(`run ${run_id} of business ${business.business_id} is gone, or some of its leads are`);
  const starts = new Map(workload.started.map(({ business, run_id }) => [runKey(business.business_id, run_id), 1]));
  for (const run of rows.runs)
    if (!starts.has(runKey(run.business_id, run.run_id))) losses.push(`run ${run.run_id} was started by nobody`);
  for (const job of rows.jobs) {
    const why = whyLost(job, called, evidence);
    if (why) losses.push(`lead ${keyOf(job)} ${why}`);
  }
  return losses;
}

function whyLost(job: JobRow, called: ReadonlySet<string>, { workload: { asked } }: Evidence): string | null {
  const key = keyOf(job);
  const stopped = asked.stops.has(runKey(job.business_id, job.run_id));
  if (job.status === 'needs_review') return null;
  if (job.status === 'completed')
    return called.has(key) || asked.resolved.has(key) ? null : 'counts as called, and the carrier made no call';
  if (job.status === 'failed')
    return called.has(key) || job.last_outcome === 'rejected' ? null : `failed uncalled: ${job.last_outcome}`;
  if (job.status === 'cancelled')
    return stopped || asked.job_cancels.has(key) || asked.resolved.has(key) ? null : 'was cancelled by nobody';
  return `is ${job.status} at the end`;
}

/** The calls that name an attempt, by its run. */
function byRun(calls: readonly Call[]): Map<string, Call[]> {
  const runs = new Map<string, Call[]>();
  for (const call of calls) {
    if (!call.attempt) continue;
    const run = runKey(call.attempt.business_id, call.attempt.run_id);
    const own = runs.get(run);
    if (own) own.push(call);
    else runs.set(run, [call]);
  }
  return runs;
}

/** A request that was sent in time may still take effect this late. */
const IN_FLIGHT_US = (LIMITS.dial_deadline_ms + LIMITS.carrier_effect_delay_ms) * 1_000;

/** Attempts and calls that an answered stop, pause or cancel forbids. */
export function findDisobedience({ workload, rows, calls }: Evidence): string[] {
  const found: string[] = [];
  const attempts = Map.groupBy(rows.attempts, ({ business_id, run_id }) => runKey(business_id, run_id));
  const called = byRun(calls);
  for (const promised of workload.promised) {
    const { kind, run_id, business_id, seq, answered_us, until_us } = promised;
    const forbidden = (us: number, in_flight_us = 0) => us > answered_us + in_flight_us && us < until_us;
    for (const attempt of attempts.get(runKey(business_id, run_id)) ?? [])
      if (concerns(promised, attempt) && forbidden(attempt.intent_us))
        found.push(
          `attempt ${attempt.attempt_no} of ${keyOf(attempt)} was committed ${ms(attempt.intent_us - answered_us)} after a ${kind} was answered`,
        );
    for (const call of called.get(runKey(business_id, run_id)) ?? [])
      if (call.attempt && concerns(promised, call.attempt) && forbidden(call.created_us, IN_FLIGHT_US))
        found.push(
          `call ${call.sid} of run ${run_id}${seq === null ? '' : `, lead ${seq},`} began ${ms(call.created_us - answered_us)} after a ${kind} was answered`,
        );
  }
  return found;
}

const concerns = (promised: Promised, of: { seq: number }): boolean => promised.seq === null || promised.seq === of.seq;
const ms = (us: number): string => `${Math.round(us / 1_000)} ms`;

export interface LimitFigures {
  broken: string[];
  /** Of the lane that came nearest to its limit. */
  most_live: number;
  most_live_limit: number;
  /** At the carrier, in any one second; faults on the way may bring several starts together. */
  most_starts_per_second: number;
}

/** Live calls of lanes and runs, and no start before its time, by the carrier's books. */
export function judgeLimits({ businesses, rows, calls }: Evidence): LimitFigures {
  const figures: LimitFigures = { broken: [], most_live: 0, most_live_limit: 0, most_starts_per_second: 0 };
  const concurrency = new Map(rows.runs.map((run) => [runKey(run.business_id, run.run_id), run.concurrency]));
  for (const account of businesses.flatMap(({ accounts }) => accounts)) {
    const mine = calls.filter((call) => call.account === account.account_sid);
    const live = mostLive(mine);
    if (live > account.lines)
      figures.broken.push(
        `account ${account.carrier_account_id} had ${live} calls live, its lane has ${account.lines} lines`,
      );
    if (live / account.lines >= figures.most_live / Math.max(1, figures.most_live_limit))
      Object.assign(figures, { most_live: live, most_live_limit: account.lines });
    for (const [run, own] of byRun(mine)) {
      const most = mostLive(own);
      const limit = concurrency.get(run) ?? 0;
      if (most > limit) figures.broken.push(`run ${run} had ${most} calls live, and may have ${limit}`);
    }
    const attempts = rows.attempts.filter((one) => one.carrier_account_id === account.carrier_account_id);
    figures.broken.push(...findHasty(account, attempts, mine));
    figures.most_starts_per_second = Math.max(figures.most_starts_per_second, mostStartsPerSecond(mine));
  }
  return figures;
}

/**
 * Calls of one business to a number that was on the line for it already, through whichever account and for whichever
 * run: whoever talks hears it ring again.
 */
export function findOverlaps({ businesses, calls }: Evidence): string[] {
  const owners = new Map(
    businesses.flatMap(({ accounts, business_id }) => accounts.map((one) => [one.account_sid, business_id])),
  );
  const overlaps: string[] = [];
  for (const mine of Map.groupBy(calls, ({ account, to }) => `${owners.get(account)} ${to}`).values()) {
    const [first, ...others] = mine.toSorted((a, b) => a.created_us - b.created_us);
    let last = first;
    for (const call of others) {
      if (last && endOf(last) > call.created_us)
        overlaps.push(
          `${nameOf(call)} began ${ms(call.created_us - last.created_us)} after ${nameOf(last)}, which was live`,
        );
      if (!last || endOf(call) > endOf(last)) last = call;
    }
  }
  return overlaps;
}

const endOf = ({ ended_us }: Call): number => ended_us ?? Number.POSITIVE_INFINITY;
const nameOf = ({ sid, attempt }: Call): string => `call ${sid} of ${attempt ? keyOf(attempt) : 'nobody'}`;

/** The most calls that existed at once. */
export function mostLive(calls: readonly Pick<Call, 'created_us' | 'ended_us'>[]): number {
  const changes = calls.flatMap(({ created_us, ended_us }) => [
    { at_us: created_us, by: 1 },
    { at_us: ended_us ?? Number.POSITIVE_INFINITY, by: -1 },
  ]);
  changes.sort((a, b) => a.at_us - b.at_us || a.by - b.by);
  let live = 0;
  let most = 0;
  for (const { by } of changes) most = Math.max(most, (live += by));
  return most;
}

function mostStartsPerSecond(calls: readonly Call[]): number {
  let first = 0;
  let most = 0;
  for (const [last, { created_us }] of calls.entries()) {
    while ((calls[first]?.created_us ?? 0) <= created_us - 1_000_000) first += 1;
    most = Math.max(most, last - first + 1);
  }
  return most;
}

/** How far two processes on one machine may read its clock apart. */
const CLOCKS_US = 20_000;

/**
 * A lane's claims follow one another: each begins where the one before it ends, at the lane's rate, and not before its
 * own time. A call that began before its claim's first start was not paced. (How many starts were committed in any span
 * of time is the auditor's to judge.)
 */
function findHasty({ calls_per_second }: Account, attempts: readonly AttemptRow[], calls: readonly Call[]): string[] {
  const claims = [...Map.groupBy(attempts, ({ intent_us }) => intent_us)].sort(([a], [b]) => a - b);
  const earliest_us = new Map<string, number>();
  let tat_us = 0;
  for (const [intent_us, claimed] of claims) {
    const first_us = Math.max(tat_us, intent_us);
    for (const attempt of claimed) earliest_us.set(`${keyOf(attempt)}/${attempt.attempt_no}`, first_us);
    tat_us = first_us + (claimed.length * 1_000_000) / calls_per_second;
  }
  return calls.flatMap(({ sid, created_us, attempt }) => {
    const from_us = attempt && earliest_us.get(`${keyOf(attempt)}/${attempt.attempt_no}`);
    if (!from_us) return [`call ${sid} belongs to no attempt`];
    return created_us < from_us - CLOCKS_US ? [`call ${sid} began ${ms(from_us - created_us)} before its time`] : [];
  });
}
