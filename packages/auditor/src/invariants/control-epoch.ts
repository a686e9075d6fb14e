import { type JobRecord, type RunEvent, STOPPED_RUNS } from '../rows.ts';
import type { Violation } from '../types.ts';
import { type AuditedRun, isoTime, jobViolation } from './audited.ts';

/** A stretch of a run's life under one control epoch, from the moment of a change on. */
interface Stretch {
  from_us: number;
  control_epoch: number;
  action: string;
  stopped: boolean;
}

/** When the run was paused, resumed and stopped, from the trail. */
export function stretchesOf(events: readonly RunEvent[]): Stretch[] {
  return events
    .filter(({ before_epoch, after_epoch }) => after_epoch !== null && after_epoch !== before_epoch)
    .map(({ at_us, after_epoch, after_status, action }) => ({
      from_us: at_us,
      control_epoch: after_epoch ?? 0,
      action,
      stopped: (STOPPED_RUNS as readonly (string | null)[]).includes(after_status),
    }));
}

/**
 * Invariant 4: each attempt bears the control epoch that its run had when it was committed, and none was committed
 * after a stop. Claims and changes take the run's lock before they read the clock, so their times are in the order in
 * which they happened and nothing has to be tolerated.
 */
export function* controlEpoch(
  audited: AuditedRun,
  stretches: readonly Stretch[],
  job: JobRecord,
): Generator<Violation> {
  const { run } = audited;
  for (const { attempt_no, intent_us, control_epoch } of job.tries) {
    const evidence = { intent_us, control_epoch, run_epoch: run.control_epoch };
    const found = (what: string, more: Record<string, unknown> = {}) =>
      jobViolation(4, audited, job, what, { ...evidence, ...more }, attempt_no);
    if (control_epoch > run.control_epoch) {
      yield found(`was committed under control epoch ${control_epoch}, which its run has not reached`);
      continue;
    }
    // Whoever stops a run raises its epoch: no attempt can bear the last one.
    if (run.cancel_requested && control_epoch === run.control_epoch) {
      yield found('was committed after its run was stopped');
      continue;
    }
    if (audited.isBlurred(intent_us)) continue;
    const then = stretches.findLast(({ from_us }) => from_us <= intent_us);
    if (!then || then.control_epoch <= control_epoch) continue;
    const since = isoTime(then.from_us);
    yield then.stopped
      ? found(`was committed after its run was stopped at ${since}`, { stopped_us: then.from_us })
      : found(`was committed under control epoch ${control_epoch}; it was ${then.control_epoch} since ${since}`, {
          action: then.action,
          since_us: then.from_us,
        });
  }
}
