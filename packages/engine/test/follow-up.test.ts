import path from 'node:path';
import type { FollowUpOutcome, RunId } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startChild } from '../../../test/support/child.ts';
import { until } from '../../../test/support/wait.ts';
import { cancelJob } from '../src/call/cancel-job.ts';
import { fillAhead } from '../src/run/fill.ts';
import { resumeRun } from '../src/run/resume.ts';
import { stopRun } from '../src/run/stop.ts';
import { sweepOnce } from '../src/run/sweep.ts';
import {
  actor,
  claimAll,
  createFixture,
  createTenant,
  ended,
  type Fixture,
  lease,
  readRow,
  record,
  review as nobodyCanSay,
  recount,
  startRun,
  type Tenant,
} from './support/fixture.ts';

const FILL = 100;
let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture({ fill_batch_jobs: FILL, fill_ahead_jobs: 50, sweep_batch_jobs: 70 });
});
afterAll(async () => await fixture.close());

async function leadsOf(run_id: RunId): Promise<number[]> {
  const rows = await fixture.rows<{ lead_id: string }>(
    'SELECT lead_id FROM carillon.outbound_call_jobs WHERE run_id = $1 ORDER BY seq',
    [run_id],
  );
  return rows.map((row) => Number(row.lead_id));
}

/** A run in which lead by lead everything happened that can, and the leads by what happened. */
async function variedRun(): Promise<{ tenant: Tenant; run_id: RunId; leads: Record<string, number> }> {
  const tenant = await createTenant(fixture, { leads: 11, lines: 100 });
  const run_id = await startRun(fixture, tenant, { policy: { retry: {}, review_always: false } });
  await cancelJob(fixture.db, tenant.business_id, { run_id, seq: 10 as never }, fixture.limits, actor);
  const mine = await lease(fixture, tenant, run_id);
  const open = await claimAll(fixture, mine, 10);
  const [completed, busy, no_answer, voicemail, failed, rejected, review, calling, waiting, queued] = open;
  if (
    !completed ||
    !busy ||
    !no_answer ||
    !voicemail ||
    !failed ||
    !rejected ||
    !review ||
    !calling ||
    !waiting ||
    !queued
  )
    throw new Error(`10 jobs were to be claimed, not ${open.length}`);
  await record(fixture, completed, ended('C1', 'completed'));
  await record(fixture, busy, ended('C2', 'busy'));
  await record(fixture, no_answer, ended('C3', 'no_answer'));
  await record(fixture, voicemail, {
    kind: 'call',
    call: { call_id: 'C4', phase: 'ended', outcome: 'voicemail', duration_s: 1, created_at_s: null, cause: null },
  });
  await record(fixture, failed, ended('C5', 'failed'));
  await record(fixture, rejected, { kind: 'rejected', code: 'code_21211', class: 'contact' });
  await record(fixture, review, await nobodyCanSay(fixture, review));
  await record(fixture, waiting, { kind: 'not_dialed', cause: 'late', unreachable: false });
  await record(fixture, queued, { kind: 'not_dialed', cause: 'late', unreachable: false });
  const names = 'completed busy no_answer voicemail failed rejected review calling waiting cancelled queued'.split(' ');
  const lead_ids = await leadsOf(run_id);
  return { tenant, run_id, leads: Object.fromEntries(names.map((name, i) => [name, lead_ids[i] ?? 0])) };
}

describe('a follow-up run', () => {
  it('takes up those whom its outcomes name, and nobody whose call is open or who is still to be called', async () => {
    const { tenant, run_id, leads } = await variedRun();
    const over = async (...outcomes: FollowUpOutcome[]) =>
      await leadsOf(await startRun(fixture, tenant, { from_run: { run_id, outcomes } }));
    expect(await over('busy')).toEqual([leads.busy]);
    expect(await over('no_answer')).toEqual([leads.no_answer]);
    expect(await over('voicemail', 'failed')).toEqual([leads.voicemail, leads.failed]);
    expect(await over('rejected')).toEqual([leads.rejected]);
    expect(await over('needs_review')).toEqual([leads.review]);
    expect(await over('cancelled')).toEqual([leads.cancelled]);
    await expect(over('skipped')).rejects.toMatchObject({ code: 'follow_up_empty' });
    const all: FollowUpOutcome[] = [
      'busy',
      'no_answer',
      'voicemail',
      'failed',
      'rejected',
      'cancelled',
      'needs_review',
    ];
    expect((await over(...all)).toSorted()).not.toContain(leads.calling);
    // Once it is stopped, those who were still to be called are cancelled, and the one whose call is open is not.
    await stopRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
    expect(await over('cancelled')).toEqual([leads.waiting, leads.cancelled, leads.queued]);
  });

  it('is like the run before it where nothing else is said', async () => {
    const { tenant, run_id } = await variedRun();
    await fixture.rows(
      `UPDATE carillon.outbound_call_runs SET name = 'Autumn', concurrency = 7, answer = '{"say":"hi","language":"en-US"}'
       WHERE run_id = $1`,
      [run_id],
    );
    const from_run = { run_id, outcomes: ['busy'] satisfies FollowUpOutcome[] };
    const same = await startRun(fixture, tenant, { from_run });
    const other = await startRun(fixture, tenant, { from_run, name: 'Winter', concurrency: 3 });
    const facts = async (id: RunId) =>
      await fixture.rows(
        'SELECT name, concurrency, answer, from_run_id::int, from_outcomes FROM carillon.outbound_call_runs WHERE run_id = $1',
        [id],
      );
    const inherited = { answer: { say: 'hi', language: 'en-US' }, from_run_id: run_id, from_outcomes: ['busy'] };
    expect(await facts(same)).toEqual([{ name: 'Autumn', concurrency: 7, ...inherited }]);
    expect(await facts(other)).toEqual([{ name: 'Winter', concurrency: 3, ...inherited }]);
  });

  it('has its leads fixed when it starts, a draft when it is resumed, and calls them all', async () => {
    const { tenant, run_id, leads } = await variedRun();
    const from_run = { run_id, outcomes: ['busy', 'no_answer'] satisfies FollowUpOutcome[] };
    const draft = await startRun(fixture, tenant, { from_run, draft: true });
    expect(await readRow(fixture, draft)).toMatchObject({ status: 'draft', total_leads: 0 });
    await fixture.rows(`UPDATE carillon.outbound_call_jobs SET last_outcome = 'failed' WHERE run_id = $1 AND seq = 3`, [
      run_id,
    ]);
    await resumeRun(fixture.db, tenant.business_id, draft, fixture.limits, actor);
    await fixture.rows(`UPDATE carillon.outbound_call_jobs SET status = 'completed' WHERE run_id = $1`, [run_id]);
    expect(await readRow(fixture, draft)).toMatchObject({ status: 'pending', total_leads: 1, queued: 1 });
    const mine = await lease(fixture, tenant, draft);
    const [attempt] = await claimAll(fixture, mine, 1);
    if (!attempt) throw new Error('nothing was claimed');
    await record(fixture, attempt, ended('D1', 'completed'));
    expect(await readRow(fixture, draft)).toMatchObject({ status: 'completed', completed: 1 });
    expect(await leadsOf(draft)).toEqual([leads.busy]);
  });

  it('of another business, of none and of nobody is refused', async () => {
    const { tenant, run_id } = await variedRun();
    const stranger = await createTenant(fixture);
    const from = (id: number) => ({
      from_run: { run_id: id as RunId, outcomes: ['busy'] satisfies FollowUpOutcome[] },
    });
    await expect(startRun(fixture, stranger, from(run_id))).rejects.toMatchObject({ code: 'run_not_found' });
    await expect(startRun(fixture, tenant, from(999_999))).rejects.toMatchObject({ code: 'run_not_found' });
    const fresh = await startRun(fixture, tenant);
    await expect(startRun(fixture, tenant, from(fresh))).rejects.toMatchObject({
      code: 'follow_up_empty',
      details: { run_id: fresh, outcomes: 'busy' },
    });
    await expect(startRun(fixture, tenant, { ...from(fresh), draft: true })).resolves.toBeGreaterThan(0);
  });

  it('finds the leads of a stopped run before that has rows for them, and so does one after it', async () => {
    const tenant = await createTenant(fixture, { leads: 250 });
    const first = await startRun(fixture, tenant);
    await stopRun(fixture.db, tenant.business_id, first, 'drain', actor);
    expect(await leadsOf(first)).toHaveLength(FILL);
    const second = await startRun(fixture, tenant, { from_run: { run_id: first, outcomes: ['cancelled'] } });
    expect(await readRow(fixture, second)).toMatchObject({ total_leads: 250, queued: 250 });
    await stopRun(fixture.db, tenant.business_id, second, 'drain', actor);
    expect(await leadsOf(second)).toHaveLength(FILL);
    const third = await startRun(fixture, tenant, { from_run: { run_id: second, outcomes: ['cancelled'] } });
    expect(await readRow(fixture, third)).toMatchObject({ total_leads: 250, queued: 250 });
    // The sweep makes the rows that the stopped runs still lack, in batches that are no part's length.
    while (await sweepOnce(fixture.db, fixture.limits, rethrow));
    while (await fillAhead(fixture.db, tenant.business_id, third, { ...fixture.limits, fill_ahead_jobs: 1_000 }));
    const [one, two, three] = [await leadsOf(first), await leadsOf(second), await leadsOf(third)];
    expect(one).toHaveLength(250);
    expect(two).toEqual(one);
    expect(three).toEqual(one);
    expect(await fixture.rows('SELECT * FROM carillon.run_leads WHERE business_id = $1', [tenant.business_id])).toEqual(
      [],
    );
    for (const run_id of [first, second, third]) await expectTrue(run_id);
  });
});

const rethrow = (error: unknown) => {
  throw error;
};

async function expectTrue(run_id: RunId): Promise<void> {
  const { kept, counted } = await recount(fixture, run_id);
  expect(kept).toEqual(counted);
}

describe('a process that is killed while it makes the rows of a run', () => {
  it.each(['list', 'earlier run'])('over a %s leaves one that another goes on with', async (source) => {
    const leads = 20_000;
    const tenant = await createTenant(fixture, { leads });
    const list_run = await startRun(fixture, tenant);
    if (source !== 'list') await stopRun(fixture.db, tenant.business_id, list_run, 'drain', actor);
    const run_id =
      source === 'list'
        ? list_run
        : await startRun(fixture, tenant, { from_run: { run_id: list_run, outcomes: ['cancelled'] } });
    for (const enough of [5, 20, 50]) {
      const child = startChild(path.join(import.meta.dirname, 'fill-child.ts'));
      child.send({ app_url: fixture.appUrl, business_id: tenant.business_id, run_id, fill_batch_jobs: FILL });
      const made = async () => (await leadsOf(run_id)).length >= enough * FILL;
      await until(made, { deadline_ms: 30_000, every_ms: 5, what: `${enough} batches` });
      await child.kill();
      await expectTrue(run_id);
    }
    while (
      await fillAhead(fixture.db, tenant.business_id, run_id, {
        ...fixture.limits,
        fill_batch_jobs: 3_000,
        fill_ahead_jobs: leads,
      })
    );
    const made = await leadsOf(run_id);
    expect(made).toHaveLength(leads);
    expect(new Set(made).size).toBe(leads);
    expect(await readRow(fixture, run_id)).toMatchObject({ total_leads: leads, queued: leads });
    await expectTrue(run_id);
  });
});
