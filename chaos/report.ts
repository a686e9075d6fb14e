import type { Checked } from '@carillon/auditor';
import type { ClientTotals } from './client.ts';
import type { Reviews } from './judge.ts';
import { aboutFault, FAULT_KINDS, type FaultKind } from './plan.ts';

/** What is not allowed to happen, each in sentences. */
export interface Violations {
  /** Leads called again without anybody having asked for it. */
  doubles: string[];
  losses: string[];
  limits: string[];
  /** Attempts and calls after an answered stop, pause or cancel. */
  disobedience: string[];
  /** Runs that waited for a worker longer than they may. */
  recovery: string[];
  reviews: string[];
  /** What had not ended in time after the last fault. */
  unsettled: string[];
  /** Answers of the API that no client should get. */
  answers: string[];
  /** Processes that ended by themselves. */
  processes: string[];
  /** Restores of the database that somebody noticed: there is none. */
  alarms: string[];
  audit: string[];
}

/** What one trial has shown. */
export interface Report {
  ok: boolean;
  seed: number;
  minutes: number;
  leads: number;
  faults: number;
  faults_by_kind: Partial<Record<FaultKind, number>>;
  runs: number;
  attempts: number;
  /** By the carrier's ledger. */
  calls: number;
  doubles: number;
  losses: number;
  /** Leads by how they ended; attempts by what came of them. */
  ends: Record<string, number>;
  outcomes: Record<string, number>;
  /** Answered, and therefore to be kept. */
  promises: { stops: number; pauses: number; job_cancels: number };
  reviews: Reviews;
  recovery: {
    /** Runs whose worker was killed or stopped, and how many of them another one took. */
    runs_orphaned: number;
    runs_reclaimed: number;
    longest_ms: number;
    /** Without the time in which the database was away or another worker went too. */
    longest_undisturbed_ms: number;
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
    `  ${report.faults} faults in ${report.minutes} minutes`,
    ...FAULT_KINDS.flatMap((kind) => {
      const times = report.faults_by_kind[kind];
      return times ? [`    ${String(times).padStart(4)}  ${aboutFault(kind)}`] : [];
    }),
    `  ${report.leads} leads in ${report.runs} runs: ${pairs(report.ends)}`,
    `  ${report.attempts} attempts: ${pairs(report.outcomes)}`,
    `  ${report.calls} calls in the carrier's ledger; ${report.doubles} leads called twice, ${report.losses} lost`,
    `  answered and kept: ${promises.stops} stops, ${promises.pauses} pauses, ${promises.job_cancels} cancelled jobs`,
    `  ${reviews.total} reviews (${pairs(reviews.causes)}); ${reviews.by_policy} more because the policy asks for them`,
    `  ${recovery.runs_orphaned} runs lost their worker, ${recovery.runs_reclaimed} were claimed again, the last one after ${recovery.longest_ms} ms; at most ${recovery.longest_undisturbed_ms} ms of it undisturbed, of ${recovery.within_ms} allowed`,
    `  all at rest ${rest.took_ms} ms after the last fault, of ${rest.within_ms} allowed`,
    `  at most ${limits.most_live} calls live on ${limits.of_lines} lines; at most ${limits.most_starts_per_second} starts in a second at the carrier`,
    `  ${client.requests} API requests: ${client.put_off} answered with 5xx, ${client.silent} not at all, all of them done in ${Math.round(client.longest_wait_ms)} ms`,
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
