import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readAnswer } from '../src/call/answer.ts';
import type { AttemptKey } from '../src/call/attempt.ts';
import { cancelJob } from '../src/call/cancel-job.ts';
import { CANCELLED_UNHEARD } from '../src/call/close.ts';
import { resolveJob } from '../src/call/resolve.ts';
import { findDue } from '../src/call/tend.ts';
import { pauseRun } from '../src/run/pause.ts';
import { getJob } from '../src/run/read.ts';
import { resumeRun } from '../src/run/resume.ts';
import { stopRun } from '../src/run/stop.ts';
import {
  actor,
  claimAll,
  claimOnce,
  createFixture,
  createTenant,
  ended,
  expectRecounted,
  type Fixture,
  lease,
  live,
  readRow,
  record,
  review,
  startRun,
} from './support/fixture.ts';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture({ dial_deadline_ms: 1 });
});
afterAll(async () => await fixture.close());

/** A run with two calls: one whose answer was lost, and one that is alive. */
async function twoCalls() {
  const tenant = await createTenant(fixture, { leads: 2, lines: 2 });
  const run_id = await startRun(fixture, tenant);
  const [lost, alive] = await claimAll(fixture, await lease(fixture, tenant, run_id), 2);
  if (!lost || !alive) throw new Error('two are wanted');
  await record(fixture, lost, { kind: 'unknown', cause: 'timeout' });
  await record(fixture, alive, live('C-alive', 'in_call'));
  const { db, limits } = fixture;
  const { business_id } = tenant;
  return {
    tenant,
    run_id,
    lost,
    alive,
    pause: async (live_calls: 'drain' | 'hang_up') => await pauseRun(db, business_id, run_id, live_calls, actor),
    stop: async (live_calls: 'drain' | 'hang_up') => await stopRun(db, business_id, run_id, live_calls, actor),
    resume: async () => await resumeRun(db, business_id, run_id, limits, actor),
  };
}

/** What is done with the call of an attempt: hung up by us, and what its lead is told. */
async function fateOf(attempt: AttemptKey) {
  const due = (await findDue(fixture.db, fixture.limits)).find(
    ({ run_id, seq }) => run_id === attempt.run_id && seq === attempt.seq,
  );
  const answer = await readAnswer(fixture.db, attempt);
  return { hung_up: due?.errand === 'hang_up', answered: answer !== null };
}
const HUNG_UP = { hung_up: true, answered: false };
const DRAINED = { hung_up: false, answered: true };

const appear = async (attempt: AttemptKey) => await record(fixture, attempt, live('C-late', 'ringing'));

describe('a call that shows up after it was believed absent', () => {
  it.each([
    ['hang_up', HUNG_UP],
    ['drain', DRAINED],
  ] as const)('in a run that was paused with %s', async (live_calls, fate) => {
    const { run_id, lost, pause } = await twoCalls();
    await pause(live_calls);
    await record(fixture, lost, { kind: 'absent' });
    expect(await appear(lost)).toBe('applied');
    expect(await fateOf(lost)).toEqual(fate);
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'paused', in_progress: 2 });
    await expectRecounted(fixture, run_id);
  });

  it('is hung up where the pause that drained was followed by one that did not, and not the other way round', async () => {
    for (const [first, then] of [
      ['drain', 'hang_up'],
      ['hang_up', 'drain'],
    ] as const) {
      const { run_id, lost, pause } = await twoCalls();
      await pause(first);
      await record(fixture, lost, { kind: 'absent' });
      await pause(then);
      await appear(lost);
      expect(await fateOf(lost)).toEqual(HUNG_UP);
      expect(await readRow(fixture, run_id)).toMatchObject({ status: 'paused', control_epoch: 1 });
    }
  });

  it('is wanted again once the run goes on', async () => {
    const { lost, pause, resume } = await twoCalls();
    await pause('hang_up');
    await record(fixture, lost, { kind: 'absent' });
    await resume();
    await appear(lost);
    expect(await fateOf(lost)).toEqual(DRAINED);
    await pause('drain');
    expect(await fateOf(lost)).toEqual(DRAINED);
  });

  it('is hung up in a run that was paused with hang_up, and stopped then', async () => {
    const { lost, pause, stop } = await twoCalls();
    await pause('hang_up');
    await record(fixture, lost, await review(fixture, lost, 'nobody knows'));
    await stop('drain');
    expect(await appear(lost)).toBe('applied');
    expect(await fateOf(lost)).toEqual(HUNG_UP);
  });

  it.each([
    ['hang_up', HUNG_UP],
    ['drain', DRAINED],
  ] as const)('under review in a run that is being stopped with %s', async (live_calls, fate) => {
    const { run_id, lost, stop } = await twoCalls();
    await stop(live_calls);
    await record(fixture, lost, await review(fixture, lost, 'nobody knows'));
    expect(await appear(lost)).toBe('applied');
    expect(await fateOf(lost)).toEqual(fate);
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'cancelling', in_progress: 2, needs_review: 0 });
  });

  it('under review in a run that has ended is hung up if the stop asked for it, also afterwards; its end settles it', async () => {
    for (const asked of ['before', 'after', 'never']) {
      const { tenant, run_id, lost, alive, stop } = await twoCalls();
      await stop(asked === 'before' ? 'hang_up' : 'drain');
      await record(fixture, lost, await review(fixture, lost, 'nobody knows'));
      await record(fixture, alive, ended('C-alive', 'completed'));
      expect(await readRow(fixture, run_id)).toMatchObject({ status: 'cancelled', needs_review: 1 });
      if (asked === 'after') await stop('hang_up');
      expect(await appear(lost)).toBe(asked === 'never' ? 'nothing' : 'unwanted');
      const unwanted = await fixture.rows('SELECT call_id FROM carillon.unwanted_calls WHERE business_id = $1', [
        tenant.business_id,
      ]);
      expect(unwanted).toEqual(asked === 'never' ? [] : [{ call_id: 'C-late' }]);
      expect(await record(fixture, lost, ended('C-late', 'completed'))).toBe('applied');
      expect(await readRow(fixture, run_id)).toMatchObject({ status: 'cancelled', needs_review: 0, completed: 2 });
    }
  });

  it('leaves in the trail that live calls are hung up from then on, once', async () => {
    const { run_id, pause, stop } = await twoCalls();
    for (const wish of ['drain', 'drain', 'hang_up', 'hang_up'] as const) await pause(wish);
    for (const wish of ['drain', 'hang_up'] as const) await stop(wish);
    const events = await fixture.rows<{ action: string; after: { live_calls: string; status?: string } }>(
      `SELECT action, after FROM carillon.audit_events
       WHERE subject_type = 'run' AND subject_id = $1::text AND after ? 'live_calls' ORDER BY event_id`,
      [run_id],
    );
    expect(events.map(({ action, after }) => [action, after.status, after.live_calls])).toEqual([
      ['run.paused', 'paused', 'drain'],
      ['run.hang_up_requested', undefined, 'hang_up'],
      ['run.cancel_requested', 'cancelling', 'hang_up'],
    ]);
  });
});

/** A job that was cancelled while nobody could say whether it was being called, and is under review since. */
async function cancelledUnheard(leads = 2) {
  const tenant = await createTenant(fixture, { leads, lines: 1 });
  const policy = { retry: { no_answer: { times: 3, after_s: 0 } }, review_always: false };
  const run_id = await startRun(fixture, tenant, { policy });
  const mine = await lease(fixture, tenant, run_id);
  const [attempt] = await claimAll(fixture, mine, 1);
  if (!attempt) throw new Error('nothing was claimed');
  const { db, limits } = fixture;
  const key = { run_id, seq: attempt.seq };
  await record(fixture, attempt, { kind: 'unknown', cause: 'timeout' });
  await cancelJob(db, tenant.business_id, key, limits, actor);
  await record(fixture, attempt, await review(fixture, attempt, 'timeout'));
  return {
    tenant,
    run_id,
    mine,
    attempt,
    job: async () => await getJob(db, tenant.business_id, key),
    callAgain: async () => await resolveJob(db, tenant.business_id, key, 'call_again', { actor, limits }),
  };
}

describe('a job that was cancelled and whose call shows up only after its review', () => {
  it('has that call hung up, and is not called again, whatever the policy', async () => {
    const { run_id, mine, attempt, job } = await cancelledUnheard();
    expect(await job()).toMatchObject({ status: 'needs_review', reason: CANCELLED_UNHEARD });
    expect(await appear(attempt)).toBe('applied');
    expect(await fateOf(attempt)).toEqual(HUNG_UP);
    await record(fixture, attempt, ended('C-late', 'no_answer'));
    expect(await job()).toMatchObject({ status: 'cancelled', last_outcome: 'no_answer' });
    expect((await claimOnce(fixture, mine)).attempts.map(({ seq }) => seq)).toEqual([2]);
    await expectRecounted(fixture, run_id);
  });

  it('is not called again either where the first that is heard of the call is its end', async () => {
    const { run_id, mine, attempt, job } = await cancelledUnheard();
    await record(fixture, attempt, ended('C-late', 'no_answer'));
    expect(await job()).toMatchObject({ status: 'cancelled', last_outcome: 'no_answer' });
    expect((await claimOnce(fixture, mine)).attempts.map(({ seq }) => seq)).toEqual([2]);
    await expectRecounted(fixture, run_id);
  });

  it('stays cancelled though a pause wanted all calls of its run hung up, and the run goes on', async () => {
    const { tenant, run_id, attempt, job } = await cancelledUnheard();
    await pauseRun(fixture.db, tenant.business_id, run_id, 'hang_up', actor);
    await appear(attempt);
    await resumeRun(fixture.db, tenant.business_id, run_id, fixture.limits, actor);
    await record(fixture, attempt, ended('C-late', 'no_answer'));
    expect(await job()).toMatchObject({ status: 'cancelled', last_outcome: 'no_answer' });
    await expectRecounted(fixture, run_id);
  });

  it('has it hung up in a run that has ended too, and the end of the call settles it', async () => {
    const { tenant, run_id, attempt, job } = await cancelledUnheard(1);
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'completed', needs_review: 1 });
    expect(await appear(attempt)).toBe('unwanted');
    const unwanted = await fixture.rows('SELECT call_id, reason FROM carillon.unwanted_calls WHERE business_id = $1', [
      tenant.business_id,
    ]);
    expect(unwanted).toEqual([{ call_id: 'C-late', reason: 'the job was cancelled' }]);
    await record(fixture, attempt, ended('C-late', 'cancelled'));
    expect(await job()).toMatchObject({ status: 'cancelled', last_outcome: 'cancelled' });
    await expectRecounted(fixture, run_id);
  });

  it('is let live where a person wanted it called again meanwhile', async () => {
    const { attempt, callAgain } = await cancelledUnheard();
    await callAgain();
    expect(await appear(attempt)).toBe('applied');
    expect(await fateOf(attempt)).toEqual(DRAINED);
  });
});
