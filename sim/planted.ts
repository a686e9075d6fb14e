import type { Edit } from '../mutations/mutant.ts';

/** A mistake that somebody could make in the protocol, which the simulation must find. */
export interface Planted extends Edit {
  name: string;
  /** In a few words. */
  what: string;
}

const DIAL = 'packages/worker/src/dial.ts';
const TEND = 'packages/worker/src/tend.ts';
const CLAIM = 'packages/engine/src/call/claim.ts';
const CLOSE = 'packages/engine/src/call/close.ts';

/** Those of the model's broken variants that transactions one after the other can show, and what its abstraction hides. */
export const PLANTED: readonly Planted[] = [
  {
    name: 'no-deadline',
    what: 'a dial that nobody waits for any more is made all the same',
    file: DIAL,
    find: "else if (clock.monotonicMs() >= attempt.deadline_monotonic_ms || clock.wallMs() >= attempt.deadline_wall_ms)\n          refusedByUs = 'the dial deadline is past';",
    replace: '',
  },
  {
    name: 'monotonic-alone',
    what: 'the deadline is checked on the monotonic clock alone, which stands still on a suspended machine',
    file: DIAL,
    find: ' || clock.wallMs() >= attempt.deadline_wall_ms',
    replace: '',
  },
  {
    name: 'wall-alone',
    what: 'the deadline is checked on the wall clock alone, which can be set back',
    file: DIAL,
    find: 'clock.monotonicMs() >= attempt.deadline_monotonic_ms || ',
    replace: '',
  },
  {
    name: 'resend-on-timeout',
    what: 'a create whose answer is lost is taken for one that was not made',
    file: DIAL,
    find: "return { kind: 'unknown', cause: result.cause };",
    replace: "return { kind: 'not_dialed', cause: result.cause, unreachable: true };",
  },
  {
    name: 'absent-at-once',
    what: 'what the carrier does not list is believed absent without waiting: reclaim puts it straight back',
    file: TEND,
    find: 'if (provable && list_is_whole)',
    replace: 'if (provable)',
  },
  {
    name: 'no-effect-delay',
    what: 'the grace forgets how late a carrier may make a call',
    file: TEND,
    find: 'const grace_ms = effectDelayMs(account, limits) + capabilities.listing_delay_ms',
    replace: 'const grace_ms = capabilities.listing_delay_ms',
  },
  {
    name: 'no-own-clock',
    what: 'the grace is waited on the database’s clock alone, which can be set forward',
    file: TEND,
    find: 'past_deadline_ms > grace_ms && waited_ms > own_ms',
    replace: 'past_deadline_ms > grace_ms',
  },
  {
    name: 'error-is-absence',
    what: 'a list that could not be had is taken for an empty one',
    file: TEND,
    find: "if (listed.kind === 'listed') {",
    replace:
      "if (listed.kind === 'error') Object.assign(listed, { kind: 'listed', calls: [] });\n  if (listed.kind === 'listed') {",
  },
  {
    name: 'narrow-window',
    what: 'a lost call is looked for a minute around its intent, by a clock that can be set by an hour',
    file: TEND,
    find: 'const CLOCK_SKEW_MS = 7_200_000;',
    replace: 'const CLOCK_SKEW_MS = 60_000;',
  },
  {
    name: 'anybodys-call',
    what: 'a call that is another attempt’s is found for this one',
    file: TEND,
    find: '.filter(({ call_id }) => !bound.has(call_id))',
    replace: '',
  },
  {
    name: 'retry-after-stop',
    what: 'a retry ignores that its run was stopped meanwhile',
    file: CLOSE,
    find: "return stopped ? { status: 'cancelled', reason: null, due_us: null } : { status: 'waiting', reason, due_us };",
    replace: "return { status: 'waiting', reason, due_us: stopped && due_us < 0 ? 0 : due_us };",
  },
  {
    name: 'behind-the-cursor',
    what: 'a job that comes back is queued again, and lies behind the cursor',
    file: CLOSE,
    find: "return stopped ? { status: 'cancelled', reason: null, due_us: null } : { status: 'waiting', reason, due_us };",
    replace:
      "return stopped ? { status: 'cancelled', reason: null, due_us: null } : { status: 'queued', reason: null, due_us: null };",
  },
  {
    name: 'final-while-open',
    what: 'a run is made final while attempts of it are open',
    file: CLOSE,
    find: "const done = of('queued') + of('waiting') + of('in_progress') === 0;",
    replace: "const done = of('queued') + of('waiting') === 0;",
  },
  {
    name: 'no-reaper',
    what: 'nobody looks for dials past their deadline',
    file: 'packages/engine/src/call/tend.ts',
    find: "THEN CASE WHEN deadline_us < now_us OR heard_us > ahead_us THEN 'expire' END",
    replace: 'THEN NULL',
  },
  {
    name: 'no-token',
    what: 'evidence is taken for whatever attempt of its lead is open',
    file: 'packages/engine/src/call/record.ts',
    find: 'if (attempt?.token !== key.token) {',
    replace: 'if (attempt === undefined) {',
  },
  {
    name: 'number-twice',
    what: 'a number that is on the line for another run is called beside it',
    file: CLAIM,
    find: 'const busy = others ? await busyNumbers(tx, lease, candidates) : new Set<string>();',
    replace: 'const busy = new Set<string>();\n    void [others, busyNumbers];',
  },
  {
    name: 'line-for-unknown',
    what: 'an attempt of which nobody knows holds no line',
    file: CLAIM,
    find: 'FROM carillon.open_attempts\n     WHERE business_id = $1`',
    replace: "FROM carillon.open_attempts\n     WHERE business_id = $1 AND state <> 'unknown'`",
  },
  {
    name: 'lag-for-ever',
    what: 'after a long stop the pacer keeps its lag, and every dial misses its deadline (a mistake of ours that it found)',
    file: 'packages/worker/src/pacer.ts',
    find: 'Math.min(planned_ms - last.planned_ms, interval_ms)',
    replace: 'planned_ms - last.planned_ms',
  },
];
