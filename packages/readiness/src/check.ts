import type { BusinessId, ReadinessReport, ReadinessResult, Run, RunId } from '@carillon/contract';
import {
  type Canary,
  createCanary,
  findCanaries,
  readBusinessLoad,
  removeCanary,
  type RunToCount,
  startCanaryRun,
  withReceipts,
} from '@carillon/engine';
import { lookAtCarriers, lookAtCredentials, lookAtNumbers, readAccounts, readOwnAccounts } from './beyond/accounts.ts';
import { lookAtClocks } from './beyond/clocks.ts';
import { lookAtConnections, lookAtDurability, lookAtTransactions } from './beyond/server.ts';
import { backlog, lookAtBacklog, lookAtLeases, lookAtWorkers, settleWithinS } from './beyond/workers.ts';
import type { Check, ReadinessOptions } from './options.ts';
import { proveCancel } from './points/cancel.ts';
import { proveConstraint } from './points/constraint.ts';
import { proveCursor, proveOwnCursors } from './points/cursor.ts';
import { proveInvariants } from './points/invariants.ts';
import { proveIsolation } from './points/isolation.ts';
import { proveMigrations } from './points/migrations.ts';
import { proveReclaim } from './points/reclaim.ts';
import { type Finding, prove } from './prove.ts';

/** A check that runs ends within minutes; whose canaries are older was killed. */
const CANARY_FORGOTTEN_MS = 600_000;

/**
 * Proves the seven points on the installation as it runs, and looks at what else may go wrong. Safe at any time, and
 * several times at once: it makes businesses of its own, whose runs reach no carrier, and removes them however it ends.
 * Whatever can't be proven is not ok; only what can't even be told throws.
 */
export async function checkReadiness(options: ReadinessOptions): Promise<ReadinessReport> {
  const check = begin(options);
  const { clock } = check;
  const migrations = await prove(clock, 'migrations', () => proveMigrations(check));
  const beyond = await lookBeyond(check);
  const points = await withCanaries(check, (canaries) => provePoints(check, canaries));
  return report(options, check, 'installation', [migrations, ...points], beyond);
}

/** What one business is shown: its own runs, accounts and backlog, and nothing of the installation or of anybody else. */
export async function checkBusiness(options: ReadinessOptions, business_id: BusinessId): Promise<ReadinessReport> {
  const check = begin({ ...options, ask_carrier: false });
  const { clock, db, limits } = check;
  const points = [await prove(clock, 'cursor', () => proveOwnCursors(check, business_id))];
  const beyond = [
    await prove(clock, 'leases', async () => {
      const { stale_leases } = await readBusinessLoad(db, business_id, limits.lease_ttl_ms);
      const ok = stale_leases === 0;
      const sentence = ok
        ? 'Every running run has a fresh heartbeat'
        : `Running runs that wait for a worker to take them over: ${stale_leases}`;
      return { ok, sentence, evidence: { stale_leases } };
    }),
    await prove(clock, 'backlog', async () =>
      backlog(await readBusinessLoad(db, business_id, limits.lease_ttl_ms), settleWithinS(limits)),
    ),
    await prove(clock, 'credentials', async () => lookAtCredentials(check, await readOwnAccounts(check, business_id))),
    await prove(clock, 'carriers', async () => lookAtCarriers(await readOwnAccounts(check, business_id))),
  ];
  return report(options, check, 'business', points, beyond);
}

function begin(options: ReadinessOptions): Check {
  return { ...options, until_monotonic_ms: options.clock.monotonicMs() + options.timeout_ms };
}

function report(
  { clock, timeout_ms }: ReadinessOptions,
  { until_monotonic_ms }: Check,
  scope: ReadinessReport['scope'],
  points: ReadinessResult[],
  beyond: ReadinessResult[],
): ReadinessReport {
  const took_ms = Math.round(clock.monotonicMs() - (until_monotonic_ms - timeout_ms));
  const ok = [...points, ...beyond].every((result) => result.ok);
  return { ok, scope, checked_at: new Date(clock.wallMs()).toISOString(), took_ms, points, beyond };
}

/** Read before the canaries are there, so that what they do is not in the figures. */
async function lookBeyond(check: Check): Promise<ReadinessResult[]> {
  const { clock } = check;
  return [
    await prove(clock, 'workers', () => lookAtWorkers(check)),
    await prove(clock, 'leases', () => lookAtLeases(check)),
    await prove(clock, 'backlog', () => lookAtBacklog(check)),
    await prove(clock, 'credentials', async () => {
      const { accounts, businesses_left_out } = await readAccounts(check);
      return await lookAtCredentials(check, accounts, businesses_left_out);
    }),
    await prove(clock, 'carriers', async () => lookAtCarriers((await readAccounts(check)).accounts)),
    await prove(clock, 'numbers', () => lookAtNumbers(check)),
    await prove(clock, 'clocks', () => lookAtClocks(check)),
    await prove(clock, 'transactions', () => lookAtTransactions(check)),
    await prove(clock, 'connections', () => lookAtConnections(check)),
    await prove(clock, 'durability', () => lookAtDurability(check)),
  ];
}

interface Flock {
  /** Its run is stopped. */
  stopped: Canary;
  stopped_run: Run;
  /** Its run is left by a dead worker. */
  left: Canary;
  left_run: Run;
}

const NEED_CANARIES = ['constraint', 'cancel', 'isolation', 'cursor', 'reclaim', 'invariants'];

/** Makes the canaries, and removes them and what crashed checks have left. Without canaries no point is proven. */
async function withCanaries(
  check: Check,
  work: (flock: Flock) => Promise<ReadinessResult[]>,
): Promise<ReadinessResult[]> {
  const { clock, db } = check;
  const made: Canary[] = [];
  const make = async () => {
    const canary = await createCanary(db, check.secret);
    made.push(canary);
    return canary;
  };
  let results: ReadinessResult[];
  try {
    for (const forgotten of await findCanaries(db, CANARY_FORGOTTEN_MS)) await removeCanary(db, forgotten);
    const tomorrow = new Date(clock.wallMs() + 86_400_000).toISOString();
    // Who asks for a report reads; but a canary must not be made twice where the answer to a COMMIT is lost.
    const flock = await withReceipts(async () => {
      const [left, stopped] = [await make(), await make()];
      const left_run = await startCanaryRun(db, left, check.limits, tomorrow);
      return { left, left_run, stopped, stopped_run: await startCanaryRun(db, stopped, check.limits) };
    });
    results = await work(flock);
  } catch (error) {
    const fail = async (): Promise<Finding> => {
      throw new Error('a canary could not be made', { cause: error });
    };
    results = await Promise.all(NEED_CANARIES.map((point) => prove(clock, point, fail)));
  }
  const left_behind = await removeAll(check, made);
  return left_behind.length === 0
    ? results
    : results.map((result) => ({ ...result, evidence: { ...result.evidence, left_behind } }));
}

/** Tries each a few times: what is wrong with the installation may be wrong for a moment only. */
async function removeAll({ db }: Check, made: readonly Canary[]): Promise<number[]> {
  const left: number[] = [];
  for (const { business_id } of made)
    await removeCanary(db, business_id)
      .catch(() => removeCanary(db, business_id))
      .catch(() => left.push(business_id));
  return left;
}

async function provePoints(check: Check, flock: Flock): Promise<ReadinessResult[]> {
  const { clock } = check;
  const { stopped, stopped_run, left, left_run } = flock;
  const run_id = stopped_run.run_id as RunId;
  // The canaries are attacked and tried while their runs are worked on, like everybody else's.
  const [cancel, reclaim, constraint, isolation] = await Promise.all([
    prove(clock, 'cancel', () => withReceipts(() => proveCancel(check, stopped, stopped_run))),
    prove(clock, 'reclaim', () => withReceipts(() => proveReclaim(check, left, left_run))),
    prove(clock, 'constraint', () => proveConstraint(check, stopped, run_id)),
    prove(clock, 'isolation', () => proveIsolation(check, stopped, left)),
  ]);
  const canaryRuns: RunToCount[] = [
    { business_id: stopped.business_id, run_id, total_leads: stopped_run.total_leads },
    { business_id: left.business_id, run_id: left_run.run_id as RunId, total_leads: left_run.total_leads },
  ];
  const cursor = await prove(clock, 'cursor', () => proveCursor(check, canaryRuns));
  // What a point has found wrong with its canary is told there, and not once more as a broken invariant. Both are stopped.
  const sound = canaryRuns.filter((_, index) => cancel.ok && [cancel, reclaim][index]?.ok);
  const invariants = await prove(clock, 'invariants', () => proveInvariants(check, sound, cursor));
  return [constraint, cancel, isolation, cursor, reclaim, invariants];
}
