import { mkdtemp, rm } from 'node:fs/promises';
import { appendFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { audit } from '@carillon/auditor';
import { discoveryUrl } from '@carillon/engine';
import { readCalls, readRows } from './books.ts';
import { type Business, createBusinesses } from './businesses.ts';
import { createClient } from './client.ts';
import { injectFaults } from './faults.ts';
import { createInstallation, type Installation } from './installation.ts';
import type { Evidence } from './judge.ts';
import { LIMITS, RECLAIM_MORE_MS } from './limits.ts';
import { planFaults } from './plan.ts';
import { createRandom } from './random.ts';
import { measureRecovery, watchRecovery } from './recovery.ts';
import { drawUp, type Report } from './report.ts';
import { describeVersion } from './version.ts';
import { createWorkload, type Workload } from './workload.ts';

export interface TrialOptions {
  seed: number;
  /** Of faults; what is open then is let end. */
  minutes: number;
  leads: number;
  /** How much longer than its limits allow something may take on this machine: 1 where nothing else runs. */
  patience: number;
  /** The directory with database, ledger and logs stays also when nothing is wrong. */
  keep?: boolean;
  say(line: string): void;
}

/**
 * One trial: real processes, faults by the seed's plan, and the judgement when all has come to rest. Never throws for
 * what the installation does wrong: that stands in the report.
 */
export async function runTrial(options: TrialOptions): Promise<Report> {
  const { seed, minutes, leads, patience, say } = options;
  const version = await describeVersion();
  const dir = await mkdtemp(path.join(tmpdir(), 'carillon-chaos-'));
  const since_ms = performance.now();
  const log = (line: string) => appendFileSync(path.join(dir, 'trial.log'), `${new Date().toISOString()} ${line}\n`);
  const faults = planFaults(seed, minutes);
  say(`seed ${seed}: ${faults.length} faults in ${minutes} minutes over ${leads} leads; everything is kept in ${dir}`);
  const recovery = watchRecovery();
  const here = await createInstallation(dir, seed, { log, atWork: (worker_id) => recovery.here(worker_id) });
  let good = false;
  try {
    const client = createClient(here.api_url);
    const random = createRandom(seed, 'workload');
    const businesses = await createBusinesses(here, client, random, { leads, minutes });
    const workload = createWorkload(client, businesses, random);
    const stop = new AbortController();
    say(`ready after ${seconds(since_ms)} s; calling`);
    const telling = tellProgress(here, stop.signal, say);
    const working = workload.work(stop.signal);
    // What goes wrong in it is told below, when the faults are over.
    working.catch(() => stop.abort());
    const injected = await injectFaults({ here, recovery, databaseBusy: false }, faults);
    say(`the faults are over after ${seconds(since_ms)} s`);
    stop.abort();
    await Promise.all([working, telling]);
    const settled = await comeToRest(here, workload, businesses, options);
    say(`${settled.rest.took_ms} ms later there are still ${JSON.stringify(settled.open)}`);
    const recoveries = await measureRecovery(here.postgres, recovery);
    for (const one of recoveries) log(`run without a worker: ${JSON.stringify(one)}`);
    const audited = await audit({
      app_url: here.postgres.appUrl,
      discovery_url: discoveryUrl(here.postgres.appUrl),
      limits: LIMITS,
      ledger: here.carrier.url,
    });
    const rows = await readRows(here.postgres);
    const evidence: Evidence = { businesses, workload, rows, calls: readCalls(await here.carrier.ledger()) };
    const { open, rest } = settled;
    const observed = {
      open,
      unplanned: here.unplanned,
      put_off: client.totals.put_off,
      restores: await readRestores(here),
      recoveries,
      audited,
    };
    const transactions = { retried: here.retries(), deadlocks: await countDeadlocks(here) };
    const trial = { version, seed, minutes, patience, injected, rest };
    const figures = { ...trial, client: client.totals, transactions, audited: audited.checked };
    const report = drawUp(evidence, observed, figures);
    good = report.ok;
    return good && !options.keep ? report : { ...report, kept_in: dir };
  } finally {
    await here.close();
    if (good && !options.keep) await rm(dir, { recursive: true, force: true });
    else say(`seed ${seed}: logs, ledger and database are kept in ${dir}`);
  }
}

const seconds = (since_ms: number): string => ((performance.now() - since_ms) / 1_000).toFixed(0);

const TELL_EVERY_MS = 15_000;

async function tellProgress(here: Installation, stop: AbortSignal, say: (line: string) => void): Promise<void> {
  while (!stop.aborted) {
    await pause(TELL_EVERY_MS, undefined, { signal: stop }).catch(() => {});
    const { calls, live } = await here.carrier.totals();
    say(`  ${calls} calls, ${live} of them live`);
  }
}

interface Settled {
  rest: Report['rest'];
  /** Nothing above 0 when everything ended in time. */
  open: Record<string, number>;
}

const OPEN_WORK = `
  SELECT carrier_account_id, sum(queued + waiting + in_progress) AS leads FROM carillon.outbound_call_runs
  WHERE ended_at IS NULL GROUP BY carrier_account_id`;

/**
 * From the limits in force: what is still to be called at its lane's rate, with every retry that a policy may ask for;
 * then one lease that has to run out, and the longest life of one attempt of which nobody hears, twice.
 */
async function restWithinMs(here: Installation, businesses: readonly Business[]): Promise<number> {
  const open = await here.postgres.rows<{ carrier_account_id: number; leads: string }>(OPEN_WORK);
  const lanes = businesses.flatMap(({ accounts, policy }) => accounts.map((account) => ({ account, policy })));
  const calling_ms = open.map(({ carrier_account_id, leads }) => {
    const lane = lanes.find(({ account }) => account.carrier_account_id === carrier_account_id);
    const retries = Object.values(lane?.policy.retry ?? {}).reduce((sum, { times }) => sum + times, 0);
    return (Number(leads) * (1 + retries) * 1_000) / (lane?.account.calls_per_second ?? 1);
  });
  const grace_ms = LIMITS.carrier_effect_delay_ms + LIMITS.carrier_listing_delay_ms + LIMITS.reconcile_margin_ms;
  const attempt_ms = 2 * LIMITS.dial_deadline_ms + grace_ms + LIMITS.ring_timeout_ms + LIMITS.call_max_ms;
  return 2 * Math.max(0, ...calling_ms) + LIMITS.lease_ttl_ms + RECLAIM_MORE_MS + 2 * attempt_ms;
}

async function comeToRest(
  here: Installation,
  workload: Workload,
  businesses: readonly Business[],
  { patience }: TrialOptions,
): Promise<Settled> {
  const since_ms = performance.now();
  const within_ms = Math.round(patience * (await restWithinMs(here, businesses)));
  for (;;) {
    const open = await countOpen(here, workload);
    const took_ms = Math.round(performance.now() - since_ms);
    if (Object.values(open).every((count) => count === 0) || took_ms > within_ms)
      return { rest: { took_ms, within_ms }, open };
    await pause(300);
  }
}

async function countOpen(here: Installation, workload: Workload): Promise<Settled['open']> {
  const runs = await workload.letGoOn();
  const [rows] = await here.postgres.rows<{ attempts: number; unwanted: number }>(
    `SELECT (SELECT count(*) FROM carillon.open_attempts) AS attempts,
       (SELECT count(*) FROM carillon.unwanted_calls WHERE over_at IS NULL) AS unwanted`,
  );
  const { live } = await here.carrier.totals();
  return {
    runs,
    'open attempts': rows?.attempts ?? 0,
    'unwanted calls': rows?.unwanted ?? 0,
    'live calls': live,
  };
}

async function readRestores(here: Installation): Promise<string[]> {
  const noticed = await here.postgres.rows<{ reason: string }>(
    "SELECT after->>'reason' AS reason FROM carillon.installation_events WHERE action = 'restore.noticed'",
  );
  return noticed.map(({ reason }) => reason);
}

async function countDeadlocks(here: Installation): Promise<number> {
  const [server] = await here.postgres.rows<{ deadlocks: number }>(
    'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()',
  );
  return server?.deadlocks ?? 0;
}
