import { probeClock, probeWorkers } from '@carillon/engine';
import type { Check } from '../options.ts';
import { capital, type Finding } from '../prove.ts';

/** A heartbeat further ahead than this is not believed, and a carrier's times are compared with more room than this. */
const SKEW_MAX_MS = 2_000;

/** The clocks of this process, of the workers and of the database agree. */
export async function lookAtClocks({ db, clock, limits }: Check): Promise<Finding> {
  const { skew_ms, uncertainty_ms } = await probeClock(db, clock);
  const { worst_skew_ms } = await probeWorkers(db, limits);
  const evidence = { skew_ms, uncertainty_ms, worst_worker_skew_ms: worst_skew_ms, allowed_ms: SKEW_MAX_MS };
  const wrong = [
    Math.abs(skew_ms) - uncertainty_ms > SKEW_MAX_MS && `this machine's clock is ${skew_ms} ms ahead of the database's`,
    (worst_skew_ms ?? 0) > SKEW_MAX_MS && `a worker's clock is ${worst_skew_ms} ms off the database's`,
  ].filter((problem) => problem !== false);
  if (wrong.length > 0) return { ok: false, sentence: `${capital(wrong.join('; '))}: set the clocks by NTP`, evidence };
  const workers = worst_skew_ms === null ? 'no worker has told its own' : `workers at most ${worst_skew_ms} ms`;
  return { ok: true, sentence: `This machine's clock is ${skew_ms} ms off the database's, ${workers}`, evidence };
}
