import type { Equivalent, Mutant } from '../mutant.ts';

const ATTEMPT = 'packages/engine/src/call/attempt.ts';
const CLOSE = 'packages/engine/src/call/close.ts';
const RECORD = 'packages/engine/src/call/record.ts';
const BEHIND = 'packages/engine/test/behind-locks.test.ts';
const BREAKER = 'packages/engine/test/lane-breaker.test.ts';
const EVIDENCE = 'packages/engine/test/late-evidence.test.ts';
const FENCES = 'packages/engine/test/fences.test.ts';
const GUARDS = 'packages/engine/test/guards.test.ts';
const LEASE = 'packages/engine/test/lease.test.ts';
const ORDERS = 'packages/engine/test/orders.test.ts';

export const settleMutants: Mutant[] = [
  {
    name: 'record-token',
    what: 'the attempt’s token: whoever knows its number is believed',
    file: RECORD,
    find: 'if (attempt?.token !== key.token) {',
    replace: 'if (attempt === undefined) {',
    catcher: { test: EVIDENCE, title: 'without the attempt’s token is not believed' },
  },
  {
    name: 'record-run-lock',
    what: 'the run’s lock of whoever settles: a stop that commits meanwhile is not seen',
    file: RECORD,
    find: 'WHERE business_id = $1 AND run_id = $2 FOR NO KEY UPDATE',
    replace: 'WHERE business_id = $1 AND run_id = $2',
    catcher: { test: BEHIND, title: 'the end of an attempt obeys a stop that comes meanwhile' },
  },
  {
    name: 'record-attempt-lock',
    what: 'the lock on the attempts',
    file: RECORD,
    find: 'ORDER BY business_id, run_id, seq FOR UPDATE',
    replace: 'ORDER BY business_id, run_id, seq',
    catcher: { test: BEHIND, title: 'evidence does not write over what is recorded meanwhile' },
  },
  {
    name: 'record-attempt-order',
    what: 'ORDER BY: attempts are locked in the order of their keys',
    file: RECORD,
    find: 'ORDER BY business_id, run_id, seq FOR UPDATE',
    replace: 'FOR UPDATE',
    catcher: { test: ORDERS, title: 'attempts are locked in the order of their keys by evidence' },
  },
  {
    name: 'evidence-unknown-state',
    what: 'that only an attempt that is being dialled becomes unknown',
    file: ATTEMPT,
    find: "if (attempt.state === 'dialing')\n        return {",
    replace: "if (attempt.state !== 'unknown')\n        return {",
    catcher: { test: FENCES, title: 'of a lost answer says nothing against a call that is known' },
  },
  {
    name: 'evidence-absent-state',
    what: 'that only an unknown attempt can be absent',
    file: ATTEMPT,
    find: "if (attempt.state !== 'unknown') return { kind: 'nothing' };",
    replace: '',
    catcher: { test: FENCES, title: 'of absence is not believed of an attempt that is being dialled' },
  },
  {
    name: 'evidence-known-call',
    what: 'that a known call is not undone by a refusal',
    file: ATTEMPT,
    find: "if (attempt.call_id !== null) return { kind: 'nothing' };",
    replace: '',
    catcher: { test: EVIDENCE, title: 'of a refusal never undoes a call that is known' },
  },
  {
    name: 'evidence-second-call',
    what: 'that a callback with another call id shows a second call',
    file: ATTEMPT,
    find: `  if (attempt.call_id !== null && attempt.call_id !== call.call_id)
    return { kind: 'second_call', call_id: call.call_id };`,
    replace: '',
    catcher: { test: FENCES, title: 'that ends a second call under one token leaves the first as it is' },
  },
  {
    name: 'evidence-second-accepted',
    what: 'that an answer with another call id shows a second call',
    file: ATTEMPT,
    find: "  if (attempt.call_id !== null && attempt.call_id !== to.call_id) return { kind: 'second_call', call_id: to.call_id };",
    replace: '',
    catcher: { test: FENCES, title: 'of an answer with another call id has that call hung up' },
  },
  {
    name: 'evidence-forward',
    what: 'that an attempt only moves forward',
    file: ATTEMPT,
    find: 'state: forward ? to.state : attempt.state,',
    replace: 'state: to.state,',
    catcher: { test: EVIDENCE, title: 'is taken in any order' },
  },
  {
    name: 'job-end-stopping-run',
    what: 'that a stopping run makes nobody wait',
    file: CLOSE,
    find: "STOPPING.includes(run.status) || attempt.hang_up === 'job'",
    replace: "attempt.hang_up === 'job'",
    catcher: { test: EVIDENCE, title: 'hangs up every open attempt' },
  },
  {
    name: 'job-end-cancelled-job',
    what: 'that a job that was told to stop does not wait',
    file: CLOSE,
    find: "STOPPING.includes(run.status) || attempt.hang_up === 'job'",
    replace: 'STOPPING.includes(run.status)',
    catcher: { test: 'packages/engine/test/run-times.test.ts', title: 'is cancelled by itself' },
  },
  {
    name: 'job-end-review-always',
    what: 'that a policy may ask for a review of what is absent',
    file: CLOSE,
    find: "closing.outcome === 'absent' && run.policy.review_always && !stopped",
    replace: 'false',
    catcher: { test: FENCES, title: 'that is absent goes to review where the policy asks for it' },
  },
  {
    name: 'job-end-retries',
    what: 'how often a lead is called again',
    file: CLOSE,
    find: 'if (retry && calls_before < retry.times)',
    replace: 'if (retry)',
    catcher: { test: EVIDENCE, title: 'calls again after the outcomes it names, as often as it says' },
  },
  {
    name: 'job-end-calls-counted',
    what: 'that only calls that took place count against the retries',
    file: CLOSE,
    find: `
       AND outcome IN ('completed', 'busy', 'no_answer', 'voicemail', 'failed', 'cancelled')`,
    replace: '',
    catcher: { test: FENCES, title: 'that was absent does not count against the retries' },
  },
  {
    name: 'settle-job-status',
    what: 'the expected state of the jobs that are settled',
    file: CLOSE,
    find: "seq + 0 = ANY ($5) AND status = 'in_progress'`",
    replace: 'seq + 0 = ANY ($5)`',
    catcher: { test: GUARDS, title: 'a settlement' },
  },
  {
    name: 'settle-open-attempt',
    what: 'that a run with an open attempt is not final',
    file: CLOSE,
    find: "of('queued') + of('waiting') + of('in_progress') === 0",
    replace: "of('queued') + of('waiting') === 0",
    catcher: { test: 'packages/engine/test/run-lifecycle.test.ts', title: 'calls each lead once' },
  },
  {
    name: 'settle-waiting-job',
    what: 'that a run with a waiting job is not final',
    file: CLOSE,
    find: "of('queued') + of('waiting') + of('in_progress') === 0",
    replace: "of('queued') + of('in_progress') === 0",
    catcher: { test: EVIDENCE, title: 'that is proven absent is called again' },
  },
  {
    name: 'settle-ended-once',
    what: 'that a run ends once',
    file: CLOSE,
    find: 'done && run.ended_at === null ?',
    replace: 'done ?',
    catcher: { test: 'packages/engine/test/resolve.test.ts', title: 'is left for a follow-up run' },
  },
  {
    name: 'settle-fruitless-run',
    what: 'that a run without progress ends as failed',
    file: CLOSE,
    find: "return run.fruitless_leases >= limits.fruitless_leases ? 'failed' : 'cancelled';",
    replace: "return 'cancelled';",
    catcher: { test: FENCES, title: 'that never finishes anything fails once its last attempt is settled' },
  },
  {
    name: 'settle-progress',
    what: 'that a settlement is progress of its lease',
    file: CLOSE,
    find: 'lease_settled = lease_settled OR $13,',
    replace: 'lease_settled = lease_settled AND $13,',
    catcher: { test: LEASE, title: 'is not refused to a run that finishes something in between' },
  },
  {
    name: 'settle-lease-ends',
    what: 'that the lease ends with the run',
    file: CLOSE,
    find: 'locked_by_worker = CASE WHEN $12 THEN NULL ELSE locked_by_worker END,',
    replace: '',
    catcher: { test: 'packages/engine/test/run-lifecycle.test.ts', title: 'calls each lead once' },
  },
  {
    name: 'counters-row-count',
    what: 'the expected count of one row where a run’s counters move',
    file: CLOSE,
    find: `      options.gave_up === true,
    ],
    1,
  );`,
    replace: `      options.gave_up === true,
    ],
  );`,
    catcher: { test: GUARDS, title: 'the counters of a run that is not there' },
  },
  {
    name: 'history-row-count',
    what: 'the count of the open attempts that go to the history',
    file: CLOSE,
    find: '    closed.length,\n',
    replace: '',
    catcher: { test: GUARDS, title: 'an attempt that is open no longer' },
  },
  {
    name: 'halt-of-a-person',
    what: 'that a halt by a person outlasts a refusal',
    file: CLOSE,
    find: ' AND (halted_reason IS NULL OR halted_until_us IS NOT NULL)',
    replace: '',
    catcher: { test: FENCES, title: 'that a person must resume is not opened by a refusal' },
  },
  {
    name: 'halt-lane-lock',
    what: 'the lock on the lane of whoever halts it: the refusal before is not seen',
    file: CLOSE,
    find: `
       FOR NO KEY UPDATE)
     UPDATE carillon.lanes l SET refusals`,
    replace: `)
     UPDATE carillon.lanes l SET refusals`,
    catcher: { test: BEHIND, title: 'a refusal sees the refusal that comes meanwhile' },
  },
  {
    name: 'halt-doubles',
    what: 'that each refusal in a row doubles the halt',
    file: CLOSE,
    find: 'least($5 * power(2, lane.refusals_in_a_row), $6)',
    replace: 'least($5 * power(2, 0 * lane.refusals_in_a_row), $6)',
    catcher: { test: BEHIND, title: 'a refusal sees the refusal that comes meanwhile' },
  },
  {
    name: 'trust-refused-lane',
    what: 'that only a lane that was refused is trusted again',
    file: RECORD,
    find: ' AND refusals_in_a_row > 0',
    replace: '',
    catcher: { test: BREAKER, title: 'has in the trail each time' },
  },
  {
    name: 'trust-halt-of-a-person',
    what: 'that a halt by a person outlasts an accepted call',
    file: RECORD,
    find: '\n         AND (halted_reason IS NULL OR halted_until_us IS NOT NULL) FOR NO KEY UPDATE)',
    replace: ' FOR NO KEY UPDATE)',
    catcher: { test: FENCES, title: 'that a person must resume is not closed by an accepted call' },
  },
  {
    name: 'trust-lane-lock',
    what: 'the lock on the lane of whoever trusts it: a halt that commits meanwhile is undone',
    file: RECORD,
    find: '(halted_reason IS NULL OR halted_until_us IS NOT NULL) FOR NO KEY UPDATE)',
    replace: '(halted_reason IS NULL OR halted_until_us IS NOT NULL))',
    catcher: { test: BEHIND, title: 'an accepted call leaves a lane halted that a person halts meanwhile' },
  },
];

const FOLDED =
  'PostgreSQL never folds a WITH query that locks rows into the statement around it; its manual does not promise so, and the word does';

export const settleEquivalents: Equivalent[] = [
  { file: CLOSE, what: 'MATERIALIZED of the lane that is locked to be halted', why: FOLDED },
  { file: RECORD, what: 'MATERIALIZED of the lane that is locked to be trusted', why: FOLDED },
  {
    file: RECORD,
    what: 'the expected count of the attempts that are written',
    why: 'the same transaction has locked them',
  },
];
