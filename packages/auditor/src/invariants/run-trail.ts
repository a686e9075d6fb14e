import { FINAL_RUNS, type RunEvent } from '../rows.ts';
import type { Violation } from '../types.ts';
import { type AuditedRun, isoTime, runViolation } from './audited.ts';

/**
 * Invariant 8: the trail of a run is a chain without a gap, from its creation to the state that its row is in: each
 * change begins with the state and the control epoch with which the one before it ended, and bears who made it and when.
 * Of a run that is older than the trail, only what was changed since is asked for.
 */
export function* runTrail(audited: AuditedRun): Generator<Violation> {
  const { run, events, trail_since_us } = audited;
  const older = run.created_us < trail_since_us;
  const [first] = events;
  if (!first) {
    const untouched = older && (run.ended_us === null ? run.status === 'draft' : run.ended_us < trail_since_us);
    if (!untouched)
      yield runViolation(8, audited, `is ${run.status}, and the trail tells of none of its changes`, {
        status: run.status,
      });
    return;
  }
  if (!older && (first.before_status !== null || !first.action.endsWith('.created')))
    yield runViolation(8, audited, `begins in the trail with "${first.action}": its creation is missing`, named(first));
  let before: RunEvent | null = null;
  for (const event of events) {
    if (before && (event.before_status !== before.after_status || event.before_epoch !== before.after_epoch))
      yield runViolation(
        8,
        audited,
        `was ${shown(before.after_status, before.after_epoch)} after "${before.action}" and ` +
          `${shown(event.before_status, event.before_epoch)} before "${event.action}" at ${isoTime(event.at_us)}: ` +
          'who changed it in between is not on record',
        { after: named(before), before: named(event) },
      );
    if (before && (FINAL_RUNS as readonly (string | null)[]).includes(before.after_status))
      yield runViolation(8, audited, `had ended, and was changed by "${event.action}"`, named(event));
    if (event.actor.trim() === '' || event.actor === 'unknown')
      yield runViolation(8, audited, `was changed by nobody: "${event.action}" has no actor`, named(event));
    before = event;
  }
  if (before && (before.after_status !== run.status || before.after_epoch !== run.control_epoch))
    yield runViolation(
      8,
      audited,
      `is ${shown(run.status, run.control_epoch)}, and the last change on record, "${before.action}", left it ` +
        shown(before.after_status, before.after_epoch),
      named(before),
    );
}

function named({ event_id, action, at_us }: RunEvent): Record<string, unknown> {
  return { event_id, action, at_us };
}

function shown(status: string | null, control_epoch: number | null): string {
  return `${status ?? 'in no state'} (control epoch ${control_epoch ?? 'none'})`;
}
