import type { JobRecord } from '../rows.ts';
import type { Violation } from '../types.ts';
import { type AuditedRun, isoTime, jobViolation } from './audited.ts';

/**
 * Invariant 7, as far as there are gates: no attempt before the run's starts_at, none from its ends_at on. Weekly
 * windows, do-not-call lists and contact budgets do not exist yet, so there is nothing of them to check.
 */
export function* runWindow(audited: AuditedRun, job: JobRecord): Generator<Violation> {
  const { starts_us, ends_us } = audited.run;
  if (starts_us === null && ends_us === null) return;
  for (const { attempt_no, intent_us } of job.tries) {
    if (starts_us !== null && intent_us < starts_us)
      yield jobViolation(
        7,
        audited,
        job,
        `was committed before the run was to start, at ${isoTime(starts_us)}`,
        { intent_us, starts_us },
        attempt_no,
      );
    if (ends_us !== null && intent_us >= ends_us)
      yield jobViolation(
        7,
        audited,
        job,
        `was committed after the run was to end, at ${isoTime(ends_us)}`,
        { intent_us, ends_us },
        attempt_no,
      );
  }
}
