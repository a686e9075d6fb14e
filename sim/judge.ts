import type { Policy } from '@carillon/contract';
import type pg from 'pg';
import type { BookedCall } from './carrier.ts';
import { nameOf } from './carrier.ts';
import type { People } from './people.ts';

/** By what a world is judged when it has come to rest. */
export interface Evidence {
  calls: readonly BookedCall[];
  people: People;
  superuser: pg.Client;
  forgotten: readonly string[];
  /** Statements whose guard did not hold. */
  broken_guards: number;
}

interface RunRow {
  business_id: number;
  run_id: number;
  status: string;
  carrier_account_id: number;
  lines: number;
  concurrency: number;
  policy: Policy;
  total_leads: number;
  counters: Record<string, number>;
  counted: Record<string, number>;
}

interface JobRow {
  run_id: number;
  seq: number;
  status: string;
  last_outcome: string | null;
  refused: boolean;
}

interface AttemptRow {
  run_id: number;
  seq: number;
  attempt_no: number;
  token: string;
  outcome: string;
}

const jobName = ({ run_id, seq }: { run_id: number; seq: number }): string => `${run_id}-${seq}`;

/** Whatever must never be, each in a sentence. Rows are read as they are; calls are as the carrier has them. */
export async function findViolations(evidence: Evidence): Promise<string[]> {
  const { superuser, people, forgotten, broken_guards } = evidence;
  const runs = await readRuns(superuser);
  const jobs = await readJobs(superuser);
  const attempts = await readAttempts(superuser);
  await people.look();
  return [
    ...findDoubles(evidence, runs),
    ...findCrowds(evidence, runs),
    ...findFalseAbsences(evidence, attempts),
    ...jobs.flatMap((job) => judgeJob(job, evidence)),
    ...runs.flatMap((run) => judgeRun(run, people)),
    ...people.broken,
    ...forgotten.map((what) => `${what}, was not known to the database`),
    ...(broken_guards > 0 ? [`${broken_guards} statements touched another number of rows than they may`] : []),
    ...(await findAlarms(superuser)),
  ];
}

/** Second calls of a job that neither the policy, by what the carrier says of the first, nor a person asked for. */
function findDoubles({ calls, people }: Evidence, runs: RunRow[]): string[] {
  const policies = new Map(runs.map(({ run_id, policy }) => [run_id, policy.retry ?? {}]));
  return [...Map.groupBy(calls, ({ attempt }) => jobName(attempt))].flatMap(([job, mine]) => {
    const policy = policies.get(mine[0]?.attempt.run_id as never) ?? {};
    const retries = new Map<string, number>();
    let asked = people.resolved.get(job)?.call_again ?? 0;
    return mine.slice(1).flatMap((call, i) => {
      const before = mine[i] as BookedCall;
      const outcome = before.outcome ?? 'none';
      const allowed = outcome in policy ? (policy[outcome as keyof typeof policy]?.times ?? 0) : 0;
      const over = before.ended_us !== null && before.ended_us <= call.created_us;
      const before_it = [...retries.values()].reduce((sum, n) => sum + n, 0);
      retries.set(outcome, (retries.get(outcome) ?? 0) + 1);
      if (over && before_it < allowed && !before.hung_up) return [];
      if (asked-- > 0) return [];
      return [
        `lead ${job} was called again: ${nameOf(call.attempt)} after ${nameOf(before.attempt)}, which ${over ? `ended ${outcome}` : 'was live'}`,
      ];
    });
  });
}

/** More live calls than a lane or a run may have, and two at once to one number. */
function findCrowds({ calls }: Evidence, runs: RunRow[]): string[] {
  const limits = new Map(runs.map((run) => [run.run_id, run]));
  const laneOf = (call: BookedCall) => `${call.attempt.business_id}/${call.attempt.carrier_account_id}`;
  const crowds = (group: (call: BookedCall) => string, limit: (call: BookedCall) => number, what: string) =>
    [...Map.groupBy(calls, group)].flatMap(([name, mine]) => {
      const most = mostLive(mine);
      const allowed = limit(mine[0] as BookedCall);
      return most > allowed ? [`${what} ${name} had ${most} calls live, and may have ${allowed}`] : [];
    });
  return [
    ...crowds(laneOf, (call) => limits.get(call.attempt.run_id)?.lines ?? 0, 'lane'),
    ...crowds(
      (call) => `${call.attempt.run_id}`,
      (call) => limits.get(call.attempt.run_id)?.concurrency ?? 0,
      'run',
    ),
    ...crowds(
      (call) => `${call.to} of business ${call.attempt.business_id}`,
      () => 1,
      'number',
    ),
  ];
}

function mostLive(calls: readonly BookedCall[]): number {
  const changes = calls.flatMap(({ created_us, ended_us }) => [
    { at_us: created_us, by: 1 },
    { at_us: ended_us ?? Number.POSITIVE_INFINITY, by: -1 },
  ]);
  changes.sort((a, b) => a.at_us - b.at_us || a.by - b.by);
  let live = 0;
  return Math.max(0, ...changes.map(({ by }) => (live += by)));
}

/** Attempts that were ever believed to be no call, and were one: what all doubles come from. */
function findFalseAbsences({ calls }: Evidence, attempts: AttemptRow[]): string[] {
  const called = new Set<string>(calls.map(({ attempt }) => attempt.token));
  return attempts
    .filter(({ outcome, token }) => ['absent', 'not_dialed', 'rejected'].includes(outcome) && called.has(token))
    .map(
      (attempt) => `attempt ${nameOf(attempt as never)} was believed ${attempt.outcome}, and the carrier made its call`,
    );
}

function judgeJob(job: JobRow, { calls, people }: Evidence): string[] {
  const name = jobName(job);
  const mine = calls.filter(({ attempt }) => jobName(attempt) === name);
  const last = mine.at(-1);
  const resolved = people.resolved.has(name);
  const told = (why: string) => [`lead ${name} is ${job.status}, ${why}`];
  if (job.status === 'completed')
    return mine.some(({ outcome }) => outcome === 'completed') || resolved ? [] : told('and was never talked to');
  if (job.status === 'failed') {
    if (last ? last.outcome !== 'completed' : job.refused) return [];
    return told(last ? `and its last call ended ${last.outcome}` : 'and was never called');
  }
  if (job.status === 'cancelled') {
    const stopped = people.stops.has(job.run_id as never) || people.cancelled_jobs.has(name) || resolved;
    return stopped ? [] : told('and nobody asked for it');
  }
  return job.status === 'needs_review' ? [] : told('and everything is over');
}

function judgeRun(run: RunRow, people: People): string[] {
  const { run_id, status, total_leads, counters, counted } = run;
  const wrong = Object.keys(counters).filter((name) => counters[name] !== (counted[name] ?? 0));
  const sum = Object.values(counters).reduce((a, b) => a + b, 0);
  return [
    ...(wrong.length > 0
      ? [`run ${run_id} counts ${JSON.stringify(counters)}, and its rows are ${JSON.stringify(counted)}`]
      : []),
    ...(sum !== total_leads ? [`the counters of run ${run_id} add up to ${sum}, of ${total_leads} leads`] : []),
    ...(status === 'cancelled' && !people.stops.has(run_id as never) ? [`run ${run_id} was stopped by nobody`] : []),
    ...(status === 'failed' ? [`run ${run_id} failed`] : []),
  ];
}

async function readRuns(superuser: pg.Client): Promise<RunRow[]> {
  const { rows } = await superuser.query<RunRow>(
    `SELECT r.business_id, r.run_id, r.status, r.carrier_account_id, l.concurrency_limit AS lines, r.concurrency,
       r.policy, r.total_leads,
       json_build_object('queued', r.queued, 'waiting', r.waiting, 'in_progress', r.in_progress, 'completed', r.completed,
         'failed', r.failed, 'cancelled', r.cancelled, 'skipped', r.skipped, 'needs_review', r.needs_review) AS counters,
       coalesce((SELECT json_object_agg(status, n) FROM (
         SELECT status, count(*) AS n FROM carillon.outbound_call_jobs j
         WHERE j.business_id = r.business_id AND j.run_id = r.run_id GROUP BY status) s), '{}') AS counted
     FROM carillon.outbound_call_runs r
     JOIN carillon.lanes l ON l.business_id = r.business_id AND l.carrier_account_id = r.carrier_account_id
     ORDER BY r.business_id, r.run_id`,
  );
  return rows;
}

async function readJobs(superuser: pg.Client): Promise<JobRow[]> {
  const { rows } = await superuser.query<JobRow>(
    `SELECT j.run_id, j.seq, j.status, j.last_outcome, j.last_outcome = 'rejected' AS refused
     FROM carillon.outbound_call_jobs j ORDER BY j.business_id, j.run_id, j.seq`,
  );
  return rows;
}

async function readAttempts(superuser: pg.Client): Promise<AttemptRow[]> {
  const { rows } = await superuser.query<AttemptRow>(
    'SELECT run_id, seq, attempt_no, token, outcome FROM carillon.attempts ORDER BY business_id, run_id, seq, attempt_no, revision',
  );
  return rows;
}

/** Nothing in these worlds makes a database forget. */
async function findAlarms(superuser: pg.Client): Promise<string[]> {
  const { rows } = await superuser.query<{ reason: string }>(
    'SELECT reason FROM carillon.installation_state WHERE suspected_at IS NOT NULL',
  );
  return rows.map(({ reason }) => `somebody noticed a restore: ${reason}`);
}

/** What is not over yet, each in a sentence; nothing when the world has come to rest. */
export async function findUnfinished(
  superuser: pg.Client,
  calls: readonly BookedCall[],
  starts: number,
): Promise<string[]> {
  const { rows } = await superuser.query<{ what: string }>(
    `SELECT format('run %s is %s', run_id, status) AS what FROM carillon.outbound_call_runs WHERE ended_at IS NULL
     UNION ALL SELECT format('run %s has rows to sweep', run_id) FROM carillon.outbound_call_runs
       WHERE cancel_requested_at IS NOT NULL AND swept_seq < total_leads
     UNION ALL SELECT format('attempt %s-%s/%s is %s', run_id, seq, attempt_no, state) FROM carillon.open_attempts
     UNION ALL SELECT format('call %s is to be hung up', call_id) FROM carillon.unwanted_calls WHERE over_at IS NULL
     UNION ALL SELECT format('%s of %s runs are started', n, $1::int) FROM (
       SELECT count(*) AS n FROM carillon.outbound_call_runs) c WHERE n < $1`,
    [starts],
  );
  const live = calls.filter(({ phase }) => phase !== 'ended').map(({ call_id }) => `call ${call_id} is live`);
  return [...rows.map(({ what }) => what), ...live];
}
