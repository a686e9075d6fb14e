import type { Equivalent, Mutant } from '../mutant.ts';

const HEARTBEAT = 'packages/engine/src/run/heartbeat.ts';
const LEASE = 'packages/engine/src/run/lease.ts';
const ROW = 'packages/engine/src/run/row.ts';
const BEHIND = 'packages/engine/test/behind-locks.test.ts';
const FENCES = 'packages/engine/test/fences.test.ts';
const LEASES = 'packages/engine/test/lease.test.ts';
const ORDERS = 'packages/engine/test/orders.test.ts';
const SET_BACK = 'packages/engine/test/clock-set-back.test.ts';

export const leaseMutants: Mutant[] = [
  {
    name: 'run-lock',
    what: 'the lock on the run of everybody who decides',
    file: ROW,
    find: 'WHERE business_id = $1 AND run_id = $2 FOR NO KEY UPDATE',
    replace: 'WHERE business_id = $1 AND run_id = $2',
    catcher: { test: BEHIND, title: 'a decision about a job sees what is settled meanwhile' },
  },
  {
    name: 'lease-run-lock',
    what: 'the lock on a run that is leased: several workers have it',
    file: LEASE,
    find: '\n     FOR NO KEY UPDATE SKIP LOCKED`',
    replace: '`',
    catcher: { test: BEHIND, title: 'a run that somebody has locked is passed at once' },
  },
  {
    name: 'lease-skip-locked',
    what: 'SKIP LOCKED: a worker waits for a run that somebody else works on',
    file: LEASE,
    find: 'FOR NO KEY UPDATE SKIP LOCKED`',
    replace: 'FOR NO KEY UPDATE`',
    catcher: { test: BEHIND, title: 'a run that somebody has locked is passed at once' },
  },
  {
    name: 'lease-status',
    what: 'that only a pending or running run is leased',
    file: LEASE,
    find: `WHERE business_id = $1 AND run_id = $2 AND status IN ('pending', 'running')`,
    replace: 'WHERE business_id = $1 AND run_id = $2',
    catcher: { test: FENCES, title: 'is not given for a run that does not run' },
  },
  {
    name: 'lease-starts-at',
    what: 'that a run is not leased before it starts',
    file: LEASE,
    find: `
       AND (starts_at IS NULL OR starts_at <= now())
       AND (lock_ts`,
    replace: `
       AND (lock_ts`,
    catcher: { test: FENCES, title: 'is not given for a run that starts later' },
  },
  {
    name: 'lease-stale',
    what: 'that a lease which is alive is nobody else’s to take',
    file: LEASE,
    find: "(lock_ts IS NULL OR lock_ts NOT BETWEEN now() - $3 * interval '1 ms' AND now() + interval '2 s')",
    replace: '$3::int > 0',
    catcher: { test: LEASES, title: 'is taken by one of many workers' },
  },
  {
    name: 'lease-stale-future',
    what: 'that a heartbeat of a time to come is as good as none',
    file: LEASE,
    find: "lock_ts NOT BETWEEN now() - $3 * interval '1 ms' AND now() + interval '2 s'",
    replace: "lock_ts < now() - $3 * interval '1 ms'",
    catcher: { test: SET_BACK, title: 'is as good as none' },
  },
  {
    name: 'lease-epoch',
    what: 'that the epoch rises with each lease',
    file: LEASE,
    find: 'lease_epoch = lease_epoch + 1, reclaim_count',
    replace: 'reclaim_count',
    catcher: { test: LEASES, title: 'is taken by one of many workers' },
  },
  {
    name: 'lease-progress-forgotten',
    what: 'that each lease must show progress anew',
    file: LEASE,
    find: 'lease_claimed = false, lease_settled = false,',
    replace: 'lease_claimed = false,',
    catcher: { test: FENCES, title: 'that never finishes anything again fails' },
  },
  {
    name: 'lease-claims-forgotten',
    what: 'that a lease which started nothing is not fruitless',
    file: LEASE,
    find: 'reclaimed && run.lease_claimed ? 1 : 0',
    replace: 'reclaimed ? 1 : 0',
    catcher: { test: FENCES, title: 'that starts nothing in each of many leases goes on' },
  },
  {
    name: 'lease-fruitless',
    what: 'the end of a run whose leases finish nothing',
    file: LEASE,
    find: 'if (fruitless >= limits.fruitless_leases) {',
    replace: 'if (fruitless < 0) {',
    catcher: { test: LEASES, title: 'started calls and finished none, five times' },
  },
  {
    name: 'lease-fruitless-open',
    what: 'that a run with an open attempt is not failed at once',
    file: LEASE,
    find: "run.in_progress === 0 ? 'failed' : 'cancelling'",
    replace: "'failed'",
    catcher: { test: FENCES, title: 'that never finishes anything fails once its last attempt is settled' },
  },
  {
    name: 'discover-held-runs',
    what: 'that held runs are not looked at: they keep free ones waiting',
    file: LEASE,
    find: "(lock_ts IS NULL OR lock_ts NOT BETWEEN now() - $1 * interval '1 ms' AND now() + interval '2 s')) unheld",
    replace: '$1::int > 0) unheld',
    catcher: { test: FENCES, title: 'is found behind runs that others hold' },
  },
  {
    name: 'discover-runs-in-turn',
    what: 'ORDER BY: one run of each business before any business’s second',
    file: LEASE,
    find: 'ORDER BY turn, run_id LIMIT $2',
    replace: 'LIMIT $2',
    catcher: { test: LEASES, title: 'goes round the businesses' },
  },
  {
    name: 'workers-of-a-time-to-come',
    what: 'that a worker seen in the future does not count among the living',
    file: LEASE,
    find: `WHERE seen_at BETWEEN now() - $1 * interval '1 ms' AND now() + interval '2 s'\``,
    replace: "WHERE seen_at > now() - $1 * interval '1 ms'`",
    catcher: { test: SET_BACK, title: 'does not count it among the living' },
  },
  {
    name: 'heartbeat-worker',
    what: 'that a worker renews its own leases alone',
    file: HEARTBEAT,
    find: 'AND run_id = $2 AND locked_by_worker = $3\n             AND lock_ts',
    replace: 'AND run_id = $2 AND $3::text IS NOT NULL\n             AND lock_ts',
    catcher: { test: FENCES, title: 'does not renew the lease of the worker that took over' },
  },
  {
    name: 'heartbeat-expired',
    what: 'that an expired lease is not revived',
    file: HEARTBEAT,
    find: "lock_ts BETWEEN now() - $4 * interval '1 ms' AND now() + interval '2 s'",
    replace: "$4::int > 0 AND lock_ts <= now() + interval '2 s'",
    catcher: { test: LEASES, title: 'that expired is not revived' },
  },
  {
    name: 'heartbeat-future',
    what: 'that a lease of a time to come is not renewed',
    file: HEARTBEAT,
    find: "lock_ts BETWEEN now() - $4 * interval '1 ms' AND now() + interval '2 s'",
    replace: "lock_ts >= now() - $4 * interval '1 ms'",
    catcher: { test: SET_BACK, title: 'is as good as none' },
  },
  {
    name: 'heartbeat-epoch',
    what: 'that a lease of an earlier epoch is lost',
    file: HEARTBEAT,
    find: 'epochs.get(lease.run_id) !== lease.lease_epoch',
    replace: '!epochs.has(lease.run_id)',
    catcher: { test: FENCES, title: 'tells a worker that has taken the run anew which lease is lost' },
  },
  {
    name: 'heartbeat-order',
    what: 'that heartbeats lock runs in the order in which everybody does',
    file: HEARTBEAT,
    find: 'mine.toSorted((a, b) => a.run_id - b.run_id)',
    replace: 'mine',
    catcher: { test: ORDERS, title: 'runs are locked in the order of their keys by heartbeats' },
  },
  {
    name: 'release-worker',
    what: 'that a worker gives back its own leases alone',
    file: HEARTBEAT,
    find: 'AND locked_by_worker = $3 AND lease_epoch = $4',
    replace: 'AND $3::text IS NOT NULL AND lease_epoch = $4',
    catcher: { test: FENCES, title: 'is given back by its own worker alone' },
  },
  {
    name: 'release-epoch',
    what: 'that a worker does not give back a lease that it took anew',
    file: HEARTBEAT,
    find: 'AND locked_by_worker = $3 AND lease_epoch = $4',
    replace: 'AND locked_by_worker = $3 AND $4::int > 0',
    catcher: { test: FENCES, title: 'is not given back by the loop that lost it' },
  },
];

export const leaseEquivalents: Equivalent[] = [
  {
    file: LEASE,
    what: 'the state and the start of runs that are looked for',
    why: 'whoever leases one looks at both again under its lock; here they save asking in vain',
  },
];
