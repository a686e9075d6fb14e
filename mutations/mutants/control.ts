import type { Equivalent, Mutant } from '../mutant.ts';

const CREATE = 'packages/engine/src/run/create.ts';
const FILL = 'packages/engine/src/run/fill.ts';
const FOLLOW = 'packages/engine/src/run/follow-up.ts';
const PAUSE = 'packages/engine/src/run/pause.ts';
const RESUME = 'packages/engine/src/run/resume.ts';
const STOP = 'packages/engine/src/run/stop.ts';
const SWEEP = 'packages/engine/src/run/sweep.ts';
const END = 'packages/engine/src/run/end.ts';
const FENCES = 'packages/engine/test/fences.test.ts';
const GUARDS = 'packages/engine/test/guards.test.ts';
const LEASES = 'packages/engine/test/lease.test.ts';
const ORDERS = 'packages/engine/test/orders.test.ts';
const TIMES = 'packages/engine/test/run-times.test.ts';
const FOLLOWED = 'packages/engine/test/follow-up.test.ts';

export const controlMutants: Mutant[] = [
  {
    name: 'pause-ends-lease',
    what: 'that a pause ends the lease',
    file: PAUSE,
    find: 'control_epoch = control_epoch + 1, locked_by_worker = NULL, lock_ts = NULL, updated_at',
    replace: 'control_epoch = control_epoch + 1, updated_at',
    catcher: { test: LEASES, title: 'ends with a pause or a stop' },
  },
  {
    name: 'pause-control-epoch',
    what: 'that the control epoch rises with a pause',
    file: PAUSE,
    find: 'control_epoch = control_epoch + 1, locked_by_worker',
    replace: 'locked_by_worker',
    catcher: { test: LEASES, title: 'ends with a pause or a stop' },
  },
  {
    name: 'pause-final-run',
    what: 'that a run which has ended is not paused',
    file: PAUSE,
    find: "if (!['pending', 'running', 'paused'].includes(run.status))",
    replace: "if (run.status === 'draft')",
    catcher: { test: TIMES, title: 'let it be paused and resumed' },
  },
  {
    name: 'resume-final-run',
    what: 'that a run which has ended is not resumed',
    file: RESUME,
    find: "if (run.status !== 'paused' && run.status !== 'draft')",
    replace: "if (run.status === 'completed')",
    catcher: { test: TIMES, title: 'let it be paused and resumed' },
  },
  {
    name: 'resume-control-epoch',
    what: 'that the control epoch rises with a resume',
    file: RESUME,
    find: 'control_epoch = control_epoch + 1, updated_at',
    replace: 'updated_at',
    catcher: { test: TIMES, title: 'let it be paused and resumed' },
  },
  {
    name: 'resume-suspected',
    what: 'that nothing is resumed while calls may be forgotten',
    file: RESUME,
    find: 'await refuseWhileSuspected(tx);',
    replace: '',
    catcher: { test: 'packages/engine/test/restore.test.ts', title: 'nothing is claimed by anybody, nothing resumed' },
  },
  {
    name: 'resume-wish',
    what: 'that a resumed run wants its calls again',
    file: RESUME,
    find: 'pause_reason = NULL, live_calls = NULL,',
    replace: 'pause_reason = NULL,',
    catcher: { test: 'packages/engine/test/late-hang-up.test.ts', title: 'is wanted again once the run goes on' },
  },
  {
    name: 'stop-counters',
    what: 'that a stop cancels what is queued and waiting',
    file: STOP,
    find: 'cancelled = cancelled + queued + waiting, queued = 0, waiting = 0,\n',
    replace: '\n',
    catcher: { test: 'packages/engine/test/run-lifecycle.test.ts', title: 'stops in the middle' },
  },
  {
    name: 'stop-live-calls',
    what: 'that a run with live calls is not cancelled at once',
    file: STOP,
    find: "run.in_progress === 0 ? 'cancelled' : 'cancelling'",
    replace: "'cancelled'",
    catcher: { test: 'packages/engine/test/run-lifecycle.test.ts', title: 'stops in the middle' },
  },
  {
    name: 'stop-control-epoch',
    what: 'that the control epoch rises with a stop',
    file: STOP,
    find: 'cancel_requested_at = now(), control_epoch = control_epoch + 1,',
    replace: 'cancel_requested_at = now(),',
    catcher: { test: 'packages/engine/test/run-lifecycle.test.ts', title: 'stops in the middle' },
  },
  {
    name: 'stop-ends-lease',
    what: 'that a stop ends the lease',
    file: STOP,
    find: 'locked_by_worker = NULL, lock_ts = NULL, updated_at',
    replace: 'updated_at',
    catcher: { test: FENCES, title: 'ends with a stop' },
  },
  {
    name: 'stop-keeps-hang-up',
    what: 'that a stop which drains leaves hung up what a pause had hung up',
    file: STOP,
    find: "run.live_calls === 'hang_up' ? 'hang_up' : live_calls",
    replace: 'live_calls',
    catcher: { test: 'packages/engine/test/late-hang-up.test.ts', title: 'paused with hang_up, and stopped then' },
  },
  {
    name: 'stop-hang-up-later',
    what: 'that a second stop can still have calls hung up',
    file: STOP,
    find: "} else if (live_calls === 'hang_up') hangUpFromNowOn(tx, run, actor);",
    replace: '}',
    catcher: {
      test: 'packages/engine/test/late-hang-up.test.ts',
      title: 'under review in a run that has ended is hung up',
    },
  },
  {
    name: 'stop-hang-up-flag',
    what: 'the durable wish on each open attempt',
    file: STOP,
    find: "SET hang_up = coalesce(hang_up, 'run')",
    replace: 'SET hang_up = hang_up',
    catcher: { test: 'packages/engine/test/late-evidence.test.ts', title: 'hangs up every open attempt' },
  },
  {
    name: 'stop-keeps-job-wish',
    what: 'that the wish of a cancelled job is not written over by the run’s',
    file: STOP,
    find: "coalesce(hang_up, 'run')",
    replace: "'run'",
    catcher: { test: FENCES, title: 'of one job is kept through a pause of its run' },
  },
  {
    name: 'end-not-yet',
    what: 'that a run is not stopped before its end',
    file: END,
    find: ' AND ends_at <= now()',
    replace: '',
    catcher: { test: TIMES, title: 'end it, drained, when its end has come' },
  },
  {
    name: 'end-order',
    what: 'ORDER BY: the longest overdue run first',
    file: END,
    find: 'ORDER BY ends_at LIMIT $1',
    replace: 'LIMIT $1',
    catcher: { test: ORDERS, title: 'is stopped first whose end came first' },
  },
  {
    name: 'sweep-job-status',
    what: 'that a sweep leaves finished jobs as they are',
    file: SWEEP,
    find: "\n     WHERE business_id = $1 AND run_id = $2 AND seq > $3 AND seq <= $4 AND status IN ('queued', 'waiting')`",
    replace: '\n     WHERE business_id = $1 AND run_id = $2 AND seq > $3 AND seq <= $4`',
    catcher: { test: LEASES, title: 'fill and sweep in batches' },
  },
  {
    name: 'sweep-stopped-runs',
    what: 'that only stopped runs are swept',
    file: SWEEP,
    find: 'WHERE cancel_requested_at IS NOT NULL AND swept_seq',
    replace: 'WHERE swept_seq',
    catcher: { test: FENCES, title: 'sweeps no run that goes on' },
  },
  {
    name: 'sweep-to-its-end',
    what: 'the end of a sweep',
    file: SWEEP,
    find: ' AND swept_seq < total_leads',
    replace: '',
    catcher: { test: FENCES, title: 'sweeps no run that goes on' },
  },
  {
    name: 'sweep-order',
    what: 'ORDER BY: the run that was stopped first is swept first',
    file: SWEEP,
    find: 'ORDER BY cancel_requested_at LIMIT $1',
    replace: 'LIMIT $1',
    catcher: { test: ORDERS, title: 'is swept first that was stopped first' },
  },
  {
    name: 'fill-row-count',
    what: 'the count of the jobs that are made of a list',
    file: FILL,
    find: 'ORDER BY position`,\n    [tx.business_id, run.run_id, run.list_id, run.filled_seq, to],\n    to - run.filled_seq,',
    replace: 'ORDER BY position`,\n    [tx.business_id, run.run_id, run.list_id, run.filled_seq, to],',
    catcher: { test: GUARDS, title: 'a run of a list with a gap' },
  },
  {
    name: 'fill-order',
    what: 'ORDER BY: neighbours of the list are neighbours on the disk',
    file: FILL,
    find: ' ORDER BY position`',
    replace: '`',
    catcher: { test: ORDERS, title: 'lie on the disk in the order in which they are called' },
  },
  {
    name: 'fill-enough',
    what: 'that rows are made only when few lie ahead',
    file: FILL,
    find: 'if (run.filled_seq - run.claim_cursor >= limits.fill_ahead_jobs) return false;',
    replace: '',
    catcher: { test: 'packages/engine/test/return-to-pool.test.ts', title: 'says that it made rows only when it did' },
  },
  {
    name: 'create-once',
    what: 'ON CONFLICT: of two requests under one key the second finds the first’s run',
    file: CREATE,
    find: '\n     ON CONFLICT (business_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING RETURNING run_id`',
    replace: '\n     RETURNING run_id`',
    catcher: { test: 'packages/engine/test/unique-run-lead.test.ts', title: 'gives the same run for the same key' },
  },
  {
    name: 'create-same-request',
    what: 'that a key is good for one request alone',
    file: CREATE,
    find: "if (row.request_hash !== request_hash) throw new CarillonError('idempotency_conflict');",
    replace: '',
    catcher: { test: 'packages/engine/test/unique-run-lead.test.ts', title: 'gives the same run for the same key' },
  },
  {
    name: 'follow-up-open-calls',
    what: 'that a lead whose call is open is in no follow-up run',
    file: FOLLOW,
    find: "WHEN 'in_progress' THEN false",
    replace: "WHEN 'in_progress' THEN true",
    catcher: { test: FOLLOWED, title: 'takes up those whom its outcomes name' },
  },
  {
    name: 'follow-up-who-waits',
    what: 'that a lead who is still to be called is in no follow-up run',
    file: FOLLOW,
    find: "(j.status IN ('failed', 'cancelled') OR (SELECT stopped FROM earlier))",
    replace: '(true OR (SELECT stopped FROM earlier))',
    catcher: { test: FOLLOWED, title: 'takes up those whom its outcomes name' },
  },
  {
    name: 'follow-up-rows-made-meanwhile',
    what: 'that leads which have their rows are not taken from the list as well',
    file: FOLLOW,
    find: 'AND m.position > e.filled_seq AND',
    replace: 'AND',
    catcher: { test: FOLLOWED, title: 'finds the leads of a stopped run' },
  },
];

export const controlEquivalents: Equivalent[] = [
  {
    file: STOP,
    what: 'the expected counts of one row of a stop, a pause and a wish to hang up',
    why: 'the same transaction has locked the row',
  },
  {
    file: FILL,
    what: 'the expected counts where jobs are made of a part of an earlier run’s leads',
    why: 'the run is locked, and whoever reads or removes parts of its leads locks it first',
  },
];
