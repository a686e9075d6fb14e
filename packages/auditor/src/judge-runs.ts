import type { Candidates } from './carrier-check.ts';
import type { AuditedRun, Doubt } from './invariants/audited.ts';
import { controlEpoch, stretchesOf } from './invariants/control-epoch.ts';
import { counters, countJob, createRecount, scheduled, unexplainedStates } from './invariants/counters.ts';
import type { Lane } from './invariants/lanes.ts';
import { leadsTwice, oneCall, unexplainedCalls, withoutDecision } from './invariants/one-call.ts';
import { placedCalls } from './invariants/placed-calls.ts';
import { jobLeftLying, runEnd, type Workers } from './invariants/run-ends.ts';
import { runTrail } from './invariants/run-trail.ts';
import { runWindow } from './invariants/window.ts';
import { type JobRecord, readEvents, readJobs, readRuns } from './rows.ts';
import type { Snapshot } from './snapshot.ts';
import type { AuditLimits, Findings } from './types.ts';

export interface RunScope {
  snapshot: Snapshot;
  findings: Findings;
  lanes: ReadonlyMap<number, Lane>;
  limits: AuditLimits;
  /** The only run; null: all of the business. */
  run_id: number | null;
  trail_since_us: number;
  workers: Workers;
  isBlurred(us: number): boolean;
  /** Is told how many attempts of each job name a call, where a ledger will be asked; by run. */
  placed: Map<number, Uint8Array> | null;
  /** Is told of every job, where a carrier will be asked. */
  candidates: Candidates | null;
}

/** Reads the runs page by page and puts each page before every invariant that is judged job by job. */
export async function judgeRuns(scope: RunScope): Promise<{ runs: number }> {
  const { snapshot, findings } = scope;
  let runs = 0;
  for await (const run of readRuns(snapshot, scope.run_id)) {
    runs += 1;
    const events = await readEvents(snapshot, run.run_id);
    const { limits, trail_since_us, isBlurred } = scope;
    const { business_id, now_us } = snapshot;
    await judgeRun(scope, { business_id, run, events, trail_since_us, now_us, limits, isBlurred });
    findings.checked.events += events.length;
  }
  findings.checked.runs += runs;
  return { runs };
}

async function judgeRun(scope: RunScope, audited: AuditedRun): Promise<void> {
  const { snapshot, findings, workers, lanes } = scope;
  const { run } = audited;
  const stretches = stretchesOf(audited.events);
  const recount = createRecount();
  const placed = scope.placed && countPlaced(scope.placed, run.run_id, run.total_leads);
  let first_due_us: number | null = null;
  for await (const page of readJobs(snapshot, run.run_id)) {
    const doubts: Doubt[] = [];
    for (const job of page) {
      countJob(recount, audited, job);
      for (const judge of [oneCall, placedCalls, scheduled, runWindow])
        for (const violation of judge(audited, job)) findings.violation(violation);
      for (const violation of controlEpoch(audited, stretches, job)) findings.violation(violation);
      for (const violation of jobLeftLying(audited, job, workers)) findings.violation(violation);
      doubts.push(...unexplainedCalls(audited, job), ...unexplainedStates(audited, job));
      for (const due_us of job.schedule) first_due_us = Math.min(first_due_us ?? Infinity, due_us);
      findings.checked.attempts += job.tries.length;
      placed?.(job);
      scope.candidates?.add(run.run_id, job);
    }
    for (const violation of await withoutDecision(snapshot, doubts)) findings.violation(violation);
  }
  findings.checked.jobs += recount.jobs;
  for await (const violation of leadsTwice(snapshot, audited)) findings.violation(violation);
  for (const violation of counters(audited, recount)) findings.violation(violation);
  const lane = lanes.get(run.carrier_account_id);
  for (const violation of runEnd(audited, recount, { first_due_us }, lane, workers)) findings.violation(violation);
  for (const violation of runTrail(audited)) findings.violation(violation);
}

/** One byte for each job: a million of them are a megabyte. */
function countPlaced(placed: Map<number, Uint8Array>, run_id: number, total_leads: number) {
  const counts = new Uint8Array(total_leads + 1);
  placed.set(run_id, counts);
  return ({ seq, tries }: JobRecord): void => {
    if (seq < counts.length) counts[seq] = Math.min(255, tries.filter(({ call_id }) => call_id !== null).length);
  };
}
