import type { AuditReport } from '@carillon/auditor';
import type { ErrorCode } from '@carillon/contract';
import type { ClientTotals } from './client.ts';
import { type Evidence, findDisobedience, findDoubles, findLosses, findOverlaps, judgeLimits } from './judge.ts';
import { LIMITS, RECLAIM_MORE_MS, TRIAL } from './limits.ts';
import type { Recovery } from './recovery.ts';
import { countReviews } from './reviews.ts';

/** What is not allowed to happen, each in sentences. */
export interface Violations {
  /** Leads called again without anybody having asked for it. */
  doubles: string[];
  losses: string[];
  limits: string[];
  /** Numbers that were on the line twice at once. */
  overlaps: string[];
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

/** What was seen beside calls and rows. */
export interface Observed {
  /** What was still open when the time to come to rest was over; empty when all had ended before. */
  open: Readonly<Record<string, number>>;
  /** Processes that ended by themselves, each in a sentence. */
  unplanned: readonly string[];
  /** Requests that were answered with 5xx, by code. */
  put_off: ClientTotals['put_off'];
  /** Why a worker believed that the database had been restored. */
  restores: readonly string[];
  recoveries: readonly Recovery[];
  audited: Pick<AuditReport, 'violations' | 'incomplete'>;
}

/** What is asked of a trial of this size on a machine of this pace. */
export interface Asked {
  leads: number;
  patience: number;
}

export const reclaimWithinMs = (patience: number): number => patience * (LIMITS.lease_ttl_ms + RECLAIM_MORE_MS);

const REVIEWS_LEAST = 2;

/** Whatever breaks, there is a better answer. */
const FAULT_OF_OURS: ErrorCode = 'internal';

export function findViolations(evidence: Evidence, observed: Observed, { leads, patience }: Asked): Violations {
  const { total, causes } = countReviews(evidence);
  const reviews_most = Math.max(REVIEWS_LEAST, (leads * TRIAL.reviews_per_thousand_most) / 1_000);
  const faults_of_ours = observed.put_off[FAULT_OF_OURS] ?? 0;
  const slow = observed.recoveries.filter(({ undisturbed_ms }) => undisturbed_ms > reclaimWithinMs(patience));
  return {
    doubles: findDoubles(evidence),
    losses: findLosses(evidence),
    limits: judgeLimits(evidence).broken,
    overlaps: findOverlaps(evidence),
    disobedience: findDisobedience(evidence),
    recovery: slow.map((one) => `run ${one.run_id} waited ${Math.round(one.undisturbed_ms)} ms for its next worker`),
    reviews: total > reviews_most ? [`${total} reviews of ${leads} leads: ${JSON.stringify(causes)}`] : [],
    unsettled: Object.entries(observed.open).flatMap(([what, n]) => (n > 0 ? [`${n} ${what} have not ended`] : [])),
    answers: [...evidence.workload.wrong, ...(faults_of_ours > 0 ? [`${faults_of_ours} times ${FAULT_OF_OURS}`] : [])],
    processes: [...observed.unplanned],
    // A crash forgets nothing that was committed: whoever takes it for a restore stops every run for nothing.
    alarms: observed.restores.map((reason) => `a restore was noticed, and there was none: ${reason}`),
    audit: [
      ...observed.audited.violations.map(({ invariant, what }) => `[${invariant}] ${what}`),
      ...observed.audited.incomplete.map(({ invariant, what }) => `[${invariant}] not judged: ${what}`),
    ],
  };
}
