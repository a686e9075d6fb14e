import { type JobRecord, madeNoCall, type Try, tookPlace } from '../rows.ts';
import type { Snapshot } from '../snapshot.ts';
import type { Violation } from '../types.ts';
import { type AuditedRun, type Doubt, jobViolation } from './audited.ts';

const US_PER_S = 1_000_000;

/**
 * Invariant 1, job by job: at most one open attempt, and that of a job in progress; every attempt that was counted has
 * left a row; each attempt after a call was asked for by the retry policy, when the call's outcome was known and not
 * before its time. Rejected, never dialled and absent attempts are no calls; unknown ones may have been.
 */
export function* oneCall(audited: AuditedRun, job: JobRecord): Generator<Violation> {
  const { tries } = job;
  if (job.open.length > 1)
    yield jobViolation(1, audited, job, `has ${job.open.length} open attempts`, {
      attempts: job.open.map(({ attempt_no }) => attempt_no),
    });
  if (!job.row) {
    if (tries.length > 0)
      yield jobViolation(1, audited, job, 'does not exist, and attempts were made for it', { attempts: tries.length });
    return;
  }
  const { status, attempts, lead_id } = job.row;
  if (job.open.length > 0 && status !== 'in_progress')
    yield jobViolation(1, audited, job, `is ${status} and has an open attempt: it could be called again`, { status });
  for (const { attempt_no, revision } of job.open)
    if (job.closed.some((row) => row.attempt_no === attempt_no && row.revision >= revision))
      yield jobViolation(1, audited, job, 'is open and closed at once', { revision }, attempt_no);
  const numbers = new Set(tries.map(({ attempt_no }) => attempt_no));
  const highest = Math.max(attempts, ...numbers);
  for (let number = 1; number <= highest && numbers.size < highest; number += 1)
    if (!numbers.has(number)) {
      yield jobViolation(
        1,
        audited,
        job,
        'has left no row: nobody can say whether it was a call',
        { attempts },
        number,
      );
      break;
    }
  if (highest > attempts)
    yield jobViolation(1, audited, job, `counts ${attempts} attempts and has ${highest}`, { attempts, highest });
  for (const { attempt_no, lead_id: called } of tries)
    if (called !== lead_id)
      yield jobViolation(1, audited, job, 'called another lead than its job’s', { called, lead_id }, attempt_no);
}

/** The same invariant's second half: attempts that nothing but a person's decision could explain. */
export function* unexplainedCalls(audited: AuditedRun, job: JobRecord): Generator<Doubt> {
  const { tries } = job;
  let call: Try | null = null;
  let calls = 0;
  for (const [index, one] of tries.entries()) {
    const why = call && whyUnexplained(audited, call, calls, one);
    if (call && why)
      yield {
        violation: jobViolation(
          1,
          audited,
          job,
          why,
          {
            intent_us: one.intent_us,
            before: { attempt: call.attempt_no, outcome: call.outcome, ended_us: call.ended_us },
          },
          one.attempt_no,
        ),
        after_us: call.intent_us,
        before_us: one.intent_us,
        call_again: true,
      };
    const next = tries[index + 1];
    if (next && one.outcome === 'absent' && audited.run.policy.review_always)
      yield {
        violation: jobViolation(
          1,
          audited,
          job,
          `follows attempt ${one.attempt_no}, which was absent, and the policy leaves those to a person`,
          { intent_us: next.intent_us },
          next.attempt_no,
        ),
        after_us: one.intent_us,
        before_us: next.intent_us,
        call_again: true,
      };
    if (tookPlace(one.outcome)) calls += 1;
    if (!madeNoCall(one.outcome)) call = one;
  }
}

/** Why `one` should not have followed the call before it; null when the policy explains it. */
function whyUnexplained({ run }: AuditedRun, call: Try, calls: number, one: Try): string | null {
  // Late evidence may show a call where none was believed, while all that came after it certainly made none.
  const none = madeNoCall(one.outcome);
  if (none && call.revision > 0)
    return call.first_ended_us !== null && call.first_ended_us <= one.intent_us ? null : early(call);
  if (call.ended_us === null || call.ended_us > one.intent_us) return early(call);
  if (call.outcome === 'unknown')
    return `follows attempt ${call.attempt_no}, of which nobody can say whether it was a call`;
  const retry = run.policy.retry[call.outcome ?? ''];
  if (!retry) return `follows attempt ${call.attempt_no}, and the policy calls nobody again after "${call.outcome}"`;
  if (calls > retry.times)
    return `follows ${calls} calls, and the policy allows ${retry.times} more after "${call.outcome}"`;
  if (one.intent_us < call.ended_us + retry.after_s * US_PER_S)
    return `follows attempt ${call.attempt_no} sooner than the ${retry.after_s} s that the policy asks for after "${call.outcome}"`;
  return null;
}

function early({ attempt_no }: Try): string {
  return `was committed before the outcome of attempt ${attempt_no} was known`;
}

const RESOLVED = `
  SELECT subject_id, (extract(epoch FROM at) * 1000000)::bigint AS at_us, after ->> 'as' = 'call_again' AS call_again
  FROM carillon.audit_events
  WHERE business_id = $1 AND subject_type = 'job' AND subject_id = ANY ($2) AND action = 'job.resolved'`;

const ADOPTED = `
  SELECT run_id, seq, status FROM carillon.adopted_jobs
  WHERE business_id = $1 AND run_id = ANY ($2) AND seq = ANY ($3)`;

/** Of the doubts those that are not about a job that was adopted as it is. */
async function notAdopted(snapshot: Snapshot, doubts: readonly Doubt[]): Promise<readonly Doubt[]> {
  const jobs = doubts.flatMap(({ unless_adopted }) => unless_adopted ?? []);
  if (jobs.length === 0) return doubts;
  const rows = await snapshot.query<{ run_id: number; seq: number; status: string }>(ADOPTED, [
    snapshot.business_id,
    [...new Set(jobs.map(({ run_id }) => run_id))],
    jobs.map(({ seq }) => seq),
  ]);
  const adopted = new Set(rows.map(({ run_id, seq, status }) => `${run_id}-${seq} ${status}`));
  return doubts.filter(({ unless_adopted: job }) => !job || !adopted.has(`${job.run_id}-${job.seq} ${job.status}`));
}

const RESTORED = `
  SELECT EXISTS (SELECT FROM carillon.audit_events WHERE business_id = $1 AND action = 'restore.reconciled')
    OR EXISTS (SELECT FROM carillon.lanes l, carillon.installation_state s
               WHERE l.business_id = $1 AND s.singleton AND l.restores_settled < s.restores) AS restored`;

/** Of the doubts those that no comparison with a carrier's list, done or under way after a restore, explains. */
async function notRestored(snapshot: Snapshot, doubts: readonly Doubt[]): Promise<readonly Doubt[]> {
  if (!doubts.some(({ unless_restored }) => unless_restored)) return doubts;
  const [row] = await snapshot.query<{ restored: boolean }>(RESTORED, [snapshot.business_id]);
  return doubts.filter(({ unless_restored }) => !(unless_restored && row?.restored));
}

/** Of the doubts those that neither a person's decision on record nor an adoption nor a restore explains. */
export async function withoutDecision(snapshot: Snapshot, all: readonly Doubt[]): Promise<Violation[]> {
  const doubts = await notRestored(snapshot, await notAdopted(snapshot, all));
  if (doubts.length === 0) return [];
  const jobs = [...new Set(doubts.map(({ violation }) => violation.job_id))];
  type Decision = { subject_id: string; at_us: number; call_again: boolean | null };
  const rows = await snapshot.query<Decision>(RESOLVED, [snapshot.business_id, jobs]);
  const decisions = Map.groupBy(rows, ({ subject_id }) => subject_id);
  const explains =
    ({ after_us, before_us, call_again }: Doubt) =>
    (decision: Decision) =>
      decision.at_us > after_us && decision.at_us <= before_us && (decision.call_again === true || !call_again);
  return doubts
    .filter((doubt) => !decisions.get(doubt.violation.job_id ?? '')?.some(explains(doubt)))
    .map(({ violation }) => violation);
}

const TWICE_IN_A_RUN = `
  SELECT lead_id, array_agg(seq ORDER BY seq) AS seqs
  FROM (SELECT lead_id, seq, count(*) OVER (PARTITION BY lead_id) AS jobs FROM carillon.outbound_call_jobs
        WHERE business_id = $1 AND run_id = $2) j
  WHERE jobs > 1 GROUP BY lead_id ORDER BY lead_id LIMIT $3`;

const LISTED = 100;

/** One lead, one job of a run. */
export async function* leadsTwice(snapshot: Snapshot, audited: AuditedRun): AsyncGenerator<Violation> {
  const { business_id, run } = audited;
  const rows = await snapshot.query<{ lead_id: number; seqs: number[] }>(TWICE_IN_A_RUN, [
    business_id,
    run.run_id,
    LISTED,
  ]);
  for (const { lead_id, seqs } of rows) {
    const [, second = 0] = seqs;
    const jobs = seqs.map((seq) => `${run.run_id}-${seq}`);
    yield jobViolation(1, audited, { seq: second }, `is of a lead that has ${seqs.length} jobs in its run`, {
      lead_id,
      jobs,
    });
  }
}

const SAME_NUMBER = `
  SELECT array_agg(lead_id ORDER BY lead_id) AS lead_ids FROM carillon.leads
  WHERE business_id = $1 AND phone IS NOT NULL GROUP BY phone HAVING count(*) > 1 LIMIT $2`;

/** One number, one lead: what makes "once for each lead" mean "once for each phone". */
export async function* numbersTwice(snapshot: Snapshot): AsyncGenerator<Violation> {
  const { business_id } = snapshot;
  const rows = await snapshot.query<{ lead_ids: number[] }>(SAME_NUMBER, [business_id, LISTED]);
  for (const { lead_ids } of rows)
    yield {
      invariant: 1,
      business_id,
      what: `Leads ${lead_ids.join(', ')} have the same number: one run would call it ${lead_ids.length} times`,
      evidence: { lead_ids },
    };
}

export const ONE_CALL_STATEMENTS = { RESOLVED, ADOPTED, RESTORED, TWICE_IN_A_RUN, SAME_NUMBER };
