import { probeLoad, probeWorkers } from '@carillon/engine';
import type { Check } from '../options.ts';
import { capital, type Finding } from '../prove.ts';

/** Somebody works, and there is room for all that is due. */
export async function lookAtWorkers({ db, limits }: Check): Promise<Finding> {
  const { alive } = await probeWorkers(db, limits);
  const { runs_due } = await probeLoad(db, limits);
  const evidence = { alive, runs_due, room_for_runs: alive * limits.worker_runs };
  if (alive === 0) return { ok: false, sentence: 'No worker is alive: start one with "carillon worker"', evidence };
  if (runs_due > evidence.room_for_runs)
    return {
      ok: true,
      warning: true,
      sentence: `Runs due: ${runs_due}, and the workers take ${evidence.room_for_runs}: start more`,
      evidence,
    };
  return {
    ok: true,
    sentence: `Workers alive: ${alive}; runs due: ${runs_due}`,
    evidence,
  };
}

/** No run is left lying by a worker that is silent. */
export async function lookAtLeases({ db, limits }: Check): Promise<Finding> {
  const { stale_leases, oldest_lock_age_s } = await probeLoad(db, limits);
  const oldest_s = oldest_lock_age_s === null ? null : Math.round(oldest_lock_age_s * 10) / 10;
  const evidence = { stale_leases, oldest_lock_age_s: oldest_s, lease_ttl_ms: limits.lease_ttl_ms };
  if (stale_leases > 0)
    return {
      ok: false,
      sentence: `Running runs that nobody has taken over, without a heartbeat for up to ${oldest_s} s: ${stale_leases}`,
      evidence,
    };
  return { ok: true, sentence: 'Every running run has a fresh heartbeat', evidence };
}

/** What waits for a carrier's word, for a person, or for a call to end that nobody wants. */
export async function lookAtBacklog({ db, limits }: Check): Promise<Finding> {
  const load = await probeLoad(db, limits);
  return backlog(load, settleWithinS(limits));
}

/** How long an unknown call may take to be settled or given to a person: every delay, and the longest call. */
export function settleWithinS(limits: Check['limits']): number {
  const delays = limits.carrier_effect_delay_ms + limits.carrier_listing_delay_ms + limits.reconcile_margin_ms;
  return (
    (delays + limits.dial_deadline_ms + limits.ring_timeout_ms + limits.call_max_ms + 2 * limits.reconcile_every_ms) /
    1_000
  );
}

export interface Backlog {
  unknown_attempts: number;
  oldest_unknown_s: number | null;
  needs_review: number;
  unwanted_calls: number;
}

export function backlog(load: Backlog, settle_within_s: number): Finding {
  const { unknown_attempts, needs_review, unwanted_calls } = load;
  const oldest_unknown_s = load.oldest_unknown_s === null ? null : Math.round(load.oldest_unknown_s);
  const evidence = { unknown_attempts, oldest_unknown_s, settle_within_s, needs_review, unwanted_calls };
  if (oldest_unknown_s !== null && oldest_unknown_s > settle_within_s)
    return {
      ok: false,
      sentence: `A call has been unknown for ${oldest_unknown_s} s, and should have been settled after ${settle_within_s} s`,
      evidence,
    };
  const waiting = [
    unknown_attempts > 0 && `calls whose answer was lost, being looked for: ${unknown_attempts}`,
    needs_review > 0 && `leads of which a person has to say whether they were called: ${needs_review}`,
    unwanted_calls > 0 && `calls that nobody wants, being hung up: ${unwanted_calls}`,
  ].filter((what) => what !== false);
  if (waiting.length === 0)
    return { ok: true, sentence: 'No call is unknown, and no lead waits for a review', evidence };
  return { ok: true, warning: needs_review > 0, sentence: capital(waiting.join('; ')), evidence };
}
