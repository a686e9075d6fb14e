import type { Equivalent, Mutant } from '../mutant.ts';

const CLAIM = 'packages/engine/src/call/claim.ts';
const CANDIDATES = 'packages/engine/src/call/candidates.ts';
const PACE = 'packages/engine/src/call/pace.ts';
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
    find: ' && tat_us <= options.horizon_us',
    replace: '',
    catcher: { test: LIMITS, title: 'starts at most rate × T + 1 calls' },
  },
  {
    name: 'gcra-clock-set-back',
    what: 'the bound of an arrival time from before the clock was set back',
    file: PACE,
    find: 'if (tat_us > options.horizon_us + interval_us) tat_us = options.now_us;',
    replace: '',
    catcher: { test: LIMITS, title: 'does not stand still for an hour' },
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
];
