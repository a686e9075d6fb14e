import type { RunId, Seq } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { type AttemptKey, NOBODY_SAID, OWN_ERROR } from '../src/call/attempt.ts';
import { TRIED_LAST } from '../src/call/close.ts';
import { resolveJob } from '../src/call/resolve.ts';
import { expireDialing, findDue } from '../src/call/tend.ts';
import type { Lease } from '../src/run/lease.ts';
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
  readRow,
  record,
  startRun,
  type Tenant,
} from './support/fixture.ts';

/** What becomes of leads whose dials end with their worker: each death is played by rows that nobody speaks for. */

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture({ dial_deadline_ms: 1 });
});
afterAll(async () => await fixture.close());

let worker_no = 0;

/** The run's worker is dead, and a new one takes it. */
async function nextWorker(tenant: Tenant, run_id: RunId): Promise<{ mine: Lease; name: string }> {
  await fixture.rows("UPDATE carillon.outbound_call_runs SET lock_ts = now() - interval '1 hour' WHERE run_id = $1", [
    run_id,
  ]);
  const name = `worker-${worker_no++}`;
  return { mine: await lease(fixture, tenant, run_id, name), name };
}

/** The reaper comes by, once their deadline is past. */
async function expire(attempts: AttemptKey[]): Promise<void> {
  const [{ run_id } = { run_id: 0 }] = attempts;
  const overdue = async () => {
    const due = await findDue(fixture.db, fixture.limits);
    const mine = due.filter((one) => one.run_id === run_id && one.errand === 'expire');
    return mine.length === attempts.length ? mine : null;
  };
  const due = await until(overdue, { deadline_ms: 10_000, what: 'attempts past their dial deadline' });
  expect(await expireDialing(fixture.db, due)).toBe(attempts.length);
}

/** Nobody says what became of these: the reaper finds them, and the carrier's list proves that there was no call. */
async function die(attempts: AttemptKey[]): Promise<void> {
  await expire(attempts);
  for (const attempt of attempts) await record(fixture, attempt, { kind: 'absent' });
}

/** Claims what there is, and dies with the poison among it; otherwise each call is answered. */
async function workOnce(tenant: Tenant, run_id: RunId, poison: ReadonlySet<number>): Promise<number[]> {
  const { mine, name } = await nextWorker(tenant, run_id);
  const attempts = await claimAll(fixture, mine, 1, name);
  const died = attempts.some(({ seq }) => poison.has(seq));
  if (died) await die(attempts);
  else for (const attempt of attempts) await record(fixture, attempt, ended(`C${run_id}-${attempt.seq}`, 'completed'));
  await expectRecounted(fixture, run_id);
  return attempts.map(({ seq }) => seq);
}

async function start(leads: number, lines: number) {
  const tenant = await createTenant(fixture, { leads, lines });
  return { tenant, run_id: await startRun(fixture, tenant) };
}

async function jobOf(run_id: RunId, seq: number) {
  const [job] = await fixture.rows(
    `SELECT j.status, j.attempts, coalesce(s.reason, j.reason) AS reason FROM carillon.outbound_call_jobs j
     LEFT JOIN carillon.job_schedule s USING (business_id, run_id, seq) WHERE j.run_id = $1 AND j.seq = $2`,
    [run_id, seq],
  );
  return job;
}

/** Works on until the run has ended, and returns who was claimed each time. */
async function workToTheEnd(tenant: Tenant, run_id: RunId, poison: ReadonlySet<number>): Promise<number[][]> {
  const rounds: number[][] = [];
  while ((await readRow(fixture, run_id)).ended_at === null) {
    if (rounds.length > 60) throw new Error(`the run does not end: ${JSON.stringify(rounds)}`);
    const claimed = await workOnce(tenant, run_id, poison).catch((error: Error) => {
      // A run that is failed is given to nobody.
      if (!error.message.includes('not leased')) throw error;
      return [];
    });
    rounds.push(claimed);
  }
  return rounds;
}

describe('a lead whose dials end with their worker', () => {
  it('does not stop its run: the others are called, it is tried last and alone, and then left to a person', async () => {
    const { tenant, run_id } = await start(12, 4);
    const rounds = await workToTheEnd(tenant, run_id, new Set([2]));
    expect(await readRow(fixture, run_id)).toMatchObject({
      status: 'completed',
      completed: 11,
      needs_review: 1,
      last_error: null,
    });
    const withIt = rounds.filter((round) => round.includes(2));
    expect(withIt).toHaveLength(fixture.limits.fruitless_attempts);
    expect(withIt.slice(2)).toEqual([[2], [2]]);
    expect(await jobOf(run_id, 2)).toMatchObject({
      status: 'needs_review',
      attempts: 4,
      reason: expect.stringMatching(/^given up: 4 dials/),
    });
    // Those that were dialled beside it are called, each once.
    expect(rounds.flat().filter((seq) => seq === 1).length).toBeGreaterThan(1);
    const calls = await fixture.rows(
      `SELECT seq FROM carillon.attempts WHERE run_id = $1 AND call_id IS NOT NULL GROUP BY seq HAVING count(*) = 1`,
      [run_id],
    );
    expect(calls).toHaveLength(11);
  });

  it('waits while there is anybody else, and while anybody else is being dialled', async () => {
    const { tenant, run_id } = await start(5, 3);
    for (const _ of [1, 2]) await workOnce(tenant, run_id, new Set([1]));
    expect(await jobOf(run_id, 1)).toMatchObject({ status: 'waiting', reason: TRIED_LAST });
    const { mine, name } = await nextWorker(tenant, run_id);
    const [one, other, ...more] = await claimAll(fixture, mine, 2, name);
    expect([one?.seq, other?.seq, more]).toEqual([4, 5, []]);
    if (!one || !other) throw new Error('two are wanted');
    await record(fixture, one, ended('C4', 'completed'));
    expect((await claimOnce(fixture, mine, name)).attempts).toEqual([]);
    await record(fixture, other, { kind: 'accepted', call_id: 'C5' });
    const { attempts, again_monotonic_ms } = await claimOnce(fixture, mine, name);
    expect(attempts.map(({ seq }) => seq)).toEqual([1]);
    // Not asked for again at once: two more wait until this one has been dialled.
    expect(again_monotonic_ms).toBeNull();
    expect((await claimOnce(fixture, mine, name)).attempts).toEqual([]);
  });

  it.each([
    ['whose dialler lives and says that the answer was lost', { kind: 'unknown', cause: 'response_timeout' }],
    ['that the carrier refuses', { kind: 'rejected', code: '20429', class: 'again' }],
  ] as const)('is not one %s, however often: the carrier is to blame', async (_, evidence) => {
    const { tenant, run_id } = await start(1, 1);
    for (let round = 0; round < 6; round++) {
      const { mine, name } = await nextWorker(tenant, run_id);
      await fixture.rows('UPDATE carillon.lanes SET halted_until_us = 1 WHERE halted_until_us IS NOT NULL');
      await fixture.rows('UPDATE carillon.job_schedule SET due_us = 1 WHERE run_id = $1', [run_id]);
      const [attempt] = await claimAll(fixture, mine, 1, name);
      if (!attempt) throw new Error('nothing was claimed');
      // The reaper is quicker than the dialler.
      await expire([attempt]);
      await record(fixture, attempt, evidence);
      await record(fixture, attempt, { kind: 'absent' });
      await fixture.rows('UPDATE carillon.outbound_call_runs SET fruitless_leases = 0 WHERE run_id = $1', [run_id]);
    }
    const job = await jobOf(run_id, 1);
    expect(job).toMatchObject({ status: 'waiting', attempts: 6 });
    expect(job?.reason).not.toBe(TRIED_LAST);
  });

  it('is one that throws in our own code as well', async () => {
    const { tenant, run_id } = await start(1, 1);
    for (let round = 0; round < 4; round++) {
      const { mine, name } = await nextWorker(tenant, run_id);
      await fixture.rows('UPDATE carillon.lanes SET halted_until_us = 1 WHERE halted_until_us IS NOT NULL');
      await fixture.rows('UPDATE carillon.job_schedule SET due_us = 1 WHERE run_id = $1', [run_id]);
      const [attempt] = await claimAll(fixture, mine, 1, name);
      if (!attempt) throw new Error('nothing was claimed');
      await record(fixture, attempt, { kind: 'not_dialed', cause: OWN_ERROR, unreachable: true });
    }
    expect(await jobOf(run_id, 1)).toMatchObject({ status: 'needs_review', attempts: 4 });
  });

  it('is called again where a person says so, and left to a person again at its next death', async () => {
    const { tenant, run_id } = await start(2, 2);
    const talking: AttemptKey[] = [];
    while ((await jobOf(run_id, 1))?.status !== 'needs_review') {
      const { mine, name } = await nextWorker(tenant, run_id);
      const attempts = await claimAll(fixture, mine, 1, name);
      const [second] = attempts;
      if (attempts.length === 1 && second?.seq === 2) {
        await record(fixture, second, { kind: 'accepted', call_id: 'C2' });
        talking.push(second);
      } else await die(attempts);
    }
    expect(talking).toHaveLength(1);
    const options = { actor, limits: fixture.limits };
    await resolveJob(fixture.db, tenant.business_id, { run_id, seq: 1 as Seq }, 'call_again', options);
    expect(await workOnce(tenant, run_id, new Set([1]))).toEqual([1]);
    expect(await jobOf(run_id, 1)).toMatchObject({
      status: 'needs_review',
      attempts: 5,
      reason: expect.stringMatching(/^given up: 5 dials/),
    });
  });

  it('is cancelled like every other where its run is stopped, and not left to a person', async () => {
    const { tenant, run_id } = await start(1, 1);
    for (let death = 0; death < 3; death++) await workOnce(tenant, run_id, new Set([1]));
    const { mine, name } = await nextWorker(tenant, run_id);
    const attempts = await claimAll(fixture, mine, 1, name);
    await stopRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
    await die(attempts);
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'cancelled', cancelled: 1, needs_review: 0 });
  });
});

describe('a run', () => {
  it('of which some leads end their workers still ends, with those left to a person', async () => {
    const { tenant, run_id } = await start(20, 5);
    await workToTheEnd(tenant, run_id, new Set([3, 4, 11]));
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'completed', completed: 17, needs_review: 3 });
  });

  it('is not failed for the leads that are tried alone at its end, however many workers die of them', async () => {
    const { tenant, run_id } = await start(9, 3);
    const rounds = await workToTheEnd(tenant, run_id, new Set([1, 2, 3]));
    // Twice together, then each of them twice alone: more in a row than a run may have of leases that come to nothing.
    expect(rounds.filter((round) => round.some((seq) => seq <= 3))).toHaveLength(2 + 3 * 2);
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'completed', completed: 6, needs_review: 3 });
  });

  it('of which every lead ends its worker fails, before all of them are tried to the end', async () => {
    const { tenant, run_id } = await start(40, 5);
    const all = new Set(Array.from({ length: 40 }, (_, i) => i + 1));
    const rounds = await workToTheEnd(tenant, run_id, all);
    const row = await readRow(fixture, run_id);
    expect(row).toMatchObject({
      status: 'failed',
      completed: 0,
      last_error: expect.stringMatching(/workers in a row/),
    });
    expect(rounds.length).toBeLessThan(4 * fixture.limits.fruitless_leases * fixture.limits.fruitless_attempts);
    await expectRecounted(fixture, run_id);
  });

  it('of few leads that all end their workers ends as well, though none waits for another’s grace', async () => {
    const { tenant, run_id } = await start(8, 8);
    await workToTheEnd(tenant, run_id, new Set([1, 2, 3, 4, 5, 6, 7, 8]));
    const row = await readRow(fixture, run_id);
    expect(row).toMatchObject({
      status: 'failed',
      completed: 0,
      last_error: expect.stringMatching(/workers in a row/),
    });
    expect(row.needs_review).toBeLessThanOrEqual(fixture.limits.fruitless_leases);
  });
});

it('is told from others by the cause that the reaper gives', async () => {
  const { tenant, run_id } = await start(1, 1);
  await workOnce(tenant, run_id, new Set([1]));
  expect(await fixture.rows('SELECT outcome, cause FROM carillon.attempts WHERE run_id = $1', [run_id])).toEqual([
    { outcome: 'absent', cause: NOBODY_SAID },
  ]);
});
