import type { RunId, Seq } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cancelJob } from '../src/call/cancel-job.ts';
import { closeAttempts, moveCounters } from '../src/call/close.ts';
import { resolveJob } from '../src/call/resolve.ts';
import { GuardError, inBusiness } from '../src/db/database.ts';
import { eraseLead } from '../src/lead/erase.ts';
import { reviewForgotten } from '../src/restore/review.ts';
import { fillAhead } from '../src/run/fill.ts';
import { lockRun } from '../src/run/row.ts';
import { stopRun } from '../src/run/stop.ts';
import { behind } from './support/behind.ts';
import {
  actor,
  claimAll,
  claimOnce,
  createFixture,
  createTenant,
  ended,
  type Fixture,
  lease,
  live,
  record,
  review,
  startRun,
  type Tenant,
} from './support/fixture.ts';

/**
 * Each write of a job says in which state the job is, and how many it touches. Everybody changes jobs under their run's
 * lock, so that both hold; here somebody changes one without, between the look and the write, and nothing is written.
 */

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture({ fill_batch_jobs: 2, fill_ahead_jobs: 100 });
});
afterAll(async () => await fixture.close());

async function claimed(leads = 1, lines = 1) {
  const tenant = await createTenant(fixture, { leads, lines });
  const run_id = await startRun(fixture, tenant);
  const mine = await lease(fixture, tenant, run_id);
  const [attempt] = await claimAll(fixture, mine, lines);
  if (!attempt) throw new Error('nothing was claimed');
  return { tenant, run_id, mine, attempt };
}

/** What a business's jobs, attempts and runs are, to see that nothing has changed. */
async function factsOf({ business_id }: Tenant): Promise<unknown[]> {
  const facts = [];
  for (const sql of [
    `SELECT seq, status, attempts FROM carillon.outbound_call_jobs WHERE business_id = $1 ORDER BY run_id, seq`,
    `SELECT seq, state, call_id FROM carillon.open_attempts WHERE business_id = $1 ORDER BY run_id, seq`,
    `SELECT seq, attempt_no, revision, outcome FROM carillon.attempts WHERE business_id = $1 ORDER BY 1, 2, 3`,
    `SELECT seq, due_us FROM carillon.job_schedule WHERE business_id = $1 ORDER BY run_id, seq`,
    `SELECT run_id, status, queued, waiting, in_progress, completed, failed, cancelled, skipped, needs_review, claim_cursor
     FROM carillon.outbound_call_runs WHERE business_id = $1 ORDER BY run_id`,
  ])
    facts.push(await fixture.rows(sql, [business_id]));
  return facts;
}

/** Does `work` while somebody makes job 1 of the run `status`, who asked for no lock; only that change may be seen. */
async function expectGuarded(tenant: Tenant, run_id: RunId, status: string, work: () => Promise<unknown>) {
  const before = await factsOf(tenant);
  const change = "UPDATE carillon.outbound_call_jobs SET status = $2 WHERE run_id = $1 AND seq = 1 RETURNING 'changed'";
  await expect(behind(fixture, [[change, [run_id, status]]], work)).rejects.toBeInstanceOf(GuardError);
  const [old] = await fixture.rows('SELECT status FROM carillon.outbound_call_jobs WHERE run_id = $1 AND seq = 1', [
    run_id,
  ]);
  expect(old).toEqual({ status });
  expect((await factsOf(tenant)).slice(1)).toEqual(before.slice(1));
}

const key = (run_id: RunId) => ({ run_id, seq: 1 as Seq });
const options = () => ({ actor, limits: fixture.limits });

describe('nothing is written by', () => {
  it('a claim of a job that somebody has cancelled meanwhile', async () => {
    const tenant = await createTenant(fixture, { leads: 2 });
    const run_id = await startRun(fixture, tenant);
    const mine = await lease(fixture, tenant, run_id);
    await expectGuarded(tenant, run_id, 'cancelled', () => claimOnce(fixture, mine));
  });

  it('a claim that postpones a job which somebody has cancelled meanwhile', async () => {
    const { tenant } = await claimed(1, 5);
    const second = await startRun(fixture, tenant);
    const mine = await lease(fixture, tenant, second);
    await expectGuarded(tenant, second, 'cancelled', () => claimOnce(fixture, mine));
  });

  it('a settlement of a job that somebody has settled meanwhile', async () => {
    const { tenant, run_id, attempt } = await claimed();
    await expectGuarded(tenant, run_id, 'failed', () => record(fixture, attempt, ended('C1', 'completed')));
  });

  it('the cancelling of a job that somebody has called meanwhile', async () => {
    const tenant = await createTenant(fixture, { leads: 2 });
    const run_id = await startRun(fixture, tenant);
    await expectGuarded(tenant, run_id, 'completed', () =>
      cancelJob(fixture.db, tenant.business_id, key(run_id), fixture.limits, actor),
    );
  });

  it('a decision about a job that somebody has settled meanwhile', async () => {
    const { tenant, run_id, attempt } = await claimed(2);
    await record(fixture, attempt, await review(fixture, attempt));
    await expectGuarded(tenant, run_id, 'completed', () =>
      resolveJob(fixture.db, tenant.business_id, key(run_id), 'called', options()),
    );
  });

  it('the skipping of a job that somebody has called meanwhile', async () => {
    const tenant = await createTenant(fixture, { leads: 2 });
    const run_id = await startRun(fixture, tenant);
    const [job] = await fixture.rows<{ lead_id: string }>(
      'SELECT lead_id FROM carillon.outbound_call_jobs WHERE run_id = $1 AND seq = 1',
      [run_id],
    );
    await expectGuarded(tenant, run_id, 'completed', () =>
      eraseLead(fixture.db, tenant.business_id, Number(job?.lead_id) as never, options()),
    );
  });

  it('a call that is taken back for a job which somebody has cancelled meanwhile', async () => {
    const { tenant, run_id, attempt } = await claimed(2);
    await record(fixture, attempt, { kind: 'unknown', cause: 'reset' });
    await record(fixture, attempt, { kind: 'absent' });
    await expectGuarded(tenant, run_id, 'cancelled', () => record(fixture, attempt, live('C1', 'ringing')));
  });

  it('the end of a call under review that somebody has settled meanwhile', async () => {
    const { tenant, run_id, attempt } = await claimed(2);
    await record(fixture, attempt, await review(fixture, attempt));
    await stopRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
    await expectGuarded(tenant, run_id, 'failed', () => record(fixture, attempt, ended('C1', 'completed')));
  });

  it('a review after a restore of a job that somebody has called meanwhile', async () => {
    const tenant = await createTenant(fixture, { leads: 2 });
    const run_id = await startRun(fixture, tenant);
    const [lead] = await fixture.rows<{ phone: string }>(
      `SELECT l.phone FROM carillon.outbound_call_jobs j JOIN carillon.leads l USING (business_id, lead_id)
       WHERE j.run_id = $1 AND j.seq = 1`,
      [run_id],
    );
    const account = { business_id: tenant.business_id, carrier_account_id: tenant.carrier_account_id };
    await expectGuarded(tenant, run_id, 'completed', () =>
      reviewForgotten(fixture.db, account, [{ call_id: 'CA1', to: lead?.phone ?? '' }], options()),
    );
  });

  it('an attempt that is open no longer', async () => {
    const { tenant, run_id, attempt } = await claimed();
    const [open] = await fixture.rows('SELECT * FROM carillon.open_attempts WHERE run_id = $1', [run_id]);
    await record(fixture, attempt, { kind: 'not_dialed', cause: 'late', unreachable: false });
    const before = await factsOf(tenant);
    const closing = {
      outcome: 'not_dialed',
      cause: 'again',
      duration_s: null,
      next: 'pool',
      lane_refused: false,
    } as const;
    const again = inBusiness(fixture.db, tenant.business_id, async (tx) => {
      const run = await lockRun(tx, run_id);
      tx.send(
        `UPDATE carillon.outbound_call_jobs SET status = 'in_progress' WHERE business_id = $1 AND run_id = $2`,
        [tx.business_id, run_id],
        1,
      );
      tx.send('DELETE FROM carillon.job_schedule WHERE business_id = $1 AND run_id = $2', [tx.business_id, run_id], 1);
      tx.send(
        `UPDATE carillon.outbound_call_runs SET waiting = 0, in_progress = 1 WHERE business_id = $1 AND run_id = $2`,
        [tx.business_id, run_id],
        1,
      );
      const closed = [{ attempt: { ...open, ...attempt } as never, closing, actor }];
      return await closeAttempts(tx, { ...run, waiting: 0, in_progress: 1 }, closed, 1, fixture.limits);
    });
    await expect(again).rejects.toBeInstanceOf(GuardError);
    expect(await factsOf(tenant)).toEqual(before);
  });

  it('the counters of a run that is not there', async () => {
    const { tenant, run_id } = await claimed();
    const moved = inBusiness(fixture.db, tenant.business_id, async (tx) => {
      const run = { ...(await lockRun(tx, run_id)), run_id: 999_999_999 as RunId };
      moveCounters(tx, run, {}, { settled: false, ...options() });
    });
    await expect(moved).rejects.toBeInstanceOf(GuardError);
  });
});

describe('no run is made', () => {
  it('a run of a list with a gap, whose jobs would not be all of its leads', async () => {
    const tenant = await createTenant(fixture, { leads: 4 });
    const run_id = await startRun(fixture, tenant);
    await fixture.rows('DELETE FROM carillon.list_members WHERE list_id = $1 AND position = 3', [tenant.list_id]);
    const filling = fillAhead(fixture.db, tenant.business_id, run_id, fixture.limits);
    await expect(filling).rejects.toBeInstanceOf(GuardError);
  });
});
