import { mkdtemp, rm } from 'node:fs/promises';
import { appendFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { audit, type AuditReport } from '@carillon/auditor';
import { discoveryUrl } from '@carillon/engine';
import { readCalls, readRows } from './books.ts';
import { type Business, createBusinesses } from './businesses.ts';
import { type Client, createClient } from './client.ts';
import { injectFaults } from './faults.ts';
import { createInstallation, type Installation } from './installation.ts';
import { countReviews, type Evidence, findDisobedience, findDoubles, findLosses, judgeLimits } from './judge.ts';
import { LIMITS, RECLAIM_MORE_MS, TRIAL } from './limits.ts';
import { type FaultKind, planFaults } from './plan.ts';
import { createRandom } from './random.ts';
import { measureRecovery, type Recovery, watchRecovery } from './recovery.ts';
import type { Report } from './report.ts';
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
  const { seed, minutes, leads, say } = options;
  const dir = await mkdtemp(path.join(tmpdir(), 'carillon-chaos-'));
  const since_ms = performance.now();
  const log = (line: string) => appendFileSync(path.join(dir, 'trial.log'), `${new Date().toISOString()} ${line}\n`);
  const faults = planFaults(seed, minutes);
  say(`seed ${seed}: ${faults.length} faults in ${minutes} minutes over ${leads} leads; everything is kept in ${dir}`);
  const here = await createInstallation(dir, seed, log);
  let good = false;
  try {
    const client = createClient(here.api_url);
    const random = createRandom(seed, 'workload');
    const businesses = await createBusinesses(here, client, random, { leads, minutes });
    const workload = createWorkload(client, businesses, random);
    const recovery = watchRecovery();
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
    say(settled.unsettled.length > 0 ? settled.unsettled.join('; ') : `all at rest ${settled.took_ms} ms later`);
    const recoveries = await measureRecovery(here.postgres, recovery);
    for (const one of recoveries) log(`run without a worker: ${JSON.stringify(one)}`);
    const audited = await auditAll(here);
    const report = await judge({ here, client, businesses, workload, injected, settled, recoveries, audited, options });
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
  took_ms: number;
  deadline_ms: number;
  /** Empty when everything ended in time. */
  unsettled: string[];
}

const OPEN_WORK = `
  SELECT business_id, sum(queued + waiting + in_progress) AS leads FROM carillon.outbound_call_runs
  WHERE ended_at IS NULL GROUP BY business_id`;

/**
 * From the limits in force: what is still to be called at its lane's rate, with every retry that a policy may ask for;
 * then one lease that has to run out, and the longest life of one attempt of which nobody hears, twice.
 */
async function restWithinMs(here: Installation, businesses: readonly Business[]): Promise<number> {
  const open = await here.postgres.rows<{ business_id: number; leads: string }>(OPEN_WORK);
  const calling_ms = open.map(({ business_id, leads }) => {
    const business = businesses.find((one) => one.business_id === business_id);
    const retries = Object.values(business?.policy.retry ?? {}).reduce((sum, { times }) => sum + times, 0);
    return (Number(leads) * (1 + retries) * 1_000) / (business?.calls_per_second ?? 1);
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
  const deadline_ms = Math.round(patience * (await restWithinMs(here, businesses)));
  for (;;) {
    const unsettled = await findUnsettled(here, workload);
    const took_ms = Math.round(performance.now() - since_ms);
    if (unsettled.length === 0 || took_ms > deadline_ms) return { took_ms, deadline_ms, unsettled };
    await pause(300);
  }
}

async function findUnsettled(here: Installation, workload: Workload): Promise<string[]> {
  const runs = await workload.letGoOn();
  const [rows] = await here.postgres.rows<{ attempts: number; unwanted: number }>(
    `SELECT (SELECT count(*) FROM carillon.open_attempts) AS attempts,
       (SELECT count(*) FROM carillon.unwanted_calls WHERE over_at IS NULL) AS unwanted`,
  );
  const { live } = await here.carrier.totals();
  const counts = {
    runs,
    'open attempts': rows?.attempts ?? 0,
    'unwanted calls': rows?.unwanted ?? 0,
    'live calls': live,
  };
  return Object.entries(counts).flatMap(([what, count]) => (count > 0 ? [`${count} ${what} have not ended`] : []));
}

async function auditAll(here: Installation): Promise<AuditReport> {
  return await audit({
    app_url: here.postgres.appUrl,
    discovery_url: discoveryUrl(here.postgres.appUrl),
    limits: LIMITS,
    ledger: here.carrier.url,
  });
}

const RESTORES = `
  SELECT after->>'reason' AS reason FROM carillon.installation_events WHERE action = 'restore.noticed'`;

/** A crash forgets nothing that was committed: whoever takes it for a restore stops every run for nothing. */
async function findFalseAlarms(here: Installation): Promise<string[]> {
  const noticed = await here.postgres.rows<{ reason: string }>(RESTORES);
  return noticed.map(({ reason }) => `a restore was noticed, and there was none: ${reason}`);
}

interface Finished {
  here: Installation;
  client: Client;
  businesses: readonly Business[];
  workload: Workload;
  injected: ReadonlyMap<FaultKind, number>;
  settled: Settled;
  recoveries: readonly Recovery[];
  audited: AuditReport;
  options: TrialOptions;
}

async function judge(finished: Finished): Promise<Report> {
  const { here, client, businesses, workload, injected, settled, recoveries, audited, options } = finished;
  const { seed, minutes, leads, patience } = options;
  const rows = await readRows(here.postgres);
  const evidence: Evidence = { businesses, workload, rows, calls: readCalls(await here.carrier.ledger()) };
  const limits = judgeLimits(evidence);
  const reviews = countReviews(evidence);
  const reclaim_within_ms = patience * (LIMITS.lease_ttl_ms + RECLAIM_MORE_MS);
  const slow = recoveries.filter(({ undisturbed_ms }) => undisturbed_ms > reclaim_within_ms);
  const reviews_most = Math.max(2, (leads * TRIAL.reviews_per_thousand_most) / 1_000);
  const [server] = await here.postgres.rows<{ deadlocks: number }>(
    'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()',
  );
  const violations = {
    doubles: findDoubles(evidence),
    losses: findLosses(evidence),
    limits: limits.broken,
    disobedience: findDisobedience(evidence),
    recovery: slow.map((one) => `run ${one.run_id} waited ${Math.round(one.undisturbed_ms)} ms for its next worker`),
    reviews: reviews.total > reviews_most ? [`${reviews.total} reviews of ${leads} leads`] : [],
    unsettled: settled.unsettled,
    answers: [...workload.wrong],
    processes: [...here.unplanned],
    alarms: await findFalseAlarms(here),
    audit: [
      ...audited.violations.map(({ invariant, what }) => `[${invariant}] ${what}`),
      ...audited.incomplete.map(({ invariant, what }) => `[${invariant}] not judged: ${what}`),
    ],
  };
  const count = (kind: string) => workload.promised.filter((one) => one.kind === kind).length;
  const reclaimed = recoveries.filter((one) => one.reclaimed);
  return {
    ok: Object.values(violations).every((found) => found.length === 0),
    seed,
    minutes,
    leads,
    faults: [...injected.values()].reduce((sum, times) => sum + times, 0),
    faults_by_kind: Object.fromEntries(injected) as Report['faults_by_kind'],
    runs: rows.runs.length,
    attempts: rows.attempts.length,
    calls: evidence.calls.length,
    doubles: violations.doubles.length,
    losses: violations.losses.length,
    ends: countBy(rows.jobs.map(({ status }) => status)),
    outcomes: countBy(rows.attempts.map(({ outcome }) => outcome)),
    promises: { stops: count('stop'), pauses: count('pause'), job_cancels: count('job_cancel') },
    reviews,
    recovery: {
      runs_orphaned: recoveries.length,
      runs_reclaimed: reclaimed.length,
      longest_ms: Math.round(Math.max(0, ...reclaimed.map(({ whole_ms }) => whole_ms))),
      longest_undisturbed_ms: Math.round(Math.max(0, ...recoveries.map(({ undisturbed_ms }) => undisturbed_ms))),
      within_ms: reclaim_within_ms,
    },
    rest: { took_ms: settled.took_ms, within_ms: settled.deadline_ms },
    limits: {
      most_live: limits.most_live,
      of_lines: limits.most_live_limit,
      most_starts_per_second: limits.most_starts_per_second,
    },
    client: client.totals,
    transactions: { retried: here.retries(), deadlocks: server?.deadlocks ?? 0 },
    audited: audited.checked,
    violations,
  };
}

function countBy(names: readonly string[]): Record<string, number> {
  const groups = [...Map.groupBy(names, (name) => name)].sort(([a], [b]) => a.localeCompare(b));
  return Object.fromEntries(groups.map(([name, all]) => [name, all.length]));
}
