import type { Run, RunId, StoppedRun } from '@carillon/contract';
import {
  type Canary,
  CANARY_LEADS,
  lookAtCanaryRun,
  probeWorkers,
  stopCanaryRun,
  substituteWorker,
} from '@carillon/engine';
import { type Check, patience } from '../options.ts';
import type { Finding } from '../prove.ts';
import { waitFor } from '../wait.ts';

/** A worker looks for runs twice a second by default; this is room for a busy machine. */
const START_WITHIN_MS = 10_000;
/** Longer than that a stop must not keep anybody waiting. */
const ANSWER_WITHIN_MS = 5_000;
/** After the order to hang up, and its repetitions. */
const END_MORE_MS = 10_000;

/**
 * A canary run is started, and stopped by the API's own verb once calls are live: after the answer no attempt is
 * committed, what was queued is cancelled, and the run ends. Where no worker takes the run, the check claims from it
 * itself, by the engine's verbs: whether workers work is for `reclaim` to prove.
 */
export async function proveCancel(check: Check, canary: Canary, { run_id }: Pick<Run, 'run_id'>): Promise<Finding> {
  const id = run_id as RunId;
  const { worker, substitute } = await callSomebody(check, canary, id);
  const began_ms = check.clock.monotonicMs();
  const answer = await stopCanaryRun(check.db, canary, id);
  const answer_ms = Math.round(check.clock.monotonicMs() - began_ms);
  const { attempts, now_us } = await lookAtCanaryRun(check.db, canary, id);
  const claimed_after = await substitute?.claim();
  await substitute?.giveBack();
  const wait_ms = 2 * check.limits.hang_up_every_ms + END_MORE_MS;
  const ended = await waitFor(patience(check, wait_ms), async () => {
    const run = await lookAtCanaryRun(check.db, canary, id);
    // The rows are swept by workers.
    return run.status === 'cancelled' && (run.swept || substitute) ? run : null;
  });
  const run = ended ?? (await lookAtCanaryRun(check.db, canary, id));
  const late_attempts = Math.max(run.attempts - attempts, (run.last_intent_us ?? 0) > now_us ? 1 : 0);
  const wrong = [
    !isStopped(answer) && `the answer to the stop says that the run is ${answer.status}`,
    answer_ms > ANSWER_WITHIN_MS && `the stop was answered after ${answer_ms} ms`,
    late_attempts > 0 && `calls begun after the stop had answered: ${late_attempts}`,
    claimed_after !== undefined && claimed_after !== 'lost' && `a claim after the stop was answered "${claimed_after}"`,
    run.status !== 'cancelled' && `the run is still ${run.status}, with ${run.in_progress} calls open`,
    run.status === 'cancelled' && !run.ended && 'ended_at is not set on the cancelled run',
    run.queued + run.waiting + run.rows_to_call > 0 && 'leads of the stopped run still wait to be called',
  ].filter((problem) => problem !== false);
  const evidence = {
    run_id,
    worker,
    leads: CANARY_LEADS,
    answer_ms,
    status_in_answer: answer.status,
    in_flight: answer.in_flight,
    attempts_before: attempts,
    attempts_after: late_attempts,
    cancelled: run.cancelled,
    status: run.status,
    ended_at_set: run.ended,
  };
  if (wrong.length > 0) return { ok: false, sentence: `A stop is not obeyed: ${wrong.join('; ')}`, evidence };
  return {
    ok: true,
    sentence: `A run was stopped in ${answer_ms} ms, and no call was begun after; in flight then: ${answer.in_flight}`,
    evidence,
  };
}

/** Waits until a worker has begun calls of the run; where none does, claims some. */
async function callSomebody(check: Check, canary: Canary, run_id: RunId) {
  const { alive } = await probeWorkers(check.db, check.limits);
  const called = await waitFor(patience(check, alive > 0 ? START_WITHIN_MS : 0), async () => {
    const run = await lookAtCanaryRun(check.db, canary, run_id);
    return run.in_progress > 0 ? run : null;
  });
  if (called) return { worker: called.locked_by_worker ?? 'a worker', substitute: null };
  const substitute = await substituteWorker(check.db, canary, run_id, check.clock, check.limits);
  await substitute?.claim();
  return { worker: substitute ? 'none took it: the check claimed from it itself' : 'unknown', substitute };
}

function isStopped({ status }: StoppedRun): boolean {
  return status === 'cancelling' || status === 'cancelled';
}
