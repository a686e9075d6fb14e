import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { count, expectFound, filled, type Found, itFinds, status } from './support/broken.ts';
import { type AuditedRun, createWorld, ended, finishedRun, openRun, type World } from './support/world.ts';

const ofRun = 'WHERE run_id = {run}';

describe('invariant 6: what has ended, and what can’t go on', () => {
  itFinds([
    {
      name: 'a final run without the time of its end',
      run: finishedRun,
      break: [`UPDATE carillon.outbound_call_runs SET ended_at = NULL ${ofRun}`],
      found: [{ invariant: 6, what: /is completed, and has no time of its end/ }],
    },
    {
      name: 'a run that goes on and says that it ended',
      run: openRun,
      break: [`UPDATE carillon.outbound_call_runs SET ended_at = now() ${ofRun}`],
      found: [{ invariant: 6, what: /is running, and says that it ended at 20/ }],
    },
    {
      name: 'a final run with jobs that are not',
      run: openRun,
      break: [status('completed')],
      found: [{ invariant: 6, what: /is completed, and 9 of its jobs are not/ }],
    },
    {
      name: 'a run whose jobs are finished and that is not',
      run: finishedRun,
      // Its end taken back, from the trail as well.
      break: [
        "DELETE FROM carillon.audit_events WHERE subject_id = '{run}' AND action = 'run.completed'",
        `UPDATE carillon.outbound_call_runs SET status = 'running', ended_at = NULL ${ofRun}`,
      ],
      found: [{ invariant: 6, what: /is running with every job finished: nobody will end it/ }],
    },
    {
      name: 'a job in progress whose attempt is over',
      run: openRun,
      break: [
        `INSERT INTO carillon.attempts SELECT business_id, run_id, seq, attempt_no, 0, carrier_account_id, lead_id, token,
           worker_id, lease_epoch, control_epoch, from_number, intent_us, NULL, NULL, NULL, NULL, intent_us + 1, NULL,
           'not_dialed', NULL FROM carillon.open_attempts ${ofRun} AND seq = 4`,
        `DELETE FROM carillon.open_attempts ${ofRun} AND seq = 4`,
      ],
      found: [{ invariant: 6, job: 4, what: /is in progress without an open attempt: nobody will end it/ }],
    },
    {
      name: 'a waiting job that waits for no time',
      run: openRun,
      break: [`DELETE FROM carillon.job_schedule ${ofRun}`],
      found: [{ invariant: 6, job: 2, what: /waits for no time/ }],
    },
    {
      name: 'a queued job that the cursor has passed',
      run: openRun,
      break: [`UPDATE carillon.outbound_call_runs SET claim_cursor = 7 ${ofRun}`],
      found: [
        { invariant: 6, job: 5, what: /is queued behind the claim cursor/ },
        { invariant: 6, job: 6, what: /is queued behind the claim cursor/ },
      ],
    },
    {
      name: 'a cancelled job counted as queued',
      run: openRun,
      break: [
        `UPDATE carillon.outbound_call_jobs SET status = 'cancelled' ${ofRun} AND seq = 10`,
        count('queued', 'cancelled'),
        `UPDATE carillon.outbound_call_runs SET claim_cursor = 6 ${ofRun}`,
      ],
      found: [{ invariant: 6, job: 5, what: /is queued behind the claim cursor/ }],
    },
  ]);
});

describe('invariant 6: what nobody has taken up', () => {
  let world: World;
  beforeAll(async () => void (world = await createWorld()));
  afterAll(async () => await world.close());

  const ALIVE = "UPDATE carillon.workers SET started_at = now() - interval '1 day', seen_at = now()";
  const GONE = "UPDATE carillon.workers SET started_at = now() - interval '1 day', seen_at = now() - interval '1 hour'";
  const FRESH = 'UPDATE carillon.workers SET started_at = now(), seen_at = now()';

  const left: [name: string, run: () => Promise<AuditedRun>, broken: string[], found: Found][] = [
    [
      'an attempt past the deadlines of all its reapers',
      () => openRun(world),
      [`UPDATE carillon.open_attempts SET deadline_us = deadline_us - 7200000000 ${ofRun} AND seq = 4`],
      { invariant: 6, job: 4, attempt: 1, what: /is dialing since .*, past every deadline of its reapers/ },
    ],
    [
      'a live call that nobody has asked about',
      () => openRun(world),
      [`UPDATE carillon.open_attempts SET placed_us = placed_us - 7200000000, deadline_us = 0 ${ofRun} AND seq = 3`],
      { invariant: 6, job: 3, attempt: 1, what: /is placed since/ },
    ],
    [
      'a lease that was not taken over',
      () => openRun(world),
      [`UPDATE carillon.outbound_call_runs SET lock_ts = now() - interval '5 minutes' ${ofRun}`],
      { invariant: 6, what: /is running, workers live, and its lease of .* was not taken over/ },
    ],
    [
      'a run that nobody has taken',
      async () => await world.run(await world.tenant()),
      [`UPDATE carillon.outbound_call_runs SET updated_at = now() - interval '5 minutes' ${ofRun}`],
      { invariant: 6, what: /is pending, workers live, and nobody has taken it/ },
    ],
    [
      'a run past its end that nobody has stopped',
      async () => {
        const run = await world.run(await world.tenant());
        await world.pause(run);
        return run;
      },
      [`UPDATE carillon.outbound_call_runs SET ends_at = now() - interval '5 minutes' ${ofRun}`],
      { invariant: 6, what: /should have ended at .*, and nobody has stopped it/ },
    ],
    [
      'a run with free lines that calls nobody',
      async () => {
        const run = await world.run(await world.tenant());
        await world.lease(run);
        return run;
      },
      [`UPDATE carillon.outbound_call_runs SET updated_at = now() - interval '5 minutes' ${ofRun}`],
      { invariant: 6, what: /has leads to call and free lines, and calls nobody/ },
    ],
  ];

  it.each(left)('is %s, while a worker lives', async (_, make, broken, found) => {
    const run = await make();
    const of = { business_id: run.business_id };
    await world.rows(ALIVE);
    expect((await world.audit(of)).violations).toEqual([]);
    for (const statement of broken) await world.rows(filled(statement, run));
    expectFound((await world.audit(of)).violations, run, [found]);
    // With nobody there, or somebody who has only come, nothing is late.
    for (const workers of [GONE, FRESH]) {
      await world.rows(workers);
      expect((await world.audit(of)).violations).toEqual([]);
    }
  });

  it('is no run that is to start later, whose lane is halted, or that is beyond what the workers may hold', async () => {
    const later = await world.run(await world.tenant(), { starts_at: new Date(Date.now() + 3_600_000).toISOString() });
    const halted = await world.run(await world.tenant());
    await world.lease(halted);
    await world.rows("UPDATE carillon.lanes SET halted_reason = '20003' WHERE business_id = $1", [halted.business_id]);
    const beyond = await world.run(await world.tenant());
    await world.rows(
      "UPDATE carillon.outbound_call_runs SET updated_at = now() - interval '5 minutes' WHERE run_id = ANY ($1)",
      [[later.run_id, halted.run_id, beyond.run_id]],
    );
    await world.rows(ALIVE);
    for (const { business_id } of [later, halted]) expect((await world.audit({ business_id })).violations).toEqual([]);
    const { business_id } = beyond;
    expect((await world.audit({ business_id })).violations).toHaveLength(1);
    const limits = { ...world.limits, worker_runs: 1 };
    expect((await world.audit({ business_id, limits })).violations).toEqual([]);
  });

  it('is no run that only waits, until the first of its leads is due', async () => {
    const policy = { retry: { busy: { times: 1, after_s: 3_600 } }, review_always: false };
    const run = await world.run(await world.tenant(), { policy });
    for (const attempt of await world.call(await world.lease(run), 10))
      await world.tell(attempt, ended(`W${attempt.seq}`, 'busy'));
    await world.rows(
      `UPDATE carillon.outbound_call_runs SET locked_by_worker = NULL, lock_ts = NULL,
         updated_at = now() - interval '5 minutes' WHERE run_id = $1`,
      [run.run_id],
    );
    await world.rows(ALIVE);
    const { business_id } = run;
    expect((await world.audit({ business_id })).violations).toEqual([]);
    await world.rows('UPDATE carillon.job_schedule SET due_us = due_us - 3900000000 WHERE run_id = $1 AND seq = 4', [
      run.run_id,
    ]);
    const { violations } = await world.audit({ business_id });
    expectFound(violations, run, [{ invariant: 6, what: /is running, workers live, and nobody has taken it/ }]);
  });
});
