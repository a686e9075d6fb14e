import type { JobKey, RunId, Seq } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { resolveJob } from '../src/call/resolve.ts';
import { withdrawJobs } from '../src/call/withdraw.ts';
import { inBusiness } from '../src/db/database.ts';
import type { Lease } from '../src/run/lease.ts';
import { lockRun } from '../src/run/row.ts';
import {
  actor,
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

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
});
afterAll(async () => await fixture.close());

/** Puts queued jobs under review, as a restore does with those who were called before it, and a person has them called. */
async function callAgain(tenant: Tenant, run_id: RunId, ...seqs: number[]): Promise<void> {
  const options = { limits: fixture.limits, actor };
  await inBusiness(fixture.db, tenant.business_id, async (tx) => {
    const jobs = seqs.map((seq) => ({ seq: seq as Seq, status: 'queued' as const }));
    withdrawJobs(tx, await lockRun(tx, run_id), jobs, { status: 'needs_review', reason: 'forgotten' }, options);
  });
  for (const seq of seqs) {
    const job: JobKey = { run_id, seq: seq as Seq };
    await resolveJob(fixture.db, tenant.business_id, job, 'call_again', options);
  }
}

/** Claims and ends calls until the run gives no more; who was called, in turn. */
async function callAll(mine: Lease): Promise<number[]> {
  const called: number[] = [];
  for (;;) {
    const { attempts, state } = await claimOnce(fixture, mine);
    for (const attempt of attempts) await record(fixture, attempt, ended(`CA${attempt.token}`, 'completed'));
    called.push(...attempts.map(({ seq }) => seq));
    if (state === 'idle' || state === 'lost') return called;
  }
}

describe('a job that waits ahead of the cursor', () => {
  it.each([1, 2, 100])('is called once, and so is everybody before and after it, with %i lines', async (lines) => {
    const tenant = await createTenant(fixture, { leads: 10, lines, calls_per_second: 1_000 });
    const run_id = await startRun(fixture, tenant);
    const mine = await lease(fixture, tenant, run_id);
    await callAgain(tenant, run_id, 7, 10);
    const called = await callAll(mine);
    expect(called.toSorted((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'completed', completed: 10 });
    await expectRecounted(fixture, run_id);
  });

  it('is passed by the cursor where it is not due, and called when it is', async () => {
    const tenant = await createTenant(fixture, { leads: 3, lines: 5, calls_per_second: 1_000 });
    const run_id = await startRun(fixture, tenant);
    const mine = await lease(fixture, tenant, run_id);
    await callAgain(tenant, run_id, 2);
    await fixture.rows('UPDATE carillon.job_schedule SET due_us = due_us + 60000000 WHERE run_id = $1', [run_id]);
    expect(await callAll(mine)).toEqual([1, 3]);
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'running', waiting: 1, claim_cursor: 4 });
    await fixture.rows('UPDATE carillon.job_schedule SET due_us = due_us - 60000000 WHERE run_id = $1', [run_id]);
    expect(await callAll(mine)).toEqual([2]);
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'completed', completed: 3 });
  });
});
