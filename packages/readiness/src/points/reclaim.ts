import { randomBytes } from 'node:crypto';
import type { Run, RunId } from '@carillon/contract';
import {
  type Canary,
  isWorkerAlive,
  lookAtCanaryRun,
  plantStaleLease,
  probeLoad,
  probeWorkers,
  stopCanaryRun,
} from '@carillon/engine';
import { type Check, patience } from '../options.ts';
import type { Finding } from '../prove.ts';
import { waitFor } from '../wait.ts';

/** A dead worker's run is taken over this long after its lease has run out, at the latest. */
const TAKEN_WITHIN_MS = 2_000;
/** The look itself comes a little later than what it sees. */
const SEEN_WITHIN_MS = 250;
/** How long it is waited for beyond the promise, to say how late it was. */
const LATE_MS = 8_000;
const CALL_WITHIN_MS = 10_000;
const END_MORE_MS = 10_000;

/**
 * A canary run is left as a dead worker leaves it, its lease about to run out: a live worker takes it over within the
 * TTL and two seconds of the last heartbeat, not before, and goes on calling.
 */
export async function proveReclaim(check: Check, canary: Canary, { run_id }: Pick<Run, 'run_id'>): Promise<Finding> {
  const { db, clock, limits } = check;
  const id = run_id as RunId;
  const dead = `readiness-dead-${randomBytes(4).toString('hex')}`;
  // Long enough to see that nobody takes it too early.
  const left_ms = Math.min(1_000, limits.lease_ttl_ms / 2);
  const age_ms = limits.lease_ttl_ms - left_ms;
  const { alive: alive_before } = await probeWorkers(db, limits);
  const planted_ms = clock.monotonicMs();
  const epoch = await plantStaleLease(db, canary, id, dead, age_ms, limits);
  const wait_ms = left_ms + TAKEN_WITHIN_MS + (alive_before > 0 ? LATE_MS : 0);
  const taken = await waitFor(patience(check, wait_ms), async () => {
    const run = await lookAtCanaryRun(db, canary, id);
    return run.lease_epoch > epoch
      ? { run, heartbeat_age_ms: Math.round(age_ms + clock.monotonicMs() - planted_ms) }
      : null;
  });
  const { alive } = await probeWorkers(db, limits);
  const promised_ms = limits.lease_ttl_ms + TAKEN_WITHIN_MS;
  const common = { run_id, planted_worker: dead, lease_ttl_ms: limits.lease_ttl_ms, promised_ms, live_workers: alive };
  if (!taken) {
    const { runs_due } = await probeLoad(db, limits);
    const why =
      alive === 0 ? 'no worker is alive' : `workers that show themselves alive: ${alive}; runs due: ${runs_due}`;
    return {
      ok: false,
      sentence: `A dead worker's run was not taken over: ${why}`,
      evidence: { ...common, runs_due, taken_over_by: null },
    };
  }
  const taker = taken.run.locked_by_worker;
  const is_live = taker !== null && (await isWorkerAlive(db, taker, limits));
  const resumed = await waitFor(patience(check, CALL_WITHIN_MS), async () => {
    const run = await lookAtCanaryRun(db, canary, id);
    return run.attempts_of_lease > 0 ? run : null;
  });
  const late = taken.heartbeat_age_ms > promised_ms + SEEN_WITHIN_MS;
  const wrong = [
    late && `it was taken over ${taken.heartbeat_age_ms} ms after the last heartbeat, ${promised_ms} ms are promised`,
    !is_live && `${taker ?? 'whoever took it'} is not among the workers that are alive`,
    taken.run.reclaim_count !== 1 && `its reclaim_count is ${taken.run.reclaim_count}, not 1`,
    !resumed && 'it was taken over, and no lead was called after that',
  ].filter((problem) => problem !== false);
  const evidence = {
    ...common,
    taken_over_by: taker,
    heartbeat_age_ms: taken.heartbeat_age_ms,
    lease_epoch: { planted: epoch, taken: taken.run.lease_epoch },
    attempts_after: resumed?.attempts_of_lease ?? 0,
  };
  await finish(check, canary, id);
  if (wrong.length > 0)
    return { ok: false, sentence: `A dead worker's run is not recovered as promised: ${wrong.join('; ')}`, evidence };
  return {
    ok: true,
    sentence: `A dead worker's run was taken over ${taken.heartbeat_age_ms} ms after its last heartbeat, and went on`,
    evidence,
  };
}

/** Stops the run and lets its calls end, so that nobody works on it when it is removed. */
async function finish(check: Check, canary: Canary, run_id: RunId): Promise<void> {
  await stopCanaryRun(check.db, canary, run_id);
  await waitFor(patience(check, 2 * check.limits.hang_up_every_ms + END_MORE_MS), async () => {
    const run = await lookAtCanaryRun(check.db, canary, run_id);
    return run.status === 'cancelled' && run.swept ? run : null;
  });
}
