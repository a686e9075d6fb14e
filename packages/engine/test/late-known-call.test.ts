import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { resolveJob } from '../src/call/resolve.ts';
import { getJob } from '../src/run/read.ts';
import {
  actor,
  claimOnce,
  createFixture,
  ended,
  expectRecounted,
  type Fixture,
  firstAttempts,
  live,
  readRow,
  record,
  review,
} from './support/fixture.ts';

/** Late evidence of calls whose ids are known: of those that nobody could tell of any more, and of two of one lead. */

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture({ dial_deadline_ms: 1 });
});
afterAll(async () => await fixture.close());

async function oneAttempt(leads = 2) {
  const first = await firstAttempts(fixture, leads);
  const { tenant, run_id, attempt } = first;
  const key = { run_id, seq: attempt.seq };
  const options = { actor, limits: fixture.limits };
  return {
    ...first,
    job: async () => await getJob(fixture.db, tenant.business_id, key),
    callAgain: async () => await resolveJob(fixture.db, tenant.business_id, key, 'call_again', options),
    unwanted: async () =>
      await fixture.rows(
        'SELECT call_id, reason FROM carillon.unwanted_calls WHERE business_id = $1 ORDER BY call_id',
        [tenant.business_id],
      ),
    open: async () =>
      await fixture.rows('SELECT attempt_no, state, call_id FROM carillon.open_attempts WHERE run_id = $1', [run_id]),
  };
}

/** A call that the carrier accepted, and could not tell of any more. */
async function lostSight(leads = 2) {
  const made = await oneAttempt(leads);
  await record(fixture, made.attempt, { kind: 'accepted', call_id: 'C1' });
  await record(fixture, made.attempt, await review(fixture, made.attempt, 'http_401'));
  expect(await made.job()).toMatchObject({ status: 'needs_review', reason: 'http_401' });
  return made;
}

describe('a call under review whose id is known', () => {
  it.each([
    ['goes on', 2],
    ['has ended', 1],
  ])('settles its job with its end, in a run that %s', async (_, leads) => {
    const { run_id, attempt, job } = await lostSight(leads);
    expect(await record(fixture, attempt, ended('C1', 'completed'))).toBe('applied');
    expect(await job()).toMatchObject({ status: 'completed', last_outcome: 'completed', reason: null });
    expect(await readRow(fixture, run_id)).toMatchObject({ completed: 1, needs_review: 0 });
    expect(await record(fixture, attempt, ended('C1', 'completed'))).toBe('nothing');
    const history = await fixture.rows('SELECT revision, outcome, call_id FROM carillon.attempts WHERE run_id = $1', [
      run_id,
    ]);
    expect(history).toEqual([
      { revision: 0, outcome: 'unknown', call_id: 'C1' },
      { revision: 1, outcome: 'completed', call_id: 'C1' },
    ]);
    await expectRecounted(fixture, run_id);
  });

  it('is taken back when it shows to be live', async () => {
    const { run_id, mine, attempt, job, open } = await lostSight();
    expect(await record(fixture, attempt, live('C1', 'in_call'))).toBe('applied');
    expect(await open()).toEqual([{ attempt_no: 1, state: 'in_call', call_id: 'C1' }]);
    expect((await claimOnce(fixture, mine)).state).toBe('lines');
    await record(fixture, attempt, ended('C1', 'completed'));
    expect(await job()).toMatchObject({ status: 'completed', attempts: 1 });
    await expectRecounted(fixture, run_id);
  });

  it('is hung up when it shows to be live after its lead was called again', async () => {
    const { run_id, mine, attempt, job, callAgain, unwanted } = await lostSight();
    await callAgain();
    const [again] = (await claimOnce(fixture, mine)).attempts;
    if (!again) throw new Error('nothing was claimed');
    expect(await record(fixture, attempt, live('C1', 'in_call'))).toBe('unwanted');
    expect(await unwanted()).toEqual([{ call_id: 'C1', reason: 'superseded' }]);
    await record(fixture, attempt, ended('C1', 'cancelled'));
    await record(fixture, again, ended('C2', 'completed'));
    expect(await job()).toMatchObject({ status: 'completed', last_outcome: 'completed', attempts: 2 });
    await expectRecounted(fixture, run_id);
  });

  it('is still told from a second call under its token, which is hung up', async () => {
    const { attempt, job, unwanted } = await lostSight();
    expect(await record(fixture, attempt, live('C2', 'ringing'))).toBe('unwanted');
    expect(await unwanted()).toEqual([{ call_id: 'C2', reason: 'a second call for one attempt' }]);
    expect(await job()).toMatchObject({ status: 'needs_review' });
  });
});

describe('a review', () => {
  it('of an attempt that was unknown is nothing once its call is known, whose line it would free', async () => {
    const { mine, attempt, open } = await oneAttempt();
    await record(fixture, attempt, { kind: 'unknown', cause: 'timeout' });
    const judged = await review(fixture, attempt);
    await record(fixture, attempt, live('C1', 'in_call'));
    expect(await record(fixture, attempt, judged)).toBe('nothing');
    expect(await open()).toEqual([{ attempt_no: 1, state: 'in_call', call_id: 'C1' }]);
    expect((await claimOnce(fixture, mine)).state).toBe('lines');
  });

  it('of a call of which the carrier could not tell is nothing once it was heard of again', async () => {
    const { attempt, open } = await oneAttempt();
    await record(fixture, attempt, live('C1', 'in_call'));
    const judged = await review(fixture, attempt, 'http_500');
    await record(fixture, attempt, live('C1', 'in_call'));
    expect(await record(fixture, attempt, judged)).toBe('nothing');
    expect(await open()).toEqual([{ attempt_no: 1, state: 'in_call', call_id: 'C1' }]);
  });
});

describe('two attempts of one lead that were believed absent', () => {
  it('and both show up, the older one first: it is taken back, and the other is hung up', async () => {
    const { run_id, mine, attempt, job, unwanted } = await oneAttempt(1);
    const attempts = [attempt];
    for (const one of attempts) {
      await record(fixture, one, { kind: 'unknown', cause: 'timeout' });
      await record(fixture, one, { kind: 'absent' });
      if (attempts.length < 2) attempts.push(...(await claimOnce(fixture, mine)).attempts);
    }
    const [first, second] = attempts;
    if (!first || !second) throw new Error('two are wanted');
    expect(await record(fixture, first, live('C1', 'in_call'))).toBe('applied');
    expect(await record(fixture, second, live('C2', 'ringing'))).toBe('unwanted');
    expect(await unwanted()).toEqual([{ call_id: 'C2', reason: 'superseded' }]);
    expect(await record(fixture, second, ended('C2', 'cancelled'))).toBe('applied');
    expect(await job()).toMatchObject({ status: 'in_progress' });
    await record(fixture, first, ended('C1', 'completed'));
    expect(await job()).toMatchObject({ status: 'completed', last_outcome: 'completed' });
    await expectRecounted(fixture, run_id);
  });
});
