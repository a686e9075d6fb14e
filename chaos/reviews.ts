import type { AttemptRow, JobRow } from './books.ts';
import { type Evidence, keyOf } from './judge.ts';
import { LIMITS } from './limits.ts';

export interface Reviews {
  /** Leads that were ever left to a person, also those that somebody resolved or late evidence settled since. */
  total: number;
  /** The same by what kept the answer away, or why nobody tries any more. */
  causes: Record<string, number>;
  /** Not among them: proven never called, and left to a person because their business wants it so. */
  by_policy: number;
}

const POLICY = 'the policy asks for a review';
/** Causes of attempts that say nothing of the lead: whoever dialled died, or failed. */
const GRIEFS: readonly (string | null)[] = ['no answer was recorded before the dial deadline', 'an error of ours'];
const NO_CALL: readonly string[] = ['absent', 'not_dialed'];

/**
 * Each lead that ever was under review, once. No event tells of a review that begins, but the history of attempts only
 * grows: an attempt that ended `unknown` sent its lead there, whatever was learned of it later. Of the others the job's
 * reason tells while it is there, and what the client was shown when somebody has resolved it.
 */
export function countReviews(evidence: Evidence): Reviews {
  const { rows } = evidence;
  const revisions = Map.groupBy([...rows.earlier, ...rows.attempts], keyOf);
  const causes: Record<string, number> = {};
  const reviews: Reviews = { total: 0, causes, by_policy: 0 };
  for (const job of rows.jobs) {
    const cause = whyReviewed(job, revisions.get(keyOf(job)) ?? [], evidence);
    if (cause === null) continue;
    if (cause === POLICY) reviews.by_policy += 1;
    else {
      reviews.total += 1;
      causes[cause] = (causes[cause] ?? 0) + 1;
    }
  }
  return reviews;
}

/** What made it one that no policy asks for comes first. Null: it never was under review. */
function whyReviewed(job: JobRow, attempts: readonly AttemptRow[], evidence: Evidence): string | null {
  const unknown = attempts.find(({ outcome }) => outcome === 'unknown');
  if (unknown) return unknown.cause ?? 'no cause';
  const now = job.status === 'needs_review' ? (job.reason ?? 'no cause') : null;
  const shown = evidence.workload.asked.reviews.get(keyOf(job));
  const seen = [now, shown].filter((reason) => typeof reason === 'string');
  if (seen.length > 0) return seen.find((reason) => reason !== POLICY) ?? POLICY;
  // Late evidence has taken it back before anybody looked, or a stop came first: then it was cancelled instead.
  if (job.status === 'cancelled') return null;
  const noCalls = attempts.filter(({ outcome }) => NO_CALL.includes(outcome));
  const fruitless = new Set(noCalls.filter(({ cause }) => GRIEFS.includes(cause)).map(({ attempt_no }) => attempt_no));
  if (fruitless.size >= LIMITS.fruitless_attempts)
    return `given up: ${fruitless.size} dials ended with whoever dialled`;
  const business = evidence.businesses.find(({ business_id }) => business_id === job.business_id);
  return business?.policy.review_always && noCalls.some(({ outcome }) => outcome === 'absent') ? POLICY : null;
}
