import type { Equivalent, Mutant } from '../mutant.ts';

const CLAIM = 'packages/engine/src/call/claim.ts';
const CANDIDATES = 'packages/engine/src/call/candidates.ts';
const PACE = 'packages/engine/src/call/pace.ts';
const SET_BACK = 'packages/engine/src/run/set-back.ts';
const CLOCK = 'packages/engine/test/clock-set-back.test.ts';
const FENCES = 'packages/engine/test/fences.test.ts';
const LIMITS = 'packages/engine/test/claim-limits.test.ts';
const ORDERS = 'packages/engine/test/orders.test.ts';
const PLANS = 'packages/engine/test/plans.test.ts';
const SMALL = 'are right on a connection that made them while the tables were small';

export const pickMutants: Mutant[] = [
  {
    name: 'claim-lane-pace',
    what: 'that the lane remembers its last start',
    file: CLAIM,
    find: 'paceLane(tx, lease, lane, attempts.at(-1)?.start_us);',
    replace: '',
    catcher: { test: FENCES, title: 'keeps its distance from the claim before it' },
  },
  {
    name: 'gcra-arrival-time',
    what: 'GCRA: the arrival time that the start before it left',
    file: PACE,
    find: 'Math.max(options.tat_us, options.now_us)',
    replace: 'options.now_us',
    catcher: { test: LIMITS, title: 'starts at most rate × T + 1 calls' },
  },
  {
    name: 'gcra-interval',
    what: 'GCRA: the distance between two starts',
    file: PACE,
    find: '    tat_us += interval_us;',
    replace: '',
    catcher: { test: LIMITS, title: 'starts at most rate × T + 1 calls' },
  },
  {
    name: 'gcra-horizon',
    what: 'that a claim takes only what may start within its horizon',
    file: PACE,
    find: ' && tat_us <= Math.min(ahead_us, options.ends_us)',
    replace: '',
    catcher: { test: LIMITS, title: 'starts at most rate × T + 1 calls' },
  },
  {
    name: 'gcra-clock-set-back',
    what: 'the bound of an arrival time from before the clock was set back',
    file: PACE,
    find: 'if (tat_us > ahead_us + interval_us) tat_us = options.now_us;',
    replace: '',
    catcher: { test: LIMITS, title: 'does not stand still for an hour' },
  },
  {
    name: 'gcra-end-of-run',
    what: 'that the end of one run does not make another’s starts look like those of a clock set back',
    file: PACE,
    find: 'if (tat_us > ahead_us + interval_us) tat_us = options.now_us;',
    replace: 'if (tat_us > Math.min(ahead_us, options.ends_us) + interval_us) tat_us = options.now_us;',
    catcher: { test: LIMITS, title: 'starts at most rate × T + 1 calls' },
  },
  {
    name: 'due-now',
    what: 'that a waiting job is not called before it is due',
    file: CANDIDATES,
    find: 'due_us > 0 AND due_us <= $3 AND (reason',
    replace: 'due_us > 0 AND $3::bigint > 0 AND (reason',
    catcher: { test: FENCES, title: 'does not call who waits for later' },
  },
  {
    name: 'due-clock-set-back',
    what: 'jobs that were told to wait before the clock was set back',
    file: 'packages/engine/src/call/claim.ts',
    find: 'if (exhausted && run.waiting > 0) await bringForwardSetBack(tx, run, now_us);',
    replace: '',
    catcher: {
      test: 'packages/engine/test/clock-set-back.test.ts',
      title: 'is due at once where nothing makes it wait',
    },
  },
  {
    name: 'due-order',
    what: 'ORDER BY: the longest due first',
    file: CANDIDATES,
    find: 'ORDER BY due_us, seq LIMIT $4) s',
    replace: 'LIMIT $4) s',
    catcher: { test: ORDERS, title: 'takes the longest due first' },
  },
  {
    name: 'fresh-order',
    what: 'ORDER BY of the fresh jobs: the cursor passes whom it has not seen',
    file: CANDIDATES,
    find: `AND j.seq < $3 + $4
  ORDER BY j.seq\`;`,
    replace: 'AND j.seq < $3 + $4`;',
    catcher: { test: ORDERS, title: 'passes nobody over' },
  },
  {
    name: 'due-partial-index',
    what: '`due_us > 0`, which the schedule’s index asks for',
    file: CANDIDATES,
    find: 'due_us > 0 AND due_us <= $3',
    replace: 'due_us <= $3',
    catcher: { test: PLANS, title: SMALL },
  },
  {
    name: 'next-due-partial-index',
    what: '`due_us > 0` in the question when the next is due',
    file: CANDIDATES,
    find: 'AND due_us > 0 AND (reason = $3) = $4 ORDER BY due_us LIMIT 1',
    replace: 'AND (reason = $3) = $4 ORDER BY due_us LIMIT 1',
    catcher: { test: PLANS, title: SMALL },
  },
  {
    name: 'due-job-offset',
    what: 'OFFSET 0 of the due job’s look-up',
    file: CANDIDATES,
    find: 'seq = s.seq OFFSET 0) j',
    replace: 'seq = s.seq) j',
    catcher: { test: PLANS, title: 'the plans of the hot statements' },
  },
  {
    name: 'jobs-by-stretch',
    what: 'that numbers far apart are looked up in stretches',
    file: 'packages/engine/src/call/stretches.ts',
    find: 'before === undefined || seq - before > GAP_JOBS',
    replace: 'before === undefined',
    catcher: { test: FENCES, title: 'numbers that lie far apart are looked up in stretches' },
  },
  {
    name: 'claim-job-sum',
    what: '`seq + 0`: a sum can’t be looked up in an index',
    file: CLAIM,
    find: "AND seq + 0 = ANY ($5) AND status IN ('queued', 'waiting')",
    replace: "AND seq = ANY ($5) AND status IN ('queued', 'waiting')",
    catcher: { test: PLANS, title: 'the plans of the hot statements' },
  },
  {
    name: 'probe-order',
    what: 'that a refused lane is probed with whoever was tried least',
    file: CLAIM,
    find: 'probing ? [...fresh, ...due.toSorted((a, b) => a.attempts - b.attempts)] : [...due, ...fresh]',
    replace: 'probing ? [...due, ...fresh] : [...due, ...fresh]',
    catcher: { test: 'packages/engine/test/lane-breaker.test.ts', title: 'is probed with whoever was tried least' },
  },
  {
    name: 'next-due-order',
    what: 'ORDER BY of the question when the next is due',
    file: CANDIDATES,
    find: 'AND (reason = $3) = $4 ORDER BY due_us LIMIT 1`',
    replace: 'AND (reason = $3) = $4 LIMIT 1`',
    catcher: { test: ORDERS, title: 'who is due next is asked of all who wait' },
  },
  {
    name: 'set-back-first',
    what: 'the look at the first of those that wait, whether it lies too far ahead',
    file: SET_BACK,
    find: 'due_us > 0 ORDER BY due_us LIMIT 1)',
    replace: 'due_us > 0 ORDER BY due_us DESC LIMIT 1)',
    catcher: { test: CLOCK, title: 'those that wait for longer than anything may are due' },
  },
  {
    name: 'set-back-last',
    what: 'the look at the last of them',
    file: SET_BACK,
    find: 'due_us > 0 ORDER BY due_us DESC LIMIT 1)',
    replace: 'due_us > 0 ORDER BY due_us LIMIT 1)',
    catcher: { test: CLOCK, title: 'those that wait for longer than anything may are due' },
  },
  {
    name: 'set-back-too-far',
    what: 'that only those are brought forward which lie too far ahead',
    file: SET_BACK,
    find: 'AND due_us > CASE WHEN reason = $3 THEN $4::bigint ELSE $5::bigint END + $7::bigint`',
    replace: 'AND $5::bigint + $7::bigint > 0`',
    catcher: { test: CLOCK, title: 'those that wait for longer than anything may are due' },
  },
  {
    name: 'set-back-retry-waits',
    what: 'that a retry which is brought forward waits as long as its policy says',
    file: SET_BACK,
    find: 'SET due_us = CASE WHEN reason = $3 THEN $4::bigint ELSE $6::bigint END',
    replace: 'SET due_us = $6::bigint',
    catcher: { test: CLOCK, title: 'waits for its next try as long as its policy says' },
  },
  {
    name: 'stretches-sorted',
    what: 'that the numbers are sorted before they are cut into stretches',
    file: 'packages/engine/src/call/stretches.ts',
    find: 'seqs.toSorted((a, b) => a - b)',
    replace: 'seqs',
    catcher: { test: FENCES, title: 'numbers that lie far apart are looked up in stretches' },
  },
];

export const pickEquivalents: Equivalent[] = [
  {
    file: CANDIDATES,
    what: 'OFFSET 0 of the lead’s look-up',
    why: 'the logins’ own settings (no sequential scans) keep the plan right in every state that a test makes; it stays for a server where somebody has changed them',
  },
  {
    file: CANDIDATES,
    what: 'the outer ORDER BY of the due jobs',
    why: 'what follows depends row by row on the ordered list (LATERAL), and PostgreSQL has only the nested loop for it, which keeps the order; SQL promises none, so it is asked for',
  },
  {
    file: SET_BACK,
    what: 'the look whether the first or the last of those that wait lies too far ahead',
    why: 'the statement behind it says the same of each row; the look saves reading all that wait',
  },
];
