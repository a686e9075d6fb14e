import type { RefusalClass, RunId } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AttemptKey } from '../src/call/attempt.ts';
import { resumeLane } from '../src/business/carrier-accounts.ts';
import { recordEvidence } from '../src/call/record.ts';
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

/** Whether a refusal speaks of one lead or of the lane: told by what the carrier takes in between. */

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
});
afterAll(async () => await fixture.close());

async function start(leads: number, lines = 1) {
  const tenant = await createTenant(fixture, { leads, lines });
  const run_id = await startRun(fixture, tenant);
  return { tenant, run_id, mine: await lease(fixture, tenant, run_id) };
}

/** The next one who is called, when every halt and every wait is over. */
async function next({ tenant, run_id, mine }: { tenant: Tenant; run_id: RunId; mine: Lease }) {
  await fixture.rows('UPDATE carillon.lanes SET halted_until_us = 1 WHERE business_id = $1 AND halted_until_us > 0', [
    tenant.business_id,
  ]);
  await fixture.rows('UPDATE carillon.job_schedule SET due_us = due_us - 1000000000 WHERE run_id = $1', [run_id]);
  return (await claimOnce(fixture, mine)).attempts[0];
}

const refuse = async (attempt: AttemptKey, its_class: RefusalClass, code = '21210') =>
  await record(fixture, attempt, { kind: 'rejected', code, class: its_class });

const answer = async (attempt: AttemptKey) =>
  await record(fixture, attempt, ended(`C${attempt.run_id}-${attempt.seq}-${attempt.attempt_no}`, 'completed'));

async function laneOf({ business_id }: Tenant) {
  const [lane] = await fixture.rows<{ refusals_in_a_row: number; unlisted_refusals: number; halted: string | null }>(
    `SELECT refusals_in_a_row, unlisted_refusals, trusted, halted_reason AS halted, xmin::text AS written_by
     FROM carillon.lanes WHERE business_id = $1`,
    [business_id],
  );
  return lane;
}

async function jobOf(run_id: RunId, seq: number) {
  const [job] = await fixture.rows(
    'SELECT status, attempts, reason FROM carillon.outbound_call_jobs WHERE run_id = $1 AND seq = $2',
    [run_id, seq],
  );
  return job;
}

/** Calls on until the run has nobody else: lead 1 is refused each time, and all others are answered. */
async function refuseFirst(made: Awaited<ReturnType<typeof start>>, its_class: RefusalClass, times: number) {
  let refused = 0;
  while (refused < times) {
    const attempt = await next(made);
    if (!attempt) throw new Error(`nothing was claimed after ${refused} refusals`);
    if (attempt.seq === 1) {
      await refuse(attempt, its_class);
      refused++;
    } else await answer(attempt);
  }
}

describe('a lead at which the lane is refused each time', () => {
  it('is left to a person after four times, if others were called in between; the run goes on', async () => {
    const made = await start(8);
    const { run_id } = made;
    await refuseFirst(made, 'lane', 3);
    expect(await jobOf(run_id, 1)).toMatchObject({ status: 'waiting', attempts: 3 });
    await refuseFirst(made, 'lane', 1);
    expect(await jobOf(run_id, 1)).toEqual({
      status: 'needs_review',
      attempts: 4,
      reason: 'given up: refused 4 times with 21210, while others were called',
    });
    for (let attempt = await next(made); attempt; attempt = await next(made)) await answer(attempt);
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'completed', completed: 7, needs_review: 1 });
    await expectRecounted(fixture, run_id);
  });

  it('is cancelled like every other where its run is stopped, and not left to a person', async () => {
    const made = await start(8);
    const { run_id, tenant } = made;
    await refuseFirst(made, 'lane', 3);
    let attempt = await next(made);
    while (attempt && attempt.seq !== 1) {
      await answer(attempt);
      attempt = await next(made);
    }
    if (!attempt) throw new Error('nothing was claimed');
    await stopRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
    await refuse(attempt, 'lane');
    expect(await jobOf(run_id, 1)).toMatchObject({ status: 'cancelled' });
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'cancelled', needs_review: 0 });
  });

  it('is nobody special where everybody is refused, however often', async () => {
    const made = await start(3);
    for (let times = 0; times < 12; times++) await refuse((await next(made)) as AttemptKey, 'lane', '20003');
    expect(await readRow(fixture, made.run_id)).toMatchObject({ status: 'running', waiting: 3, needs_review: 0 });
    // Nor when it is trusted again, and refuses once more: what came before was nobody's fault.
    await answer((await next(made)) as AttemptKey);
    for (let times = 0; times < 2; times++) await refuse((await next(made)) as AttemptKey, 'lane', '20003');
    expect(await readRow(fixture, made.run_id)).toMatchObject({ completed: 1, waiting: 2, needs_review: 0 });
  });

  it('is nobody special either where a person lets the lane go on after each refusal, and nobody is called', async () => {
    const made = await start(1);
    const { tenant, run_id } = made;
    for (let times = 0; times < 6; times++) {
      const attempt = await next(made);
      if (!attempt) throw new Error('nothing was claimed');
      await refuse(attempt, 'lane', '20003');
      await resumeLane(fixture.db, tenant.business_id, tenant.carrier_account_id, actor);
    }
    expect(await jobOf(run_id, 1)).toMatchObject({ status: 'waiting', attempts: 6 });
    expect(await laneOf(tenant)).toMatchObject({ refusals_in_a_row: 0, trusted: false });
    await answer((await next(made)) as AttemptKey);
    expect(await laneOf(tenant)).toMatchObject({ trusted: true });
  });

  it('is not one at which the carrier had too much to do, whenever it came', async () => {
    const made = await start(8);
    await refuseFirst(made, 'again', 6);
    expect(await jobOf(made.run_id, 1)).toMatchObject({ status: 'waiting', attempts: 6 });
  });
});

describe('refusals with codes that nobody knows', () => {
  it('fail their leads; after five in a row the lane is halted and probed, and the leads wait', async () => {
    const made = await start(9);
    const { tenant, run_id } = made;
    for (let times = 0; times < 5; times++) await refuse((await next(made)) as AttemptKey, 'unlisted', '29999');
    expect(await readRow(fixture, run_id)).toMatchObject({ failed: 5, waiting: 0 });
    expect(await laneOf(tenant)).toMatchObject({ refusals_in_a_row: 0, halted: null });
    for (let times = 0; times < 9; times++) await refuse((await next(made)) as AttemptKey, 'unlisted', '29999');
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'running', failed: 5, needs_review: 0 });
    expect(await laneOf(tenant)).toMatchObject({ refusals_in_a_row: 9, halted: '29999' });
    expect((await claimOnce(fixture, made.mine)).state).toBe('halted');
    for (let attempt = await next(made); attempt; attempt = await next(made)) await answer(attempt);
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'completed', completed: 4, failed: 5 });
    expect(await laneOf(tenant)).toMatchObject({ refusals_in_a_row: 0, unlisted_refusals: 0, halted: null });
    await expectRecounted(fixture, run_id);
  });

  it('count also where they come together, in one transaction', async () => {
    const { tenant, run_id, mine } = await start(8, 8);
    const items = (await claimAll(fixture, mine, 8)).map((key) => ({
      key,
      evidence: { kind: 'rejected', code: '29999', class: 'unlisted' } as const,
      actor,
    }));
    await recordEvidence(fixture.db, tenant.business_id, run_id, items, fixture.limits);
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'running', failed: 5, waiting: 3 });
    expect(await laneOf(tenant)).toMatchObject({ refusals_in_a_row: 1, halted: '29999' });
    await expectRecounted(fixture, run_id);
  });

  it('begin anew with each call that is accepted, which is no event while the lane was not halted', async () => {
    const made = await start(12);
    const { tenant, run_id } = made;
    for (let round = 0; round < 2; round++) {
      for (let times = 0; times < 5; times++) await refuse((await next(made)) as AttemptKey, 'unlisted', '29999');
      await answer((await next(made)) as AttemptKey);
    }
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'completed', failed: 10, completed: 2 });
    const events = await fixture.rows(
      "SELECT action FROM carillon.audit_events WHERE business_id = $1 AND subject_type = 'carrier_account'",
      [tenant.business_id],
    );
    expect(events).toEqual([]);
  });

  it('are not those of a number that is known to be none: these neither count nor come between', async () => {
    const made = await start(12);
    const { run_id } = made;
    for (let times = 0; times < 6; times++) await refuse((await next(made)) as AttemptKey, 'contact', '21211');
    for (let times = 0; times < 4; times++) await refuse((await next(made)) as AttemptKey, 'unlisted', '29999');
    await refuse((await next(made)) as AttemptKey, 'contact', '21211');
    await refuse((await next(made)) as AttemptKey, 'unlisted', '29999');
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'completed', failed: 12 });
    const again = { ...made, run_id: await startRun(fixture, made.tenant) };
    again.mine = await lease(fixture, made.tenant, again.run_id);
    await refuse((await next(again)) as AttemptKey, 'unlisted', '29999');
    expect(await readRow(fixture, again.run_id)).toMatchObject({ failed: 0, waiting: 1 });
  });
});

describe('a lane that nobody distrusts', () => {
  it('is not written to by a call that is accepted', async () => {
    const made = await start(2);
    await answer((await next(made)) as AttemptKey);
    const attempt = await next(made);
    const before = await laneOf(made.tenant);
    await answer(attempt as AttemptKey);
    expect(await laneOf(made.tenant)).toEqual(before);
  });
});
