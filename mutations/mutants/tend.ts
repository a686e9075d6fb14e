import type { Equivalent, Mutant } from '../mutant.ts';

const RECONCILE = 'packages/engine/src/call/reconcile.ts';
const TEND = 'packages/engine/src/call/tend.ts';
const UNWANTED = 'packages/engine/src/call/unwanted.ts';
const BEHIND = 'packages/engine/test/behind-locks.test.ts';
const EVIDENCE = 'packages/engine/test/late-evidence.test.ts';
const FENCES = 'packages/engine/test/fences.test.ts';
const NOW = 'packages/engine/test/reconcile.test.ts';
const ORDERS = 'packages/engine/test/orders.test.ts';
const SET_BACK = 'packages/engine/test/clock-set-back.test.ts';

export const tendMutants: Mutant[] = [
  {
    name: 'expire-found-past-deadline',
    what: 'the dial deadline of attempts that are looked for',
    file: TEND,
    find: 'CASE WHEN deadline_us < now_us OR heard_us > ahead_us THEN',
    replace: 'CASE WHEN true THEN',
    catcher: { test: FENCES, title: 'is nobody’s errand before its deadline' },
  },
  {
    name: 'expire-found-clock-set-back',
    what: 'attempts of a time to come among those whose deadline is past',
    file: TEND,
    find: 'deadline_us < now_us OR heard_us > ahead_us THEN',
    replace: 'deadline_us < now_us THEN',
    catcher: { test: SET_BACK, title: 'becomes unknown though its deadline seems to lie ahead' },
  },
  {
    name: 'reconcile-found-in-turn',
    what: 'the time between two questions about an unknown attempt',
    file: TEND,
    find: "CASE WHEN asked_us < now_us - $1::bigint * 1000 OR asked_us > ahead_us THEN 'reconcile' END",
    replace: "CASE WHEN $1::bigint >= 0 THEN 'reconcile' END",
    catcher: { test: NOW, title: 'has workers ask at once' },
  },
  {
    name: 'poll-found-in-turn',
    what: 'the silence after which a live call is asked about',
    file: TEND,
    find: 'greatest(heard_us, asked_us) < now_us - $3::bigint * 1000 OR',
    replace: '$3::bigint >= 0 OR',
    catcher: { test: NOW, title: 'has workers ask at once' },
  },
  {
    name: 'errands-order',
    what: 'ORDER BY: the attempt that nobody has asked about for longest comes first',
    file: TEND,
    find: 'WHERE errand IS NOT NULL ORDER BY asked_us LIMIT $4',
    replace: 'WHERE errand IS NOT NULL LIMIT $4',
    catcher: { test: ORDERS, title: 'is tended first that nobody has asked about for longest' },
  },
  {
    name: 'turn-taken',
    what: 'that a turn is taken once',
    file: TEND,
    find: 'AND (asked_us < $5 OR asked_us > $4::bigint + $6) RETURNING *',
    replace: 'AND ($5::bigint + $6::bigint) IS NOT NULL RETURNING *',
    catcher: { test: NOW, title: 'has workers ask at once' },
  },
  {
    name: 'turn-of-a-time-to-come',
    what: 'that a turn taken in the future is none',
    file: TEND,
    find: '(asked_us < $5 OR asked_us > $4::bigint + $6)',
    replace: '(asked_us < $5 AND $6::bigint > 0)',
    catcher: { test: SET_BACK, title: 'is reconciled, polled and hung up' },
  },
  {
    name: 'expire-state',
    what: 'that only an attempt that is being dialled expires',
    file: TEND,
    find: " AND state = 'dialing'\n",
    replace: '\n',
    catcher: { test: EVIDENCE, title: 'becomes unknown past its deadline' },
  },
  {
    name: 'expire-deadline',
    what: 'the dial deadline where attempts become unknown',
    file: TEND,
    find: 'AND (deadline_us < $4 OR heard_us > $4::bigint + $5)',
    replace: 'AND $4::bigint + $5::bigint > 0',
    catcher: { test: NOW, title: 'leaves what is being dialled' },
  },
  {
    name: 'expire-lock',
    what: 'the lock on an attempt that expires: an answer that is recorded meanwhile is forgotten',
    file: TEND,
    find: 'ORDER BY run_id, seq FOR UPDATE)',
    replace: 'ORDER BY run_id, seq)',
    catcher: { test: BEHIND, title: 'the reaper of dialling leaves an attempt that is answered meanwhile' },
  },
  {
    name: 'expire-order',
    what: 'ORDER BY: attempts expire in the order of their keys',
    file: TEND,
    find: 'ORDER BY run_id, seq FOR UPDATE)',
    replace: 'FOR UPDATE)',
    catcher: { test: ORDERS, title: 'attempts are locked in the order of their keys by the reaper' },
  },
  {
    name: 'bound-history',
    what: 'call ids in history, among those that belong to others',
    file: TEND,
    find: 'AND carrier_account_id = $2) a',
    replace: 'AND carrier_account_id = $2 AND false) a',
    catcher: { test: FENCES, title: 'is none that another attempt to the lead has had' },
  },
  {
    name: 'bound-open',
    what: 'call ids of open attempts, among those that belong to others',
    file: TEND,
    find: 'AND carrier_account_id = $2 AND call_id = ANY ($3)\n',
    replace: 'AND carrier_account_id = $2 AND call_id = ANY ($3) AND false\n',
    catcher: { test: FENCES, title: 'is none that another attempt to the lead has had' },
  },
  {
    name: 'bound-unwanted',
    what: 'call ids that nobody wants, among those that belong to others',
    file: TEND,
    find: 'AND call_id = l.call_id) u',
    replace: 'AND call_id = l.call_id AND false) u',
    catcher: {
      test: 'packages/engine/test/late-evidence-twice.test.ts',
      title: 'belongs to the older attempt, and is not found as that of the newer one',
    },
  },
  {
    name: 'bound-account',
    what: 'the account of a call that is looked for by its id: another carrier may count in the same way',
    file: TEND,
    find: 'AND call_id = l.call_id AND carrier_account_id = $2) a',
    replace: 'AND call_id = l.call_id) a',
    catcher: { test: FENCES, title: 'that is another carrier’s, by whose count it has the same id' },
  },
  {
    name: 'reconcile-now-lately',
    what: 'that an attempt is not asked about again a moment later',
    file: RECONCILE,
    find: " AND state <> 'dialing' AND asked_us < $3",
    replace: " AND state <> 'dialing' AND $3::bigint > 0",
    catcher: { test: NOW, title: 'has workers ask at once' },
  },
  {
    name: 'reconcile-now-dialing',
    what: 'that what is being dialled is not asked about',
    file: RECONCILE,
    find: " AND state <> 'dialing' AND asked_us < $3",
    replace: ' AND asked_us < $3',
    catcher: { test: NOW, title: 'leaves what is being dialled' },
  },
  {
    name: 'reconcile-now-lock',
    what: 'FOR UPDATE SKIP LOCKED: a reconciliation waits for what is being settled',
    file: RECONCILE,
    find: ' FOR UPDATE SKIP LOCKED)',
    replace: ')',
    catcher: { test: BEHIND, title: 'a reconciliation passes what is being settled' },
  },
  {
    name: 'reconcile-now-skip-locked',
    what: 'SKIP LOCKED alone',
    file: RECONCILE,
    find: 'FOR UPDATE SKIP LOCKED)',
    replace: 'FOR UPDATE)',
    catcher: { test: BEHIND, title: 'a reconciliation passes what is being settled' },
  },
  {
    name: 'unwanted-once',
    what: 'ON CONFLICT: a call that nobody wants shows up twice',
    file: UNWANTED,
    find: '\n     ON CONFLICT (business_id, carrier_account_id, call_id) DO NOTHING`',
    replace: '`',
    catcher: { test: FENCES, title: 'that shows a second call again is no error' },
  },
  {
    name: 'unwanted-over',
    what: 'that a call which is over is not hung up again',
    file: UNWANTED,
    find: 'WHERE over_at IS NULL AND (asked_us',
    replace: 'WHERE (asked_us',
    catcher: { test: FENCES, title: 'is not taken again once it is over, though many are' },
  },
  {
    name: 'unwanted-turn',
    what: 'that the turn to hang up a call is taken once',
    file: UNWANTED,
    find: `
           AND (asked_us < (extract(epoch FROM now()) * 1000000)::bigint - $4::bigint * 1000
             OR asked_us > (extract(epoch FROM now()) * 1000000)::bigint + $5::bigint)`,
    replace: ' AND $4::bigint + $5::bigint > 0',
    catcher: { test: BEHIND, title: 'a call that nobody wants is taken by one of two workers' },
  },
  {
    name: 'unwanted-over-turn',
    what: 'that no turn is taken for a call that is over meanwhile',
    file: UNWANTED,
    find: 'AND call_id = $3 AND over_at IS NULL',
    replace: 'AND call_id = $3',
    catcher: { test: BEHIND, title: 'a call that is over meanwhile is nobody’s to hang up' },
  },
  {
    name: 'unwanted-order',
    what: 'ORDER BY: the call that nobody has tried to end for longest comes first',
    file: UNWANTED,
    find: '\n     ORDER BY asked_us LIMIT $2`',
    replace: '\n     LIMIT $2`',
    catcher: { test: ORDERS, title: 'is hung up first that nobody has tried to end for longest' },
  },
  {
    name: 'forgotten-lane-lock',
    what: 'the lock on the lane of a forgotten call',
    file: UNWANTED,
    find: 'WHERE business_id = $1 AND carrier_account_id = $2 FOR NO KEY UPDATE`',
    replace: 'WHERE business_id = $1 AND carrier_account_id = $2`',
    catcher: { test: BEHIND, title: 'a forgotten call that tells of itself twice at once is one' },
  },
  {
    name: 'forgotten-known',
    what: 'that a forgotten call halts its lane once',
    file: UNWANTED,
    find: 'if (known) return;',
    replace: '',
    catcher: {
      test: 'packages/engine/test/restore.test.ts',
      title: 'puts under review who has a call that no attempt has',
    },
  },
  {
    name: 'hang-up-found-in-turn',
    what: 'the time between two orders to hang up a call',
    file: TEND,
    find: "AND (asked_us < now_us - $2::bigint * 1000 OR asked_us > ahead_us) THEN 'hang_up'",
    replace: "AND $2::bigint >= 0 THEN 'hang_up'",
    catcher: { test: FENCES, title: 'is told again only when the carrier has had its time' },
  },
  {
    name: 'hang-up-found-clock-set-back',
    what: 'that an order which was given in the future is none',
    file: TEND,
    find: "$2::bigint * 1000 OR asked_us > ahead_us) THEN 'hang_up'",
    replace: "$2::bigint * 1000) THEN 'hang_up'",
    catcher: { test: SET_BACK, title: 'is reconciled, polled and hung up' },
  },
];

export const tendEquivalents: Equivalent[] = [
  {
    file: TEND,
    what: 'MATERIALIZED of the attempts that are locked to expire',
    why: 'PostgreSQL never folds a WITH query that locks rows into the statement around it; its manual does not promise so, and the word does',
  },
  {
    file: RECONCILE,
    what: 'MATERIALIZED of the attempts that are locked to be asked about',
    why: 'the same',
  },
];
