import type { Seq } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cancelJob } from '../src/call/cancel-job.ts';
import { resolveJob } from '../src/call/resolve.ts';
import { getJob } from '../src/run/read.ts';
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
  fixture = await createFixture();
});
afterAll(async () => await fixture.close());

/** A run of `leads`, the first of which is under review; its attempt, and how to decide about it. */
async function underReview(leads: number, policy = {}) {
  const tenant = await createTenant(fixture, { leads, lines: 1 });
  const run_id = await startRun(fixture, tenant, { policy: { retry: policy, review_always: false } });
  const mine = await lease(fixture, tenant, run_id);
  const [attempt] = await claimAll(fixture, mine, 1);
  if (!attempt) throw new Error('nothing was claimed');
  await record(fixture, attempt, { kind: 'unknown', cause: 'response_timeout' });
  await record(fixture, attempt, await review(fixture, attempt, 'response_timeout'));
  const key = { run_id, seq: 1 as Seq };
  const options = { actor, limits: fixture.limits };
  return {
    tenant,
    run_id,
    mine,
    attempt,
    resolve: (as: 'called' | 'call_again') => resolveJob(fixture.db, tenant.business_id, key, as, options),
    cancel: () => cancelJob(fixture.db, tenant.business_id, key, fixture.limits, actor),
    job: () => getJob(fixture.db, tenant.business_id, key),
    run: () => readRow(fixture, run_id),
    unwanted: async () =>
      await fixture.rows('SELECT call_id, reason FROM carillon.unwanted_calls WHERE business_id = $1', [
        tenant.business_id,
      ]),
    expectTrue: () => expectRecounted(fixture, run_id),
  };
}

describe('a job under review that a person counts as called', () => {
  it('is completed, and nobody calls it again', async () => {
    const { resolve, job, run, mine, expectTrue } = await underReview(2);
    await resolve('called');
    expect(await job()).toMatchObject({ status: 'completed', reason: 'counted as called', last_outcome: 'unknown' });
    expect(await run()).toMatchObject({ status: 'running', completed: 1, needs_review: 0, queued: 1 });
    expect((await claimOnce(fixture, mine)).attempts.map(({ seq }) => seq)).toEqual([2]);
    await expectTrue();
  });

  it('takes what the carrier says in the end, without another call, whatever the policy', async () => {
    const { resolve, job, attempt, run, mine, expectTrue } = await underReview(1, { busy: { times: 3, after_s: 0 } });
    expect(await run()).toMatchObject({ status: 'completed', needs_review: 1 });
    await resolve('called');
    expect(await record(fixture, attempt, ended('C1', 'busy'))).toBe('applied');
    expect(await job()).toMatchObject({ status: 'failed', last_outcome: 'busy', reason: null });
    expect(await run()).toMatchObject({ status: 'completed', failed: 1, completed: 0 });
    expect((await claimOnce(fixture, mine)).state).toBe('lost');
    expect(await record(fixture, attempt, ended('C1', 'busy'))).toBe('nothing');
    await expectTrue();
  });

  it('leaves a call that shows up live alone in a run that goes on, and knows its end', async () => {
    const { resolve, job, attempt, run, unwanted, expectTrue } = await underReview(2);
    await resolve('called');
    expect(await record(fixture, attempt, live('C1', 'in_call'))).toBe('nothing');
    expect(await unwanted()).toEqual([]);
    await record(fixture, attempt, ended('C1', 'completed'));
    expect(await job()).toMatchObject({ status: 'completed', last_outcome: 'completed', reason: null });
    expect(await run()).toMatchObject({ status: 'running', completed: 1, in_progress: 0 });
    await expectTrue();
  });
});

describe('a job under review that is to be called again', () => {
  it('waits, due at once, in a run that goes on, and is called as a further attempt', async () => {
    const { resolve, job, run, mine, expectTrue } = await underReview(2);
    await resolve('call_again');
    expect(await job()).toMatchObject({ status: 'waiting', reason: 'to be called again' });
    expect(await run()).toMatchObject({ waiting: 1, needs_review: 0 });
    const [again] = (await claimOnce(fixture, mine)).attempts;
    expect(again).toMatchObject({ seq: 1, attempt_no: 2 });
    await expectTrue();
  });

  it('is taken back by evidence that comes before the next call', async () => {
    const { resolve, job, attempt, mine, unwanted, expectTrue } = await underReview(1);
    // The run has ended with the review, so a second lead is not needed to see it: there it is left for a follow-up run.
    await resolve('call_again');
    expect(await job()).toMatchObject({ status: 'cancelled', reason: 'to be called again' });
    await record(fixture, attempt, ended('C1', 'completed'));
    expect(await job()).toMatchObject({ status: 'completed', last_outcome: 'completed', reason: null });
    expect(await unwanted()).toEqual([]);
    expect((await claimOnce(fixture, mine)).state).toBe('lost');
    await expectTrue();

    const going = await underReview(2);
    await going.resolve('call_again');
    expect(await record(fixture, going.attempt, live('C2', 'ringing'))).toBe('applied');
    expect(await going.job()).toMatchObject({
      status: 'in_progress',
      attempts_made: [{ call_id: 'C2', state: 'ringing' }],
    });
    expect((await claimOnce(fixture, going.mine)).state).toBe('lines');
    await record(fixture, going.attempt, ended('C2', 'completed'));
    expect(await going.job()).toMatchObject({ status: 'completed', attempts: 1 });
    await going.expectTrue();
  });

  it('has the old call hung up when it shows up after the next one was begun', async () => {
    const { resolve, job, attempt, mine, unwanted, expectTrue } = await underReview(2);
    await resolve('call_again');
    const [again] = (await claimOnce(fixture, mine)).attempts;
    if (!again) throw new Error('nothing was claimed');
    expect(await record(fixture, attempt, live('C1', 'ringing'))).toBe('unwanted');
    expect(await unwanted()).toEqual([{ call_id: 'C1', reason: 'superseded' }]);
    await record(fixture, attempt, ended('C1', 'cancelled'));
    await record(fixture, again, ended('C2', 'completed'));
    expect(await job()).toMatchObject({ status: 'completed', last_outcome: 'completed', attempts: 2 });
    await expectTrue();
  });

  it.each([['completed'], ['cancelled']])('is left for a follow-up run in one that is %s', async (status) => {
    const { tenant, run_id, resolve, job, run, attempt, unwanted, expectTrue } = await underReview(
      status === 'completed' ? 1 : 2,
    );
    if (status === 'cancelled') await stopRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
    const before = await run();
    await resolve('call_again');
    expect(await job()).toMatchObject({ status: 'cancelled', reason: 'to be called again' });
    expect(await run()).toMatchObject({
      status,
      ended_at: before.ended_at,
      needs_review: 0,
      cancelled: before.cancelled + 1,
    });
    const next = await startRun(fixture, tenant, { from_run: { run_id, outcomes: ['cancelled'] } });
    expect(await readRow(fixture, next)).toMatchObject({ total_leads: before.cancelled + 1 });
    expect(await record(fixture, attempt, live('C1', 'in_call'))).toBe('unwanted');
    expect(await unwanted()).toMatchObject([{ call_id: 'C1' }]);
    await expectTrue();
  });
});

describe('deciding twice, or what is not to be decided', () => {
  it('of two people who decide at once one does, and the other hears what became of it', async () => {
    const { resolve, expectTrue, job } = await underReview(2);
    const both = await Promise.allSettled([resolve('called'), resolve('call_again')]);
    expect(both.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    expect(both.find(({ status }) => status === 'rejected')).toMatchObject({
      reason: { code: 'job_state_conflict', details: { action: 'resolved' } },
    });
    expect(['completed', 'waiting']).toContain((await job()).status);
    await expectTrue();
  });

  it('against evidence that comes at the same moment ends with what the carrier said, in either order', async () => {
    for (let round = 0; round < 10; round++) {
      const { resolve, attempt, job, expectTrue } = await underReview(2);
      const as = round % 2 === 0 ? 'called' : 'call_again';
      const [resolved] = await Promise.allSettled([resolve(as), record(fixture, attempt, ended('C1', 'completed'))]);
      if (resolved.status === 'rejected')
        expect(resolved.reason).toMatchObject({ code: 'job_state_conflict', details: { status: 'completed' } });
      expect(await job()).toMatchObject({ status: 'completed', last_outcome: 'completed', reason: null });
      await expectTrue();
    }
  });

  it('against a cancel of the job or a stop of the run leaves a job that nobody calls', async () => {
    for (let round = 0; round < 6; round++) {
      const { tenant, run_id, resolve, cancel, job, mine, expectTrue } = await underReview(2);
      const other = round % 2 === 0 ? cancel() : stopRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
      await Promise.allSettled([resolve('call_again'), other]);
      const { status } = await job();
      // A cancel that came first found nothing that it could cancel.
      expect(status === 'cancelled' || (round % 2 === 0 && status === 'waiting')).toBe(true);
      if (status === 'cancelled')
        expect((await claimOnce(fixture, mine)).attempts.map(({ seq }) => seq)).not.toContain(1);
      await expectTrue();
    }
  });

  it('refuses jobs that are not under review, and those that are not there', async () => {
    const { tenant, run_id, resolve, attempt } = await underReview(2);
    const options = { actor, limits: fixture.limits };
    const queued = resolveJob(fixture.db, tenant.business_id, { run_id, seq: 2 as Seq }, 'called', options);
    await expect(queued).rejects.toMatchObject({ code: 'job_state_conflict', details: { status: 'queued' } });
    const stranger = await createTenant(fixture);
    for (const [business_id, key] of [
      [tenant.business_id, { run_id, seq: 99 as Seq }],
      [stranger.business_id, { run_id, seq: 1 as Seq }],
    ] as const)
      await expect(resolveJob(fixture.db, business_id, key, 'called', options)).rejects.toMatchObject({
        code: 'job_not_found',
      });
    await resolve('call_again');
    await record(fixture, attempt, ended('C1', 'completed'));
    await expect(resolve('called')).rejects.toMatchObject({ code: 'job_state_conflict' });
  });

  it('stands in the trail with who decided, and what', async () => {
    const { tenant, run_id, resolve } = await underReview(2);
    await resolve('call_again');
    const events = await fixture.rows(
      `SELECT actor, subject_type, subject_id, before, after FROM carillon.audit_events
       WHERE business_id = $1 AND action = 'job.resolved'`,
      [tenant.business_id],
    );
    expect(events).toEqual([
      {
        actor: 'test',
        subject_type: 'job',
        subject_id: `${run_id}-1`,
        before: { status: 'needs_review' },
        after: { status: 'waiting', as: 'call_again' },
      },
    ]);
  });
});
