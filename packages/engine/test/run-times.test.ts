import { formatJobId, Seq } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cancelJob } from '../src/call/cancel-job.ts';
import { countCalls } from '../src/run/counts.ts';
import { endOverdueRuns } from '../src/run/end.ts';
import { leaseRuns } from '../src/run/lease.ts';
import { pauseRun } from '../src/run/pause.ts';
import { getJob, getRun, listJobs } from '../src/run/read.ts';
import { resumeRun } from '../src/run/resume.ts';
import { stopRun } from '../src/run/stop.ts';
import {
  actor,
  claimAll,
  claimOnce,
  createFixture,
  createTenant,
  ended,
  type Fixture,
  lease,
  readRow,
  record,
  recount,
  startRun,
} from './support/fixture.ts';

/** Nothing may go wrong in passing. */
const fail = (error: unknown) => {
  throw error;
};

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
});
afterAll(async () => await fixture.close());

async function inHours(hours: number): Promise<string> {
  const [row] = await fixture.rows<{ at: Date }>("SELECT now() + $1 * interval '1 hour' AS at", [hours]);
  return row?.at.toISOString() ?? '';
}

describe('a run’s times', () => {
  it('keep it waiting until it starts, and say so', async () => {
    const tenant = await createTenant(fixture);
    const run_id = await startRun(fixture, tenant, { starts_at: await inHours(1) });
    const { taken } = await leaseRuns(fixture.db, 'worker-1', 0, fixture.limits, fail);
    expect(taken.map((mine) => mine.run_id)).not.toContain(run_id);
    const run = await getRun(fixture.db, tenant.business_id, run_id);
    expect(run.status).toBe('pending');
    expect(run.waiting_reason).toMatch(/^starts at /);
    await fixture.rows("UPDATE carillon.outbound_call_runs SET starts_at = now() - interval '1 s' WHERE run_id = $1", [
      run_id,
    ]);
    const later = await leaseRuns(fixture.db, 'worker-1', 0, fixture.limits, fail);
    expect(later.taken.map((mine) => mine.run_id)).toContain(run_id);
  });

  it('end it, drained, when its end has come', async () => {
    const tenant = await createTenant(fixture, { leads: 5, lines: 2 });
    const run_id = await startRun(fixture, tenant, { ends_at: await inHours(1) });
    const mine = await lease(fixture, tenant, run_id);
    const attempts = await claimAll(fixture, mine, 2);
    await endOverdueRuns(fixture.db, actor, fail);
    expect((await readRow(fixture, run_id)).status).toBe('running');
    await fixture.rows("UPDATE carillon.outbound_call_runs SET ends_at = now() - interval '1 s' WHERE run_id = $1", [
      run_id,
    ]);
    await endOverdueRuns(fixture.db, actor, fail);
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'cancelling', cancelled: 3, in_progress: 2 });
    for (const attempt of attempts) await record(fixture, attempt, ended(`E${attempt.seq}`, 'completed'));
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'cancelled', completed: 2 });
  });

  it('let no call begin after its end, also before anybody has stopped it', async () => {
    const tenant = await createTenant(fixture);
    const run_id = await startRun(fixture, tenant, { ends_at: await inHours(1) });
    const held = await lease(fixture, tenant, run_id);
    await fixture.rows('UPDATE carillon.outbound_call_runs SET ends_at = now() WHERE run_id = $1', [run_id]);
    expect(await claimOnce(fixture, held)).toMatchObject({ state: 'idle', attempts: [] });
    expect((await readRow(fixture, run_id)).status).toBe('running');
  });

  it('let it be paused and resumed without losing its place', async () => {
    const tenant = await createTenant(fixture, { leads: 6, lines: 2 });
    const run_id = await startRun(fixture, tenant);
    const first = await claimAll(fixture, await lease(fixture, tenant, run_id), 2);
    const paused = await pauseRun(fixture.db, tenant.business_id, run_id, 'drain', actor, 'lunch');
    expect(paused).toMatchObject({ status: 'paused', in_flight: 2, waiting_reason: 'lunch', queued: 4 });
    for (const attempt of first) await record(fixture, attempt, ended(`P${attempt.seq}`, 'completed'));
    expect(await resumeRun(fixture.db, tenant.business_id, run_id, fixture.limits, actor)).toMatchObject({
      status: 'running',
    });
    const next = await claimAll(fixture, await lease(fixture, tenant, run_id), 2);
    expect(next.map((attempt) => attempt.seq)).toEqual([3, 4]);
    await stopRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
    await expect(pauseRun(fixture.db, tenant.business_id, run_id, 'drain', actor)).rejects.toMatchObject({
      code: 'run_state_conflict',
    });
    await expect(resumeRun(fixture.db, tenant.business_id, run_id, fixture.limits, actor)).rejects.toMatchObject({
      code: 'run_state_conflict',
    });
  });
});

describe('one job', () => {
  it('is cancelled by itself: at once when queued, with its call when in progress', async () => {
    const tenant = await createTenant(fixture, { leads: 3, lines: 1 });
    const run_id = await startRun(fixture, tenant);
    const [attempt] = await claimAll(fixture, await lease(fixture, tenant, run_id), 1);
    if (!attempt) throw new Error('nothing was claimed');
    const queued = { run_id, seq: Seq.parse(2) };
    await cancelJob(fixture.db, tenant.business_id, queued, fixture.limits, actor);
    await cancelJob(fixture.db, tenant.business_id, queued, fixture.limits, actor);
    expect((await getJob(fixture.db, tenant.business_id, queued)).status).toBe('cancelled');
    await cancelJob(fixture.db, tenant.business_id, attempt, fixture.limits, actor);
    const [open] = await fixture.rows('SELECT hang_up FROM carillon.open_attempts WHERE run_id = $1', [run_id]);
    expect(open).toEqual({ hang_up: 'job' });
    await record(fixture, attempt, ended('J1', 'cancelled'));
    expect(await readRow(fixture, run_id)).toMatchObject({ cancelled: 2, queued: 1, status: 'running' });
    const { kept, counted } = await recount(fixture, run_id);
    expect(kept).toEqual(counted);
  });

  it('that was cancelled is passed by the cursor, and the last one ends the run', async () => {
    const tenant = await createTenant(fixture, { leads: 2, lines: 1 });
    const run_id = await startRun(fixture, tenant);
    await cancelJob(fixture.db, tenant.business_id, { run_id, seq: Seq.parse(1) }, fixture.limits, actor);
    const [attempt] = await claimAll(fixture, await lease(fixture, tenant, run_id), 1);
    expect(attempt?.seq).toBe(2);
    if (attempt) await record(fixture, attempt, ended('J2', 'completed'));
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'completed', completed: 1, cancelled: 1 });
    await expect(
      cancelJob(fixture.db, tenant.business_id, { run_id, seq: Seq.parse(2) }, fixture.limits, actor),
    ).rejects.toMatchObject({ code: 'job_state_conflict' });
  });

  it('of another business is not found, in the words for one that does not exist', async () => {
    const tenant = await createTenant(fixture, { leads: 1 });
    const other = await createTenant(fixture, { leads: 1 });
    const run_id = await startRun(fixture, other);
    const key = { run_id, seq: Seq.parse(1) };
    const code = { code: 'job_not_found' };
    await expect(cancelJob(fixture.db, tenant.business_id, key, fixture.limits, actor)).rejects.toMatchObject(code);
    await expect(getJob(fixture.db, tenant.business_id, key)).rejects.toMatchObject(code);
    for (const act of [
      () => getRun(fixture.db, tenant.business_id, run_id),
      () => pauseRun(fixture.db, tenant.business_id, run_id, 'drain', actor),
      () => resumeRun(fixture.db, tenant.business_id, run_id, fixture.limits, actor),
      () => stopRun(fixture.db, tenant.business_id, run_id, 'hang_up', actor),
      () => listJobs(fixture.db, tenant.business_id, run_id, { limit: 5 }),
    ])
      await expect(act()).rejects.toMatchObject({ code: 'run_not_found' });
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'pending', control_epoch: 0 });
  });
});

describe('reading', () => {
  it('pages by key, and shows a stopped run’s jobs as what they are before their rows are swept', async () => {
    const tenant = await createTenant(fixture, { leads: 5, lines: 1 });
    const run_id = await startRun(fixture, tenant);
    await stopRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
    const first = await listJobs(fixture.db, tenant.business_id, run_id, { status: 'cancelled', limit: 3 });
    expect(first.items.map((job) => job.job_id)).toEqual(
      [1, 2, 3].map((seq) => formatJobId({ run_id, seq: Seq.parse(seq) })),
    );
    const rest = await listJobs(fixture.db, tenant.business_id, run_id, {
      status: 'cancelled',
      after: Number(first.next),
      limit: 3,
    });
    expect(rest).toMatchObject({ items: [{ status: 'cancelled' }, { status: 'cancelled' }], next: null });
    expect((await listJobs(fixture.db, tenant.business_id, run_id, { status: 'queued', limit: 3 })).items).toEqual([]);
  });

  it('counts what is live, queued and finished of one business alone', async () => {
    const tenant = await createTenant(fixture, { leads: 4, lines: 3 });
    const other = await createTenant(fixture, { leads: 4, lines: 3 });
    await claimAll(fixture, await lease(fixture, other, await startRun(fixture, other)), 3);
    const mine = await lease(fixture, tenant, await startRun(fixture, tenant));
    const [attempt] = await claimAll(fixture, mine, 3);
    if (attempt) await record(fixture, attempt, ended('K1', 'completed'));
    expect(await countCalls(fixture.db, tenant.business_id)).toEqual({
      live: 2,
      queued: 1,
      finished_today: 1,
      concurrency_limit: 3,
    });
  });
});
