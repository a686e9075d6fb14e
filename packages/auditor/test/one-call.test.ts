import { describe, expect, it } from 'vitest';
import { attempt, count, filled, itFinds } from './support/broken.ts';
import { createWorld, finishedRun, JOBS, openRun } from './support/world.ts';

const ofRun = 'WHERE run_id = {run}';

describe('invariant 1: at most one open attempt, and no call that the policy does not explain', () => {
  itFinds([
    {
      name: 'a job with two open attempts',
      run: openRun,
      break: [`INSERT INTO carillon.open_attempts SELECT * FROM carillon.open_attempts ${ofRun} AND seq = 4`],
      found: [{ invariant: 1, job: 4, what: /has 2 open attempts/ }],
    },
    {
      name: 'an open attempt of a job that waits to be called',
      run: openRun,
      break: [
        `UPDATE carillon.outbound_call_jobs SET status = 'waiting' ${ofRun} AND seq = 4`,
        "INSERT INTO carillon.job_schedule VALUES ({business}, {run}, 4, 1, 'retry')",
        count('in_progress', 'waiting'),
      ],
      found: [{ invariant: 1, job: 4, what: /is waiting and has an open attempt/ }],
    },
    {
      name: 'an attempt that is open and closed at once',
      run: openRun,
      break: [
        `INSERT INTO carillon.attempts SELECT business_id, run_id, seq, attempt_no, 0, carrier_account_id, lead_id, token,
           worker_id, lease_epoch, control_epoch, from_number, intent_us, NULL, NULL, NULL, NULL, intent_us + 1, NULL,
           'not_dialed', NULL FROM carillon.open_attempts ${ofRun} AND seq = 4`,
      ],
      found: [{ invariant: 1, job: 4, attempt: 1, what: /is open and closed at once/ }],
    },
    {
      name: 'a second call after an outcome for which the policy has none',
      run: finishedRun,
      break: [
        attempt(JOBS.no_answer, 2, 'completed', 'X'),
        `UPDATE carillon.outbound_call_jobs SET attempts = 2, status = 'completed' ${ofRun} AND seq = ${JOBS.no_answer}`,
        count('failed', 'completed'),
      ],
      found: [
        { invariant: 1, job: JOBS.no_answer, attempt: 2, what: /the policy calls nobody again after "no_answer"/ },
      ],
    },
    {
      name: 'a second call to somebody who had answered',
      run: finishedRun,
      break: [
        attempt(JOBS.answered, 2, 'completed', 'X'),
        `UPDATE carillon.outbound_call_jobs SET attempts = 2 ${ofRun} AND seq = ${JOBS.answered}`,
      ],
      found: [{ invariant: 1, job: JOBS.answered, attempt: 2, what: /calls nobody again after "completed"/ }],
    },
    {
      name: 'somebody who had answered tried again, though nobody was reached',
      run: finishedRun,
      break: [
        attempt(JOBS.answered, 2, 'not_dialed', null),
        `UPDATE carillon.outbound_call_jobs SET attempts = 2 ${ofRun} AND seq = ${JOBS.answered}`,
      ],
      found: [{ invariant: 1, job: JOBS.answered, attempt: 2, what: /calls nobody again after "completed"/ }],
    },
    {
      name: 'a call more than the policy allows',
      run: finishedRun,
      break: [
        `UPDATE carillon.outbound_call_runs SET policy = '{"retry": {"busy": {"times": 1, "after_s": 0}}}' ${ofRun}`,
      ],
      found: [
        { invariant: 1, job: JOBS.busy_twice, attempt: 3, what: /follows 2 calls, and the policy allows 1 more/ },
      ],
    },
    {
      name: 'a call sooner than the policy allows',
      run: finishedRun,
      break: [
        `UPDATE carillon.outbound_call_runs SET policy = '{"retry": {"busy": {"times": 2, "after_s": 600}}}' ${ofRun}`,
      ],
      found: [
        { invariant: 1, job: JOBS.busy_twice, attempt: 2, what: /sooner than the 600 s that the policy asks for/ },
        { invariant: 1, job: JOBS.busy_twice, attempt: 3, what: /sooner than the 600 s that the policy asks for/ },
      ],
    },
    {
      name: 'a call that was committed before the outcome of the one before it was known',
      run: finishedRun,
      break: [
        `UPDATE carillon.attempts SET intent_us = (SELECT ended_us - 1 FROM carillon.attempts ${ofRun} AND seq = 2
           AND attempt_no = 1) ${ofRun} AND seq = 2 AND attempt_no = 2`,
      ],
      found: [{ invariant: 1, job: 2, attempt: 2, what: /before the outcome of attempt 1 was known/ }],
    },
    {
      name: 'a call after one that late evidence showed to have taken place',
      run: finishedRun,
      break: [
        attempt(JOBS.late, 2, 'completed', 'X'),
        // Committed while the first was believed absent.
        `UPDATE carillon.attempts SET intent_us = (SELECT ended_us + 1 FROM carillon.attempts ${ofRun}
           AND seq = ${JOBS.late} AND attempt_no = 1 AND revision = 0) ${ofRun} AND seq = ${JOBS.late} AND attempt_no = 2`,
        `UPDATE carillon.outbound_call_jobs SET attempts = 2 ${ofRun} AND seq = ${JOBS.late}`,
      ],
      found: [{ invariant: 1, job: JOBS.late, attempt: 2, what: /before the outcome of attempt 1 was known/ }],
    },
    {
      name: 'a call after one of which nobody can say whether it took place',
      run: finishedRun,
      break: [
        attempt(JOBS.review, 2, 'completed', 'X'),
        `UPDATE carillon.outbound_call_jobs SET attempts = 2, status = 'completed' ${ofRun} AND seq = ${JOBS.review}`,
        count('needs_review', 'completed'),
      ],
      found: [{ invariant: 1, job: JOBS.review, attempt: 2, what: /of which nobody can say/ }],
    },
    {
      name: 'an absent attempt called again although the policy leaves that to a person',
      run: finishedRun,
      break: [`UPDATE carillon.outbound_call_runs SET policy = policy || '{"review_always": true}' ${ofRun}`],
      found: [{ invariant: 1, job: JOBS.absent, attempt: 2, what: /the policy leaves those to a person/ }],
    },
    {
      name: 'an attempt whose row is gone',
      run: finishedRun,
      break: [`DELETE FROM carillon.attempts ${ofRun} AND seq = ${JOBS.busy_twice} AND attempt_no = 1`],
      found: [{ invariant: 1, job: JOBS.busy_twice, attempt: 1, what: /has left no row/ }],
    },
    {
      name: 'an attempt that was not counted',
      run: finishedRun,
      break: [`UPDATE carillon.outbound_call_jobs SET attempts = 2 ${ofRun} AND seq = ${JOBS.busy_twice}`],
      found: [{ invariant: 1, job: JOBS.busy_twice, what: /counts 2 attempts and has 3/ }],
    },
    {
      name: 'an attempt that called another lead',
      run: finishedRun,
      break: [`UPDATE carillon.attempts SET lead_id = lead_id + 1 ${ofRun} AND seq = ${JOBS.plain}`],
      found: [{ invariant: 1, job: JOBS.plain, attempt: 1, what: /called another lead/ }],
    },
    {
      name: 'a lead with two jobs in one run',
      run: finishedRun,
      break: [
        `UPDATE carillon.outbound_call_jobs SET lead_id = (SELECT lead_id FROM carillon.outbound_call_jobs ${ofRun}
           AND seq = 1) ${ofRun} AND seq = ${JOBS.last}`,
        `UPDATE carillon.attempts SET lead_id = (SELECT lead_id FROM carillon.outbound_call_jobs ${ofRun} AND seq = 1)
           ${ofRun} AND seq = ${JOBS.last}`,
      ],
      found: [{ invariant: 1, job: JOBS.last, what: /is of a lead that has 2 jobs in its run/ }],
    },
    {
      name: 'two leads with one number',
      run: finishedRun,
      break: [
        `UPDATE carillon.leads SET phone = '+972500000000' WHERE lead_id IN
           (SELECT lead_id FROM carillon.outbound_call_jobs ${ofRun} AND seq <= 2)`,
      ],
      found: [{ invariant: 1, what: /^Leads \d+, \d+ have the same number/ }],
    },
  ]);
});

describe('a person’s decision', () => {
  it('explains a call after one that was left for review, if it came in between and asked for it', async () => {
    const world = await createWorld();
    try {
      const run = await finishedRun(world);
      for (const statement of [
        attempt(JOBS.review, 2, 'completed', 'X'),
        `UPDATE carillon.outbound_call_jobs SET attempts = 2, status = 'completed' WHERE run_id = {run} AND seq = ${JOBS.review}`,
        count('needs_review', 'completed'),
        `INSERT INTO carillon.audit_events (business_id, kind, action, actor, subject_type, subject_id, after, at)
         SELECT {business}, 'change', 'job.resolved', 'key:1', 'job', '{run}-${JOBS.review}', '{"as": "call_again"}',
           to_timestamp(intent_us / 1000000.0 - 0.5)
         FROM carillon.attempts WHERE run_id = {run} AND seq = ${JOBS.review} AND attempt_no = 2`,
      ])
        await world.rows(filled(statement, run));
      expect((await world.audit()).violations).toEqual([]);
      for (const otherwise of [
        "at = at + interval '1 minute'",
        "at = at - interval '2 minutes'",
        `at = at + interval '1 minute', after = '{"as": "called"}'`,
      ]) {
        await world.rows(`UPDATE carillon.audit_events SET ${otherwise} WHERE action = 'job.resolved'`);
        const { violations } = await world.audit();
        expect(violations).toMatchObject([{ invariant: 1, job_id: `${run.run_id}-${JOBS.review}`, attempt: 2 }]);
      }
    } finally {
      await world.close();
    }
  });
});
