import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stopRun, sweepOnce } from '@carillon/engine';
import { count, itFinds, status } from './support/broken.ts';
import { type AuditedRun, createWorld, finishedRun, JOBS, openRun, type World } from './support/world.ts';

const ofRun = 'WHERE run_id = {run}';
const TESTER = { name: 'test', user_id: null };

/** Two calls in flight, six jobs queued, one waiting: and then it is stopped. */
async function stoppedRun(world: World): Promise<AuditedRun> {
  const run = await openRun(world);
  await stopRun(world.db, run.business_id, run.run_id, 'drain', TESTER);
  return run;
}

/** As a restore leaves a job whose call the carrier lists and the database has forgotten. */
const UNDER_REVIEW = [
  `UPDATE carillon.outbound_call_jobs SET status = 'needs_review' ${ofRun} AND seq = 10`,
  count('queued', 'needs_review'),
];

describe('invariant 2, by the rows alone', () => {
  itFinds([
    {
      name: 'an attempt that took place and names no call',
      run: finishedRun,
      break: [`UPDATE carillon.attempts SET call_id = NULL ${ofRun} AND seq = ${JOBS.plain}`],
      found: [{ invariant: 2, job: JOBS.plain, attempt: 1, what: /says that it was placed, and names no call/ }],
    },
    {
      name: 'a live call without a name',
      run: openRun,
      break: [`UPDATE carillon.open_attempts SET call_id = NULL ${ofRun} AND seq = 3`],
      found: [{ invariant: 2, job: 3, attempt: 1, what: /names no call/ }],
    },
    {
      name: 'a refused attempt that names a call',
      run: finishedRun,
      break: [`UPDATE carillon.attempts SET call_id = 'X' ${ofRun} AND seq = ${JOBS.refused}`],
      found: [{ invariant: 2, job: JOBS.refused, attempt: 1, what: /is rejected, and names a call/ }],
    },
    {
      name: 'two attempts that name the same call',
      run: finishedRun,
      break: [
        `UPDATE carillon.attempts SET call_id = (SELECT call_id FROM carillon.attempts ${ofRun} AND seq = 1)
         ${ofRun} AND seq = ${JOBS.last}`,
      ],
      found: [{ invariant: 2, job: JOBS.last, attempt: 1, what: /names the call of attempt 1 of job \d+-1/ }],
    },
    {
      name: 'a live call that a closed attempt names as well',
      run: openRun,
      break: [
        `UPDATE carillon.open_attempts SET call_id = (SELECT call_id FROM carillon.attempts ${ofRun} AND seq = 1)
         ${ofRun} AND seq = 3`,
      ],
      found: [{ invariant: 2, job: 3, attempt: 1, what: /names the call of attempt 1 of job \d+-1/ }],
    },
  ]);
});

describe('invariant 3: counters equal rows, and rows their attempts', () => {
  itFinds([
    {
      name: 'one too many here and one too few there',
      run: finishedRun,
      break: [count('completed', 'failed')],
      found: [{ invariant: 3, what: /^Run \d+ counts 6 completed, 3 failed; its rows are 7 completed, 2 failed$/ }],
    },
    {
      name: 'counters that do not add up',
      run: finishedRun,
      break: [`UPDATE carillon.outbound_call_runs SET skipped = 1 ${ofRun}`],
      found: [
        { invariant: 3, what: /counts 1 skipped; its rows are 0 skipped/ },
        { invariant: 3, what: /has 10 leads, and its counters add up to 11/ },
      ],
    },
    {
      name: 'a job that changed without its run',
      run: openRun,
      break: [`UPDATE carillon.outbound_call_jobs SET status = 'cancelled' ${ofRun} AND seq = 10`],
      found: [{ invariant: 3, what: /counts 6 queued, 0 cancelled; its rows are 5 queued, 1 cancelled/ }],
    },
    {
      name: 'a lead that was lost',
      run: openRun,
      break: [`DELETE FROM carillon.outbound_call_jobs ${ofRun} AND seq = 10`],
      found: [
        { invariant: 3, what: /has 9 jobs up to 9, and says that 10 are made/ },
        { invariant: 3, what: /counts 6 queued; its rows are 5 queued/ },
      ],
    },
    {
      name: 'a stopped run whose queued rows are not swept, and whose counters are wrong',
      run: stoppedRun,
      break: [count('cancelled', 'skipped')],
      found: [{ invariant: 3, what: /counts 6 cancelled, 1 skipped; its rows are 7 cancelled, 0 skipped/ }],
    },
    {
      name: 'leads not yet made from the list that are in no counter',
      run: openRun,
      break: [
        `DELETE FROM carillon.outbound_call_jobs ${ofRun} AND seq = 10`,
        `UPDATE carillon.outbound_call_runs SET filled_seq = 9, queued = queued - 1 ${ofRun}`,
      ],
      found: [
        { invariant: 3, what: /counts 5 queued; its rows are 6 queued/ },
        { invariant: 3, what: /has 10 leads, and its counters add up to 9/ },
      ],
    },
    {
      name: 'a finished job that is scheduled',
      run: openRun,
      break: ["INSERT INTO carillon.job_schedule VALUES ({business}, {run}, 1, 1, 'retry')"],
      found: [{ invariant: 3, job: 1, what: /is completed, and is scheduled once/ }],
    },
    {
      name: 'a job scheduled twice',
      run: openRun,
      break: ["INSERT INTO carillon.job_schedule VALUES ({business}, {run}, 2, 1, 'retry')"],
      found: [{ invariant: 3, job: 2, what: /is waiting, and is scheduled 2 times/ }],
    },
    {
      name: 'a job that counts as answered and was never called',
      run: openRun,
      break: [
        `UPDATE carillon.outbound_call_jobs SET status = 'completed' ${ofRun} AND seq = 10`,
        count('queued', 'completed'),
      ],
      found: [{ invariant: 3, job: 10, what: /is completed, and no attempt was made for it/ }],
    },
    {
      name: 'a job under review that was never called, where nothing was restored',
      run: openRun,
      break: UNDER_REVIEW,
      found: [{ invariant: 3, job: 10, what: /is needs_review, and no attempt was made for it/ }],
    },
    {
      name: 'a job that counts as failed and was answered',
      run: finishedRun,
      break: [
        `UPDATE carillon.outbound_call_jobs SET status = 'failed' ${ofRun} AND seq = ${JOBS.plain}`,
        count('completed', 'failed'),
      ],
      found: [{ invariant: 3, job: JOBS.plain, what: /is failed after "completed"/ }],
    },
    {
      name: 'a cursor that is not where the finished jobs are',
      run: finishedRun,
      break: [
        'ALTER TABLE carillon.outbound_call_runs ALTER COLUMN cursor_position DROP EXPRESSION',
        `UPDATE carillon.outbound_call_runs SET cursor_position = 9 ${ofRun}`,
      ],
      found: [{ invariant: 3, what: /has finished 10 jobs, and its cursor stands at 9/ }],
    },
  ]);
});

describe('a stopped run', () => {
  let world: World;
  beforeAll(async () => void (world = await createWorld()));
  afterAll(async () => await world.close());

  it('is in order before its rows are swept, in the middle of that, and after it', async () => {
    await stoppedRun(world);
    const run = await world.run(await world.tenant({ leads: 30 }));
    // As a run over a long list is: some of its jobs have rows.
    await world.rows('DELETE FROM carillon.outbound_call_jobs WHERE run_id = $1 AND seq > 20', [run.run_id]);
    await world.rows('UPDATE carillon.outbound_call_runs SET filled_seq = 20 WHERE run_id = $1', [run.run_id]);
    expect((await world.audit()).violations).toEqual([]);
    await stopRun(world.db, run.business_id, run.run_id, 'drain', TESTER);
    const fail = (error: unknown) => {
      throw error;
    };
    let sweeps = 0;
    do {
      sweeps += 1;
      expect((await world.audit()).violations).toEqual([]);
    } while (await sweepOnce(world.db, { ...world.limits, sweep_batch_jobs: 4 }, fail));
    expect(sweeps).toBeGreaterThan(3);
  });
});

describe('invariant 4: control epochs', () => {
  const intent = (seq: number, to: string) =>
    `UPDATE carillon.attempts SET intent_us = ${to} ${ofRun} AND seq = ${seq}`;
  const at = (action: string) =>
    `(SELECT (extract(epoch FROM at) * 1000000)::bigint FROM carillon.audit_events
      WHERE subject_id = '{run}' AND action = '${action}')`;
  itFinds([
    {
      name: 'an attempt under an older epoch than its run’s',
      run: finishedRun,
      break: [`UPDATE carillon.attempts SET control_epoch = 0 ${ofRun} AND seq = ${JOBS.plain}`],
      found: [{ invariant: 4, job: JOBS.plain, attempt: 1, what: /under control epoch 0; it was 2 since 20/ }],
    },
    {
      name: 'an attempt committed while its run was paused',
      run: finishedRun,
      break: [intent(JOBS.answered, `${at('run.paused')} + 1`)],
      found: [{ invariant: 4, job: JOBS.answered, attempt: 1, what: /under control epoch 0; it was 1 since/ }],
    },
    {
      name: 'an attempt under an epoch that its run never had',
      run: finishedRun,
      break: [`UPDATE carillon.attempts SET control_epoch = 9 ${ofRun} AND seq = ${JOBS.plain}`],
      found: [{ invariant: 4, job: JOBS.plain, what: /under control epoch 9, which its run has not reached/ }],
    },
    {
      name: 'an attempt after its run was stopped, by the time',
      run: stoppedRun,
      break: [intent(1, `${at('run.cancel_requested')} + 1`)],
      found: [{ invariant: 4, job: 1, attempt: 1, what: /was committed after its run was stopped at 20/ }],
    },
    {
      name: 'an attempt after its run was stopped, by the epoch',
      run: stoppedRun,
      break: [`UPDATE carillon.open_attempts SET control_epoch = 1 ${ofRun} AND seq = 4`],
      found: [{ invariant: 4, job: 4, attempt: 1, what: /was committed after its run was stopped$/ }],
    },
  ]);
});

describe('invariant 7: the run’s window', () => {
  const hour = (n: number) => new Date(Date.now() + n * 3_600_000).toISOString();
  itFinds([
    {
      name: 'an attempt before the run was to start',
      run: (world) => finishedRun(world, { starts_at: hour(-1) }),
      break: [`UPDATE carillon.attempts SET intent_us = intent_us - 7200000000 ${ofRun} AND seq = ${JOBS.plain}`],
      found: [{ invariant: 7, job: JOBS.plain, attempt: 1, what: /before the run was to start/ }],
    },
    {
      name: 'an attempt after the run was to end',
      run: (world) => finishedRun(world, { ends_at: hour(1) }),
      break: [`UPDATE carillon.attempts SET intent_us = intent_us + 7200000000 ${ofRun} AND seq = ${JOBS.plain}`],
      found: [{ invariant: 7, job: JOBS.plain, attempt: 1, what: /after the run was to end/ }],
    },
  ]);
});

describe('invariant 8: the trail of a run', () => {
  const event = (action: string) => `WHERE subject_id = '{run}' AND action = '${action}'`;
  itFinds([
    {
      name: 'a change in the middle that is not on record',
      run: finishedRun,
      break: [`DELETE FROM carillon.audit_events ${event('run.paused')}`],
      found: [{ invariant: 8, what: /who changed it in between is not on record/ }],
    },
    {
      name: 'a run whose creation is not on record',
      run: finishedRun,
      break: [`DELETE FROM carillon.audit_events ${event('run.created')}`],
      found: [{ invariant: 8, what: /begins in the trail with "run.started": its creation is missing/ }],
    },
    {
      name: 'a run whose end is not on record',
      run: finishedRun,
      break: [`DELETE FROM carillon.audit_events ${event('run.completed')}`],
      found: [{ invariant: 8, what: /is completed .*, and the last change on record, "run.leased", left it running/ }],
    },
    {
      name: 'a run without any record',
      run: finishedRun,
      break: ["DELETE FROM carillon.audit_events WHERE subject_id = '{run}'"],
      found: [{ invariant: 8, what: /the trail tells of none of its changes/ }],
    },
    {
      name: 'a change that is not on record, among events that change no state',
      run: finishedRun,
      break: [
        `DELETE FROM carillon.audit_events ${event('run.paused')}`,
        `INSERT INTO carillon.audit_events (business_id, event_id, kind, action, actor, subject_type, subject_id, after)
         SELECT business_id, -event_id, 'security', 'access.id_not_visible', 'key:1', 'run', '{run}', '{"code": "x"}'
         FROM carillon.audit_events ${event('run.created')}`,
        `INSERT INTO carillon.audit_events (business_id, kind, action, actor, subject_type, subject_id, before, after)
         VALUES ({business}, 'change', 'run.hang_up_requested', 'key:1', 'run', '{run}', '{"live_calls": "drain"}',
           '{"live_calls": "hang_up"}')`,
      ],
      found: [{ invariant: 8, what: /who changed it in between is not on record/ }],
    },
    {
      name: 'a change by nobody',
      run: finishedRun,
      break: [`UPDATE carillon.audit_events SET actor = ' ' ${event('run.resumed')}`],
      found: [{ invariant: 8, what: /"run.resumed" has no actor/ }],
    },
    {
      name: 'a state that was changed by hand',
      run: finishedRun,
      break: [`UPDATE carillon.outbound_call_runs SET status = 'failed' ${ofRun}`],
      found: [{ invariant: 8, what: /^Run \d+ is failed .*"run.completed", left it completed/ }],
    },
    {
      name: 'a control epoch that was changed by hand',
      run: finishedRun,
      break: [`UPDATE carillon.outbound_call_runs SET control_epoch = 7 ${ofRun}`],
      found: [{ invariant: 8, what: /is completed \(control epoch 7\)/ }],
    },
    {
      name: 'a run that ended and was changed once more',
      run: finishedRun,
      break: [status('failed')],
      found: [{ invariant: 8, what: /had ended, and was changed by "run.failed"/ }],
    },
  ]);
});

describe('a job under review that was never called', () => {
  let world: World;
  beforeAll(async () => {
    world = await createWorld();
  });
  afterAll(async () => await world.close());

  it('is in order once the carrier was asked after a restore, or is still to be asked', async () => {
    const { business_id, run_id } = await openRun(world);
    for (const statement of UNDER_REVIEW) await world.rows(statement.replaceAll('{run}', String(run_id)));
    const ok = async () => (await world.audit({ business_id })).ok;
    expect(await ok()).toBe(false);
    await world.rows('UPDATE carillon.installation_state SET restores = restores + 1');
    expect(await ok()).toBe(true);
    await world.rows('UPDATE carillon.installation_state SET restores = 0');
    expect(await ok()).toBe(false);
    await world.rows(
      `INSERT INTO carillon.audit_events (business_id, kind, action, actor) VALUES ($1, 'change', 'restore.reconciled', 'test')`,
      [business_id],
    );
    expect(await ok()).toBe(true);
  });
});
