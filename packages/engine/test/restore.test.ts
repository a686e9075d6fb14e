import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { RunId, Seq } from '@carillon/contract';
import { escapeIdentifier } from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { claim } from '../src/call/claim.ts';
import { FORGOTTEN_CALL_HALT, reportForgottenCall } from '../src/call/unwanted.ts';
import { systemClock } from '../src/clock.ts';
import { discoveryUrl, openDatabase } from '../src/db/database.ts';
import { accountIsSettled, accountsToSettle, takeSettleTurn } from '../src/restore/accounts.ts';
import { acknowledgeRestore, restoreReport } from '../src/restore/acknowledge.ts';
import { FORGOTTEN, suspectRestore } from '../src/restore/notice.ts';
import { reviewForgotten } from '../src/restore/review.ts';
import { type RestoreWatch, watchForRestore } from '../src/restore/watch.ts';
import { pauseRun } from '../src/run/pause.ts';
import { resumeRun } from '../src/run/resume.ts';
import { stopRun } from '../src/run/stop.ts';
import { createTestDatabase } from '../../../test/support/database.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { until } from '../../../test/support/wait.ts';
import {
  actor,
  addAccount,
  claimAll,
  createFixture,
  createTenant,
  ended,
  type Fixture,
  lease,
  readRow,
  record,
  recount,
  startRun,
  type Tenant,
} from './support/fixture.ts';

let fixture: Fixture;
let watches: RestoreWatch[];
beforeEach(async () => {
  fixture = await createFixture();
  watches = [];
});
afterEach(async () => {
  for (const watch of watches) await watch.close();
  await fixture.close();
});

let processes = 0;

/** A process's watch that looks only when it is told to, after its first beat. */
async function watchAs(name = `process-${++processes}`, memory_dir?: string) {
  const noticed: string[] = [];
  const watch = watchForRestore({
    db: fixture.db,
    witness_id: name,
    actor,
    memory_dir,
    onNotice: (reason) => void noticed.push(reason),
    onError: () => {},
  });
  await until(() => watch.known(), { deadline_ms: 30_000, what: 'the first beat' });
  await watch.close();
  watches.push(watch);
  return { watch, noticed };
}

const claimWith = async (tenant: Tenant, run_id: RunId, watch: RestoreWatch) => {
  const mine = await lease(fixture, tenant, run_id);
  return await claim(fixture.db, mine, 'worker-1', systemClock, fixture.limits, watch.known());
};

/** The tables as they are now, and a way to bring them back to it: a snapshot put back under the same server and tables. */
async function snapshot() {
  const tables = ['witnesses', 'installation_state'];
  for (const table of tables) await fixture.rows(`CREATE TABLE public.old_${table} AS TABLE carillon.${table}`);
  return async () => {
    for (const table of tables) {
      await fixture.rows(`DELETE FROM carillon.${table}`);
      await fixture.rows(`INSERT INTO carillon.${table} TABLE public.old_${table}`);
    }
  };
}

const move = (part: number, value: string) =>
  fixture.rows(
    `UPDATE carillon.installation_state SET place =
       (SELECT string_agg(CASE WHEN n = $1 THEN $2 ELSE p END, '/' ORDER BY n)
        FROM unnest(string_to_array(place, '/')) WITH ORDINALITY AS parts (p, n))`,
    [part, value],
  );

describe('a database that is the one it was', () => {
  it('pauses nothing, however many processes come, go and look again', async () => {
    const tenant = await createTenant(fixture);
    const run_id = await startRun(fixture, tenant);
    const one = await watchAs();
    for (let round = 0; round < 5; round++) await one.watch.beat();
    const two = await watchAs();
    await two.watch.beat();
    await one.watch.beat();
    expect([...one.noticed, ...two.noticed]).toEqual([]);
    expect(one.watch.suspected()).toBeNull();
    expect((await claimWith(tenant, run_id, one.watch)).attempts).toHaveLength(10);
    expect(await restoreReport(fixture.db)).toMatchObject({ reason: null, restores: 0 });
  });
});

describe('what is noticed', () => {
  it.each([
    [1, '1', 'another system identifier: '],
    [2, '7', 'another database: '],
    [3, '7', 'another table: '],
    [4, '00000009', 'another timeline: '],
  ])(
    'another place, in part %i, by a process that has just begun: every run is paused with the reason',
    async (part, value, reason) => {
      await watchAs();
      const tenant = await createTenant(fixture);
      const run_id = await startRun(fixture, tenant);
      await move(part, value);
      const { watch, noticed } = await watchAs();
      expect(noticed).toEqual([expect.stringContaining(reason)]);
      const [run] = await fixture.rows(
        'SELECT status, pause_reason FROM carillon.outbound_call_runs WHERE run_id = $1',
        [run_id],
      );
      expect(run).toEqual({ status: 'paused', pause_reason: `${FORGOTTEN} (${noticed[0]})` });
      const [event] = await fixture.rows<{ after: object }>(
        `SELECT after FROM carillon.audit_events WHERE action = 'run.paused' AND subject_id = $1`,
        [String(run_id)],
      );
      expect(event?.after).toMatchObject({ pause_reason: `${FORGOTTEN} (${noticed[0]})` });
      const events = await fixture.rows(`SELECT kind, after->>'reason' AS reason FROM carillon.installation_events
      WHERE action = 'restore.noticed'`);
      expect(events).toEqual([{ kind: 'security', reason: noticed[0] }]);
      expect(watch.suspected()).toMatchObject({ restores: 1 });
    },
  );

  it('a copy under another name, as a dump that is restored beside the original', async () => {
    const original = await createTestDatabase();
    const copy = `${original.name}_copy`;
    const look = async (app_url: string, witness_id: string) => {
      const db = openDatabase({ app_url, discovery_url: discoveryUrl(app_url) });
      const noticed: string[] = [];
      const onNotice = (reason: string) => void noticed.push(reason);
      const watch = watchForRestore({ db, witness_id, actor, onNotice, onError: () => {} });
      await until(() => watch.known(), { deadline_ms: 30_000, what: 'the first beat' });
      await watch.close();
      await db.close();
      return noticed;
    };
    const asAdmin = (sql: string) => withClient(fixture.superuserUrl, (client) => client.query(sql));
    try {
      expect(await look(original.appUrl, 'before')).toEqual([]);
      await asAdmin(`CREATE DATABASE ${escapeIdentifier(copy)} TEMPLATE ${escapeIdentifier(original.name)}`);
      const url = new URL(original.appUrl);
      url.pathname = `/${copy}`;
      expect(await look(url.toString(), 'after')).toEqual([expect.stringContaining('another database: ')]);
      expect(await look(original.appUrl, 'later')).toEqual([]);
    } finally {
      await asAdmin(`DROP DATABASE IF EXISTS ${escapeIdentifier(copy)} WITH (FORCE)`);
      await original.drop();
    }
  });

  it('an older state, by a process that lived through it; and it claims nothing between the restore and its notice', async () => {
    const tenant = await createTenant(fixture);
    const run_id = await startRun(fixture, tenant);
    const { watch, noticed } = await watchAs('survivor');
    const putBack = await snapshot();
    await watch.beat();
    await putBack();
    // It has not looked yet.
    expect(watch.suspected()).toBeNull();
    expect(await claimWith(tenant, run_id, watch)).toMatchObject({ state: 'halted', attempts: [] });
    await watch.beat();
    expect(noticed).toEqual(['an older state: survivor had written 2 times to it, it has 1']);
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'paused', queued: 10, in_progress: 0 });
  });

  it('another timeline, by the claim itself, before whoever claims has looked', async () => {
    const tenant = await createTenant(fixture);
    const run_id = await startRun(fixture, tenant);
    const { watch } = await watchAs();
    await move(4, '00000009');
    expect(watch.suspected()).toBeNull();
    expect(await claimWith(tenant, run_id, watch)).toMatchObject({ state: 'halted', attempts: [] });
  });

  it('a state from before the process began', async () => {
    await watchAs();
    const putBack = await snapshot();
    const { watch, noticed } = await watchAs('younger');
    await putBack();
    await watch.beat();
    expect(noticed).toEqual(['an older state: it does not know younger, which had written to it']);
  });

  it('an older state, by what dead processes have left in the data directory', async () => {
    const directory = await mkdtemp(path.join(tmpdir(), 'carillon-memory-'));
    try {
      const { watch } = await watchAs('dead', directory);
      const putBack = await snapshot();
      await watch.beat();
      await watchAs('heir', directory);
      expect(await restoreReport(fixture.db)).toMatchObject({ reason: null });
      await putBack();
      const without = await watchAs();
      expect(without.noticed).toEqual([]);
      const { noticed } = await watchAs('second heir', directory);
      expect(noticed).toEqual([expect.stringMatching(/^an older state: .*(dead|heir)/)]);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('a state from before any process wrote down where it stood, by what the dead have left, where it has a run', async () => {
    const directory = await mkdtemp(path.join(tmpdir(), 'carillon-memory-'));
    const before = async () => {
      await fixture.rows('DELETE FROM carillon.witnesses');
      await fixture.rows('UPDATE carillon.installation_state SET place = NULL');
    };
    try {
      await watchAs('dead', directory);
      // A new database, of which whoever left this behind knew nothing.
      await before();
      expect((await watchAs('first', directory)).noticed).toEqual([]);
      await startRun(fixture, await createTenant(fixture));
      await before();
      const { noticed } = await watchAs('heir', directory);
      expect(noticed).toEqual([expect.stringMatching(/does not know (dead|first), which had written to it$/)]);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('that a restore which was noticed is forgotten', async () => {
    const { watch } = await watchAs('survivor');
    const putBack = await snapshot();
    await suspectRestore(fixture.db, 'declared', actor);
    await watch.beat();
    await acknowledgeRestore(fixture.db, { force: true, resume: false, actor, limits: fixture.limits });
    await watch.beat();
    await putBack();
    await watch.beat();
    expect(watch.suspected()).toMatchObject({ reason: expect.stringContaining('of 1 restores'), restores: 2 });
  });
});

describe('while nobody has acknowledged it', () => {
  it('nothing is claimed by anybody, nothing resumed, and what is started is paused at the next look', async () => {
    const tenant = await createTenant(fixture);
    const run_id = await startRun(fixture, tenant);
    const { watch } = await watchAs();
    await suspectRestore(fixture.db, 'declared', actor);
    // Not paused yet: the claim itself refuses, whoever asks.
    expect(await claimWith(tenant, run_id, watch)).toMatchObject({ state: 'halted', attempts: [] });
    await watch.beat();
    await expect(resumeRun(fixture.db, tenant.business_id, run_id, fixture.limits, actor)).rejects.toMatchObject({
      code: 'restore_unacknowledged',
    });
    const later = await startRun(fixture, tenant);
    await watch.beat();
    expect(await readRow(fixture, later)).toMatchObject({ status: 'paused' });
  });

  it('goes on when a person says so: only the runs that the restore paused, and no process raises it again', async () => {
    const tenant = await createTenant(fixture);
    const run_id = await startRun(fixture, tenant);
    const lunch = await startRun(fixture, tenant);
    await pauseRun(fixture.db, tenant.business_id, lunch, 'drain', actor, 'lunch');
    const over = await startRun(fixture, tenant);
    const survivor = await watchAs('survivor');
    const putBack = await snapshot();
    await survivor.watch.beat();
    await putBack();
    await survivor.watch.beat();
    // A person stops one that the restore has paused.
    await stopRun(fixture.db, tenant.business_id, over, 'drain', actor);
    const [account] = await accountsToSettle(fixture.db, 1);
    if (!account) throw new Error('an account was to be settled');
    const early = await acknowledgeRestore(fixture.db, { force: false, resume: true, actor, limits: fixture.limits });
    expect(early).toMatchObject({ acknowledged: false, unsettled: [account], resumed_runs: [] });
    expect(early.paused_runs).toEqual([{ business_id: tenant.business_id, run_id, compared: false }]);
    await accountIsSettled(fixture.db, account, 1, { listed: 0, forgotten: 0, reviewed: 0 }, actor);
    const report = await acknowledgeRestore(fixture.db, { force: false, resume: true, actor, limits: fixture.limits });
    const resumed = [{ business_id: tenant.business_id, run_id }];
    expect(report).toMatchObject({ acknowledged: true, resumed_runs: resumed, paused_runs: [] });
    await survivor.watch.beat();
    expect(survivor.watch.suspected()).toBeNull();
    expect([(await readRow(fixture, lunch)).status, (await readRow(fixture, over)).status]).toEqual([
      'paused',
      'cancelled',
    ]);
    expect((await claimWith(tenant, run_id, survivor.watch)).attempts).toHaveLength(10);
  });

  it('is over also for a process that was asleep from before it until after it was acknowledged', async () => {
    const [survivor, sleeper] = [await watchAs('survivor'), await watchAs('sleeper')];
    const putBack = await snapshot();
    for (const { watch } of [survivor, sleeper]) for (let beats = 0; beats < 3; beats++) await watch.beat();
    await putBack();
    await survivor.watch.beat();
    await acknowledgeRestore(fixture.db, { force: true, resume: false, actor, limits: fixture.limits });
    await sleeper.watch.beat();
    expect(sleeper.noticed).toEqual([]);
    expect(sleeper.watch.suspected()).toBeNull();
    expect(sleeper.watch.known()).toMatchObject({ restores: 1, beat: 5 });
  });

  /** Settles every account of the tenant's, and acknowledges; refused where something is left. */
  const settle = async ({ business_id, carrier_account_id }: Tenant, restores: number) =>
    await accountIsSettled(
      fixture.db,
      { business_id, carrier_account_id },
      restores,
      { listed: 0, forgotten: 0, reviewed: 0 },
      actor,
    );
  const acknowledge = async (force = false) =>
    (await acknowledgeRestore(fixture.db, { force, resume: true, actor, limits: fixture.limits })).acknowledged;

  it('a restore to then is counted anew, once by all who lived through it, and every carrier asked again', async () => {
    const tenant = await createTenant(fixture, { leads: 3 });
    const run_id = await startRun(fixture, tenant);
    const survivors = [await watchAs(), await watchAs(), await watchAs()];
    const beatAll = async () => await Promise.all(survivors.map(async ({ watch }) => await watch.beat()));
    await suspectRestore(fixture.db, 'declared', actor);
    await beatAll();
    await settle(tenant, 1);
    const putBack = await snapshot();
    expect(await acknowledge()).toBe(true);
    await beatAll();
    const called = await claimWith(tenant, run_id, survivors[0]?.watch as RestoreWatch);
    expect(called.attempts).toHaveLength(3);
    await putBack();
    for (let looks = 0; looks < 3; looks++) await beatAll();
    expect(survivors.flatMap(({ noticed }) => noticed)).toEqual([expect.stringMatching(/^an older state: /)]);
    expect(await restoreReport(fixture.db)).toMatchObject({ restores: 2, unsettled: [{ problem: null }] });
    expect(await acknowledge()).toBe(false);
    await settle(tenant, 2);
    expect(await acknowledge()).toBe(true);
    await beatAll();
    expect(await restoreReport(fixture.db)).toMatchObject({ reason: null, restores: 2 });
  });

  it('another place is counted anew, by a process that has just begun, and not acknowledged before', async () => {
    const tenant = await createTenant(fixture);
    await watchAs();
    await move(4, '00000009');
    await watchAs();
    await settle(tenant, 1);
    // The same timeline until a person acknowledges it, and another after a recovery to a moment before that.
    const same = await watchAs();
    expect([same.noticed, (await restoreReport(fixture.db)).restores]).toEqual([[], 1]);
    await move(4, '0000000A');
    expect(await restoreReport(fixture.db)).toMatchObject({ restores: 1, unsettled: [{ problem: null }] });
    expect(await acknowledge()).toBe(false);
    expect(await acknowledge(true)).toBe(false);
    expect((await watchAs()).noticed).toEqual([expect.stringContaining('another timeline: ')]);
    expect(await restoreReport(fixture.db)).toMatchObject({ restores: 2, unsettled: [{ problem: null }] });
  });

  it('a restore that a person declares is counted anew', async () => {
    const tenant = await createTenant(fixture);
    await suspectRestore(fixture.db, 'declared', actor);
    await settle(tenant, 1);
    await suspectRestore(fixture.db, 'declared again', actor);
    expect(await restoreReport(fixture.db)).toMatchObject({
      reason: 'declared again',
      restores: 2,
      unsettled: [{ problem: null }],
    });
  });

  it('runs of an account whose carrier could not be asked stay paused, though it is acknowledged by force', async () => {
    const tenant = await createTenant(fixture);
    const run_id = await startRun(fixture, tenant);
    const { watch } = await watchAs();
    await suspectRestore(fixture.db, 'declared', actor);
    await watch.beat();
    const report = await acknowledgeRestore(fixture.db, { force: true, resume: true, actor, limits: fixture.limits });
    expect(report).toMatchObject({ acknowledged: true, resumed_runs: [], unsettled: [{ problem: null }] });
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'paused' });
  });
});

describe('the carrier’s list', () => {
  const numbersOf = async (run_id: RunId) =>
    await fixture.rows<{ seq: number; phone: string }>(
      `SELECT j.seq, l.phone FROM carillon.outbound_call_jobs j JOIN carillon.leads l USING (business_id, lead_id)
       WHERE j.run_id = $1 ORDER BY j.seq`,
      [run_id],
    );

  it('puts under review who has a call that no attempt has: queued and waiting ones, in every run, and nobody else', async () => {
    const tenant = await createTenant(fixture, { leads: 6 });
    const run_id = await startRun(fixture, tenant, {
      policy: { retry: { busy: { times: 1, after_s: 600 } }, review_always: false },
    });
    const mine = await lease(fixture, tenant, run_id);
    const { watch } = await watchAs();
    const [first, second] = (await claimAll(fixture, mine, 2)).slice(0, 2);
    if (!first || !second) throw new Error('two were to be claimed');
    for (const open of await fixture.rows<{ seq: Seq; attempt_no: number; token: string }>(
      'SELECT seq, attempt_no, token FROM carillon.open_attempts WHERE run_id = $1 ORDER BY seq',
      [run_id],
    )) {
      const key = { ...first, ...open };
      if (open.seq === 1) await record(fixture, key, ended('CA-busy', 'busy'));
      else if (open.seq === 2) await record(fixture, key, ended('CA-done', 'completed'));
      else await record(fixture, key, { kind: 'not_dialed', cause: 'test', unreachable: false });
    }
    const other = await startRun(fixture, tenant, { draft: true });
    await suspectRestore(fixture.db, 'declared', actor);
    await watch.beat();
    const phones = (await numbersOf(run_id)).map((row) => row.phone);
    const calls = [
      { call_id: 'CA-busy', to: phones[0] ?? '' },
      { call_id: 'CA-retry', to: phones[0] ?? '' },
      { call_id: 'CA-done', to: phones[1] ?? '' },
      { call_id: 'CA-forgotten', to: phones[4] ?? '' },
      { call_id: 'CA-stranger', to: '+15005550001' },
    ];
    const account = { business_id: tenant.business_id, carrier_account_id: tenant.carrier_account_id };
    const options = { limits: fixture.limits, actor };
    expect(await reviewForgotten(fixture.db, account, calls, options)).toEqual({
      listed: 4,
      forgotten: 2,
      reviewed: 2,
    });
    const jobs = await fixture.rows<{ status: string }>(
      'SELECT status FROM carillon.outbound_call_jobs WHERE run_id = $1 ORDER BY seq',
      [run_id],
    );
    expect(jobs.map((job) => job.status)).toEqual([
      'needs_review',
      'completed',
      'waiting',
      'waiting',
      'needs_review',
      'waiting',
    ]);
    const { kept, counted } = await recount(fixture, run_id);
    expect(kept).toEqual(counted);
    expect(
      await fixture.rows('SELECT seq FROM carillon.job_schedule WHERE run_id = $1 ORDER BY seq', [run_id]),
    ).toEqual([{ seq: 3 }, { seq: 4 }, { seq: 6 }]);
    expect((await readRow(fixture, other)).status).toBe('draft');
    // The same page again finds nothing more.
    expect(await reviewForgotten(fixture.db, account, calls, options)).toMatchObject({ forgotten: 2, reviewed: 0 });
    // A late callback of a call that is known to be forgotten halts nothing; one of another does, once.
    const halted = async (call_id: string) => {
      await reportForgottenCall(fixture.db, tenant.business_id, tenant.carrier_account_id, call_id, actor);
      const [lane] = await fixture.rows<{ halted_reason: string | null }>(
        'SELECT halted_reason FROM carillon.lanes WHERE business_id = $1',
        [tenant.business_id],
      );
      return lane?.halted_reason;
    };
    expect(await halted('CA-forgotten')).toBeNull();
    expect(await halted('CA-another')).toBe(FORGOTTEN_CALL_HALT);
    await acknowledgeRestore(fixture.db, { force: true, resume: false, actor, limits: fixture.limits });
    expect(await halted('CA-another')).toBeNull();
  });

  it('takes no call for forgotten that another account made, to a number that is another lead’s by now', async () => {
    const tenant = await createTenant(fixture, { leads: 2 });
    const run_id = await startRun(fixture, tenant);
    const [first] = await claimAll(fixture, await lease(fixture, tenant, run_id), 1);
    if (!first) throw new Error('one was to be claimed');
    await record(fixture, first, ended('CA1', 'completed'));
    const [called, other] = await numbersOf(run_id);
    if (!called || !other) throw new Error('two numbers were to be had');
    const gives = (from: string, to: string) =>
      fixture.rows('UPDATE carillon.leads SET phone = $2 WHERE phone = $1', [from, to]);
    await gives(called.phone, '+15005550001');
    await gives(other.phone, called.phone);
    // Two entries may be of one account at the carrier: each is told of the calls of both.
    const account = { ...tenant, carrier_account_id: await addAccount(fixture, tenant) };
    const calls = [{ call_id: 'CA1', to: called.phone }];
    const options = { limits: fixture.limits, actor };
    expect(await reviewForgotten(fixture.db, account, calls, options)).toEqual({
      listed: 1,
      forgotten: 0,
      reviewed: 0,
    });
    expect(await readRow(fixture, run_id)).toMatchObject({ completed: 1, needs_review: 0 });
  });

  it('reaches jobs that have no row yet', async () => {
    const tenant = await createTenant(fixture, { leads: 30 });
    fixture.limits.fill_batch_jobs = 5;
    const run_id = await startRun(fixture, tenant);
    const over = await startRun(fixture, tenant);
    await stopRun(fixture.db, tenant.business_id, over, 'drain', actor);
    await suspectRestore(fixture.db, 'declared', actor);
    const [last] = await fixture.rows<{ phone: string }>(
      'SELECT phone FROM carillon.leads ORDER BY lead_id DESC LIMIT 1',
    );
    const account = { business_id: tenant.business_id, carrier_account_id: tenant.carrier_account_id };
    const calls = [{ call_id: 'CA1', to: last?.phone ?? '' }];
    const options = { limits: fixture.limits, actor };
    expect(await reviewForgotten(fixture.db, account, calls, options)).toMatchObject({ reviewed: 1 });
    expect(await readRow(fixture, run_id)).toMatchObject({ needs_review: 1, queued: 29, total_leads: 30 });
    // One that was stopped gets no rows for it.
    expect(await readRow(fixture, over)).toMatchObject({ filled_seq: 5 });
  });

  it('is asked by one worker at a time, and not while an attempt is open that the database knows', async () => {
    const tenant = await createTenant(fixture, { leads: 1 });
    const run_id = await startRun(fixture, tenant);
    const account = { business_id: tenant.business_id, carrier_account_id: tenant.carrier_account_id };
    const [attempt] = await claimAll(fixture, await lease(fixture, tenant, run_id), 1);
    if (!attempt) throw new Error('one was to be claimed');
    expect(await takeSettleTurn(fixture.db, account, 60_000)).toBeNull();
    await record(fixture, attempt, ended('CA1', 'completed'));
    expect(await takeSettleTurn(fixture.db, account, 60_000)).toMatchObject({ since_ms: null });
    expect(await takeSettleTurn(fixture.db, account, 60_000)).toBeNull();
    // Taken before the clock was set back, it is anybody's.
    await fixture.rows('UPDATE carillon.lanes SET restore_asked_us = restore_asked_us + 3600000000');
    expect(await takeSettleTurn(fixture.db, account, 60_000)).not.toBeNull();
  });
});
