import type { Checked } from '@carillon/auditor';
import type { ClientTotals } from './client.ts';
import { type Evidence, judgeLimits } from './judge.ts';
import { aboutFault, FAULT_KINDS, type FaultKind } from './plan.ts';
import { countReviews, type Reviews } from './reviews.ts';
import { findViolations, type Observed, reclaimWithinMs, type Violations } from './verdict.ts';

/** What one trial has shown. */
export interface Report {
  ok: boolean;
  /** The commit, and whether anything was changed since; null outside of a checkout. */
  version: string | null;
  seed: number;
  minutes: number;
  /** In all runs: who is called by two runs counts twice. */
  leads: number;
  faults: number;
  /** Also those of which there were none. */
  faults_by_kind: Record<FaultKind, number>;
  runs: number;
  attempts: number;
  /** By the carrier's ledger. */
  calls: number;
  /** How many there are of each violation, also where there is none. */
  doubles: number;
  losses: number;
  limits_exceeded: number;
  overlaps: number;
  disobeyed: number;
  /** Leads by how they ended; attempts by what came of them. */
  ends: Record<string, number>;
  outcomes: Record<string, number>;
  /** Answered, and therefore to be kept. */
  promises: { stops: number; pauses: number; job_cancels: number };
  reviews: Reviews;
  recovery: {
    /** Runs whose worker was killed or stopped. */
    orphaned: number;
    /** How many of them another worker took, and how many of these with nothing in its way. */
    take_overs: number;
    undisturbed: number;
    longest_undisturbed_ms: number;
    /** Of all take-overs, with all that stood in the way. */
    longest_ms: number;
    /** Of all that waited: the longest time without anything in the way. This is what the bound holds for. */
    longest_stretch_ms: number;
    within_ms: number;
  };
  /** From the last fault until nothing was open any more. */
  rest: { took_ms: number; within_ms: number };
  limits: { most_live: number; of_lines: number; most_starts_per_second: number };
  client: ClientTotals;
  transactions: { retried: number; deadlocks: number };
  audited: Checked;
  violations: Violations;
  /** The directory with database, ledger and logs, where it was kept. */
  kept_in?: string;
}

/** What there is to tell beside what is judged. */
export interface Figures
  extends Pick<Report, 'version' | 'seed' | 'minutes' | 'rest' | 'client' | 'transactions' | 'audited'> {
  patience: number;
  injected: ReadonlyMap<FaultKind, number>;
}

export function drawUp(evidence: Evidence, observed: Observed, figures: Figures): Report {
  const { version, seed, minutes, patience, injected, rest, client, transactions, audited } = figures;
  const { rows, workload, calls, businesses } = evidence;
  const leads = businesses.flatMap(({ campaigns }) => campaigns).reduce((sum, one) => sum + one.leads, 0);
  const violations = findViolations(evidence, observed, { leads, patience });
  const limits = judgeLimits(evidence);
  const promised = (kind: string) => workload.promised.filter((one) => one.kind === kind).length;
  const taken = observed.recoveries.filter((one) => one.taken_over);
  const undisturbed = taken.filter((one) => one.undisturbed);
  const longest = (all: number[]) => Math.round(Math.max(0, ...all));
  return {
    ok: Object.values(violations).every((found) => found.length === 0),
    version,
    seed,
    minutes,
    leads,
    faults: [...injected.values()].reduce((sum, times) => sum + times, 0),
    faults_by_kind: Object.fromEntries(
      FAULT_KINDS.map((kind) => [kind, injected.get(kind) ?? 0]),
    ) as Report['faults_by_kind'],
    runs: rows.runs.length,
    attempts: rows.attempts.length,
    calls: calls.length,
    doubles: violations.doubles.length,
    losses: violations.losses.length,
    limits_exceeded: violations.limits.length,
    overlaps: violations.overlaps.length,
    disobeyed: violations.disobedience.length,
    ends: countBy(rows.jobs.map(({ status }) => status)),
    outcomes: countBy(rows.attempts.map(({ outcome }) => outcome)),
    promises: { stops: promised('stop'), pauses: promised('pause'), job_cancels: promised('job_cancel') },
    reviews: countReviews(evidence),
    recovery: {
      orphaned: observed.recoveries.length,
      take_overs: taken.length,
      undisturbed: undisturbed.length,
      longest_undisturbed_ms: longest(undisturbed.map(({ whole_ms }) => whole_ms)),
      longest_ms: longest(taken.map(({ whole_ms }) => whole_ms)),
      longest_stretch_ms: longest(observed.recoveries.map(({ undisturbed_ms }) => undisturbed_ms)),
      within_ms: reclaimWithinMs(patience),
    },
    rest,
    limits: {
      most_live: limits.most_live,
      of_lines: limits.most_live_limit,
      most_starts_per_second: limits.most_starts_per_second,
    },
    client,
    transactions,
    audited,
    violations,
  };
}

function countBy(names: readonly string[]): Record<string, number> {
  const groups = [...Map.groupBy(names, (name) => name)].sort(([a], [b]) => a.localeCompare(b));
  return Object.fromEntries(groups.map(([name, all]) => [name, all.length]));
}

const SHOWN = 10;

const pairs = (counts: Record<string, number>): string =>
  Object.entries(counts)
    .map(([name, count]) => `${count} ${name}`)
    .join(', ') || 'none';

/** For people. */
export function inWords(report: Report): string {
  const { recovery, rest, limits, client, transactions, audited, promises, reviews } = report;
  const lines = [
    `Seed ${report.seed}: ${report.ok ? 'nothing is violated' : 'VIOLATED'}`,
    `  version: ${report.version ?? 'not known, this is no checkout'}`,
    `  ${report.faults} faults in ${report.minutes} minutes`,
    ...FAULT_KINDS.map((kind) => `    ${String(report.faults_by_kind[kind]).padStart(4)}  ${aboutFault(kind)}`),
    `  ${report.leads} leads in ${report.runs} runs: ${pairs(report.ends)}`,
    `  ${report.attempts} attempts: ${pairs(report.outcomes)}`,
    `  ${report.calls} calls in the carrier's ledger; ${report.doubles} leads called twice, ${report.losses} lost, ${report.overlaps} numbers on the line twice at once`,
    `  limits exceeded: ${report.limits_exceeded}; at most ${limits.most_live} calls live on ${limits.of_lines} lines, at most ${limits.most_starts_per_second} starts in a second at the carrier`,
    `  disobeyed: ${report.disobeyed}, of ${promises.stops} stops, ${promises.pauses} pauses and ${promises.job_cancels} cancelled jobs that were answered`,
    `  ${reviews.total} reviews (${pairs(reviews.causes)}); ${reviews.by_policy} more because the policy asks for them`,
    `  ${recovery.orphaned} times a run lost its worker, ${recovery.take_overs} times another took it, ${recovery.undisturbed} of them with nothing in its way: these after ${recovery.longest_undisturbed_ms} ms at most, all after ${recovery.longest_ms} ms; longest time with nothing in the way ${recovery.longest_stretch_ms} ms, of ${recovery.within_ms} allowed`,
    `  all at rest ${rest.took_ms} ms after the last fault, of ${rest.within_ms} allowed`,
    `  ${client.requests} API requests, answered with 5xx: ${pairs(client.put_off)}, not answered: ${client.silent}; all of them done in ${Math.round(client.longest_wait_ms)} ms`,
    `  ${transactions.retried} transactions run again by workers, ${transactions.deadlocks} deadlocks`,
    `  audited: ${audited.runs} runs, ${audited.jobs} jobs, ${audited.attempts} attempts, ${audited.ledger_calls} calls`,
  ];
  for (const [what, found] of Object.entries(report.violations) as [string, string[]][]) {
    if (found.length === 0) continue;
    lines.push(`  ${what}: ${found.length}`);
    lines.push(...found.slice(0, SHOWN).map((one) => `    ${one}`));
    if (found.length > SHOWN) lines.push(`    … and ${found.length - SHOWN} more`);
  }
  if (report.kept_in !== undefined) lines.push(`  logs, ledger and database: ${report.kept_in}`);
  return lines.join('\n');
}
