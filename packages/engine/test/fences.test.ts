import type { RunId, Seq } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readAnswer } from '../src/call/answer.ts';
import type { AttemptKey } from '../src/call/attempt.ts';
import { cancelJob } from '../src/call/cancel-job.ts';
import { claim } from '../src/call/claim.ts';
import { stretches } from '../src/call/stretches.ts';
import { boundCallIds, findDue, takeTurn } from '../src/call/tend.ts';
import { FORGOTTEN_CALL_HALT, reportForgottenCall, takeUnwanted } from '../src/call/unwanted.ts';
import { createLead } from '../src/lead/create-lead.ts';
import { heartbeat, releaseLeases } from '../src/run/heartbeat.ts';
import { leaseRuns } from '../src/run/lease.ts';
import { pauseRun } from '../src/run/pause.ts';
import { resumeRun } from '../src/run/resume.ts';
import { stopRun } from '../src/run/stop.ts';
import { sweepOnce } from '../src/run/sweep.ts';
import {
  actor,
  addAccount,
  claimAll,
  claimOnce,
  createFixture,
  createTenant,
  ended,
  type Fixture,
  lease,
  live,
  readRow,
  record,
  recount,
  startRun,
  type Tenant,
} from './support/fixture.ts';

/** Each thing that is looked at before something is done, with everything else as it must be: what it alone stops. */

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
});
afterAll(async () => await fixture.close());

/** Nothing may go wrong in passing. */
const fail = (error: unknown) => {
  throw error;
};

async function leased(leads = 2, options: { lines?: number; calls_per_second?: number } = {}) {
  const tenant = await createTenant(fixture, { leads, ...options });
  const run_id = await startRun(fixture, tenant);
  return { tenant, run_id, mine: await lease(fixture, tenant, run_id) };
}

async function claimed(leads = 2, lines = 1) {
  const { tenant, run_id, mine } = await leased(leads, { lines });
  const [attempt, ...more] = await claimAll(fixture, mine, lines);
  if (!attempt) throw new Error('nothing was claimed');
  return { tenant, run_id, mine, attempt, more };
}

async function age(run_id: RunId, seconds: number): Promise<void> {
  await fixture.rows("UPDATE carillon.outbound_call_runs SET lock_ts = now() - $2 * interval '1 s' WHERE run_id = $1", [
    run_id,
    seconds,
  ]);
}

async function jobOf(run_id: RunId, seq = 1) {
  const [job] = await fixture.rows<{ status: string }>(
    'SELECT status FROM carillon.outbound_call_jobs WHERE run_id = $1 AND seq = $2',
    [run_id, seq],
  );
  return job?.status;
}

const scheduleOf = (run_id: RunId) => fixture.rows('SELECT seq FROM carillon.job_schedule WHERE run_id = $1', [run_id]);

async function unwantedOf({ business_id }: Tenant) {
  const rows = await fixture.rows<{ call_id: string }>(
    'SELECT call_id FROM carillon.unwanted_calls WHERE business_id = $1 ORDER BY call_id',
    [business_id],
  );
  return rows.map(({ call_id }) => call_id);
}

describe('a lease', () => {
  it('is of no use for a run that does not run, though its row still bears it', async () => {
    const { run_id, mine } = await leased();
    await fixture.rows("UPDATE carillon.outbound_call_runs SET status = 'paused' WHERE run_id = $1", [run_id]);
    expect(await claimOnce(fixture, mine)).toMatchObject({ state: 'lost', attempts: [] });
  });

  it('is of no use to another worker', async () => {
    const { mine } = await leased();
    expect(await claimOnce(fixture, mine, 'impostor')).toMatchObject({ state: 'lost', attempts: [] });
  });

  it('is of no use once its own worker has taken the run anew', async () => {
    const { tenant, run_id, mine } = await leased();
    await age(run_id, 31);
    await lease(fixture, tenant, run_id);
    expect(await claimOnce(fixture, mine)).toMatchObject({ state: 'lost', attempts: [] });
  });

  it('is not given for a run that does not run', async () => {
    const tenant = await createTenant(fixture);
    const run_id = await startRun(fixture, tenant);
    await pauseRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
    await expect(lease(fixture, tenant, run_id)).rejects.toThrow('not leased');
  });

  it('is not given for a run that starts later', async () => {
    const tenant = await createTenant(fixture);
    const run_id = await startRun(fixture, tenant);
    await fixture.rows(
      "UPDATE carillon.outbound_call_runs SET starts_at = now() + interval '1 hour' WHERE run_id = $1",
      [run_id],
    );
    await expect(lease(fixture, tenant, run_id)).rejects.toThrow('not leased');
  });

  it('is found behind runs that others hold', async () => {
    const own = await createFixture();
    const tenant = await createTenant(own, { leads: 1 });
    const [one, two] = [await startRun(own, tenant), await startRun(own, tenant)];
    await lease(own, tenant, one, 'other');
    await own.rows("INSERT INTO carillon.workers (worker_id) VALUES ('other')");
    const { taken } = await leaseRuns(own.db, 'worker-1', 0, own.limits, fail);
    await own.close();
    expect(taken.map(({ run_id }) => run_id)).toEqual([two]);
  });

  it('does not renew the lease of the worker that took over', async () => {
    const { tenant, run_id, mine } = await leased();
    await age(run_id, 31);
    await lease(fixture, tenant, run_id, 'heir');
    await age(run_id, 20);
    await heartbeat(fixture.db, [mine], 'worker-1', fixture.limits);
    const old = "SELECT 1 FROM carillon.outbound_call_runs WHERE run_id = $1 AND lock_ts < now() - interval '15 s'";
    expect(await fixture.rows(old, [run_id])).toHaveLength(1);
  });

  it('tells a worker that has taken the run anew which lease is lost', async () => {
    const { tenant, run_id, mine } = await leased();
    await age(run_id, 31);
    const again = await lease(fixture, tenant, run_id);
    expect(await heartbeat(fixture.db, [mine], 'worker-1', fixture.limits)).toMatchObject({ lost: [mine] });
    expect(await heartbeat(fixture.db, [again], 'worker-1', fixture.limits)).toMatchObject({ lost: [] });
  });

  it('is given back by its own worker alone', async () => {
    const { run_id, mine } = await leased();
    await releaseLeases(fixture.db, [mine], 'impostor');
    expect(await readRow(fixture, run_id)).toMatchObject({ locked_by_worker: 'worker-1' });
  });

  it('is not given back by the loop that lost it', async () => {
    const { tenant, run_id, mine } = await leased();
    await age(run_id, 31);
    await lease(fixture, tenant, run_id);
    await releaseLeases(fixture.db, [mine], 'worker-1');
    expect(await readRow(fixture, run_id)).toMatchObject({ locked_by_worker: 'worker-1' });
  });

  it('ends with a stop', async () => {
    const { tenant, run_id } = await claimed();
    await stopRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'cancelling', locked_by_worker: null });
  });
});

describe('a worker', () => {
  it('tells that it lives when it was not heard of for a while, and forgets those that are long gone', async () => {
    const limits = { ...fixture.limits, worker_runs: 0 };
    const seen = async () => {
      await leaseRuns(fixture.db, 'teller', 0, limits, fail);
      const rows = await fixture.rows<{ at: string; fresh: boolean }>(
        "SELECT seen_at::text AS at, seen_at > now() - interval '10 s' AS fresh FROM carillon.workers WHERE worker_id = 'teller'",
      );
      return rows[0];
    };
    const first = await seen();
    expect(await seen()).toEqual(first);
    await fixture.rows("UPDATE carillon.workers SET seen_at = now() - interval '1 min' WHERE worker_id = 'teller'");
    await fixture.rows("INSERT INTO carillon.workers (worker_id, seen_at) VALUES ('gone', now() - interval '2 h')");
    expect(await seen()).toMatchObject({ fresh: true });
    expect(await fixture.rows("SELECT 1 FROM carillon.workers WHERE worker_id = 'gone'")).toEqual([]);
  });
});

describe('a claim', () => {
  it('commits no start for after the end of its run', async () => {
    const { run_id, mine } = await leased(10, { calls_per_second: 50 });
    for (let starts = 0; starts === 0; ) {
      await fixture.rows(
        "UPDATE carillon.outbound_call_runs SET ends_at = clock_timestamp() + interval '100 ms' WHERE run_id = $1",
        [run_id],
      );
      starts += (await claimOnce(fixture, mine)).attempts.length;
    }
    const [row] = await fixture.rows<{ after_us: string }>(
      `SELECT l.tat_us - 20000 - (extract(epoch FROM r.ends_at) * 1000000)::bigint AS after_us
       FROM carillon.lanes l JOIN carillon.outbound_call_runs r USING (business_id) WHERE r.run_id = $1`,
      [run_id],
    );
    expect(Number(row?.after_us)).toBeLessThanOrEqual(0);
  });

  it('counts its deadline from before it was sent, on both clocks', async () => {
    const { mine } = await leased();
    let [monotonic_ms, wall_ms] = [0, 1_000_000];
    const clock = { monotonicMs: () => (monotonic_ms += 10_000), wallMs: () => (wall_ms += 10_000) };
    const { attempts } = await claim(fixture.db, mine, 'worker-1', clock, fixture.limits);
    expect(attempts[0]).toMatchObject({
      deadline_monotonic_ms: 10_000 + fixture.limits.dial_deadline_ms,
      deadline_wall_ms: 1_010_000 + fixture.limits.dial_deadline_ms,
    });
  });

  it('bears the control epoch and the lease under which it was committed', async () => {
    const tenant = await createTenant(fixture);
    const run_id = await startRun(fixture, tenant);
    await pauseRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
    await resumeRun(fixture.db, tenant.business_id, run_id, fixture.limits, actor);
    await claimAll(fixture, await lease(fixture, tenant, run_id, 'w'), 1, 'w');
    const [open] = await fixture.rows(
      'SELECT control_epoch, lease_epoch, worker_id FROM carillon.open_attempts WHERE run_id = $1 LIMIT 1',
      [run_id],
    );
    expect(open).toEqual({ control_epoch: 2, lease_epoch: 1, worker_id: 'w' });
  });

  it('gives each attempt a token of its own', async () => {
    const { run_id, mine } = await leased(3, { lines: 3 });
    for (const attempt of await claimAll(fixture, mine, 3))
      await record(fixture, attempt, { kind: 'not_dialed', cause: 'late', unreachable: false });
    await claimAll(fixture, mine, 3);
    const tokens = await fixture.rows<{ token: string }>(
      `SELECT token FROM carillon.attempts WHERE run_id = $1
       UNION ALL SELECT token FROM carillon.open_attempts WHERE run_id = $1`,
      [run_id],
    );
    expect([tokens.length, new Set(tokens.map(({ token }) => token)).size]).toEqual([6, 6]);
  });

  it('keeps its distance from the claim before it', async () => {
    const { tenant, mine } = await leased(10, { calls_per_second: 5 });
    await claimAll(fixture, mine, 1);
    const [row] = await fixture.rows<{ ahead_us: string }>(
      `SELECT min(l.tat_us - o.intent_us) AS ahead_us FROM carillon.lanes l JOIN carillon.open_attempts o
       USING (business_id) WHERE l.business_id = $1`,
      [tenant.business_id],
    );
    expect(Number(row?.ahead_us)).toBeGreaterThanOrEqual(200_000);
  });

  it('does not call who waits for later', async () => {
    const tenant = await createTenant(fixture, { leads: 1 });
    const policy = { retry: { busy: { times: 1, after_s: 600 } }, review_always: false };
    const run_id = await startRun(fixture, tenant, { policy });
    const mine = await lease(fixture, tenant, run_id);
    const [attempt] = await claimAll(fixture, mine, 1);
    if (attempt) await record(fixture, attempt, ended('C1', 'busy'));
    expect(await claimOnce(fixture, mine)).toMatchObject({ state: 'idle', attempts: [] });
    expect(await jobOf(run_id)).toBe('waiting');
  });
});

describe('an attempt', () => {
  it('holds its line while it is unknown', async () => {
    const tenant = await createTenant(fixture, { leads: 2, lines: 1 });
    const mine = await lease(fixture, tenant, await startRun(fixture, tenant, { concurrency: 5 }));
    const [attempt] = await claimAll(fixture, mine, 1);
    if (!attempt) throw new Error('nothing was claimed');
    await record(fixture, attempt, { kind: 'unknown', cause: 'reset' });
    expect(await claimOnce(fixture, mine)).toMatchObject({ state: 'lines', attempts: [] });
  });

  it('is nobody’s errand before its deadline', async () => {
    const { run_id } = await claimed();
    expect((await findDue(fixture.db, fixture.limits)).filter((due) => due.run_id === run_id)).toEqual([]);
  });

  it('that is absent goes to review where the policy asks for it', async () => {
    const tenant = await createTenant(fixture, { leads: 2 });
    const run_id = await startRun(fixture, tenant, { policy: { retry: {}, review_always: true } });
    const [attempt] = await claimAll(fixture, await lease(fixture, tenant, run_id), 1);
    if (!attempt) throw new Error('nothing was claimed');
    await record(fixture, attempt, { kind: 'unknown', cause: 'reset' });
    await record(fixture, attempt, { kind: 'absent' });
    expect(await jobOf(run_id)).toBe('needs_review');
  });

  it('that was absent does not count against the retries', async () => {
    const tenant = await createTenant(fixture, { leads: 1 });
    const policy = { retry: { busy: { times: 1, after_s: 0 } }, review_always: false };
    const run_id = await startRun(fixture, tenant, { policy });
    const mine = await lease(fixture, tenant, run_id);
    const [first] = await claimAll(fixture, mine, 1);
    if (!first) throw new Error('nothing was claimed');
    await record(fixture, first, { kind: 'unknown', cause: 'reset' });
    await record(fixture, first, { kind: 'absent' });
    for (const after of ['waiting', 'failed']) {
      const [attempt] = await claimAll(fixture, mine, 1);
      if (!attempt) throw new Error('nothing was claimed');
      await record(fixture, attempt, ended(`C${attempt.attempt_no}`, 'busy'));
      expect(await jobOf(run_id)).toBe(after);
    }
  });
});

describe('evidence', () => {
  it('of a lost answer says nothing against a call that is known', async () => {
    const { run_id, attempt } = await claimed();
    await record(fixture, attempt, live('C1', 'in_call'));
    expect(await record(fixture, attempt, { kind: 'unknown', cause: 'response_timeout' })).toBe('nothing');
    const [open] = await fixture.rows('SELECT state FROM carillon.open_attempts WHERE run_id = $1', [run_id]);
    expect(open).toEqual({ state: 'in_call' });
  });

  it('of absence is not believed of an attempt that is being dialled', async () => {
    const { run_id, attempt } = await claimed();
    expect(await record(fixture, attempt, { kind: 'absent' })).toBe('nothing');
    expect(await jobOf(run_id)).toBe('in_progress');
  });

  it('that ends a second call under one token leaves the first as it is', async () => {
    const { tenant, run_id, attempt } = await claimed();
    await record(fixture, attempt, { kind: 'accepted', call_id: 'C1' });
    expect(await record(fixture, attempt, ended('C2', 'completed'))).toBe('unwanted');
    expect(await jobOf(run_id)).toBe('in_progress');
    expect(await unwantedOf(tenant)).toEqual(['C2']);
  });

  it('of an answer with another call id has that call hung up', async () => {
    const { tenant, attempt } = await claimed();
    await record(fixture, attempt, live('C1', 'ringing'));
    expect(await record(fixture, attempt, { kind: 'accepted', call_id: 'C2' })).toBe('unwanted');
    expect(await unwantedOf(tenant)).toEqual(['C2']);
  });

  it('that shows a second call again is no error', async () => {
    const { tenant, attempt } = await claimed();
    await record(fixture, attempt, { kind: 'accepted', call_id: 'C1' });
    for (const phase of ['ringing', 'in_call'] as const)
      expect(await record(fixture, attempt, live('C2', phase))).toBe('unwanted');
    expect(await unwantedOf(tenant)).toEqual(['C2']);
  });

  it('that shows a second call after the first has ended has it hung up', async () => {
    const { tenant, attempt } = await claimed();
    await record(fixture, attempt, ended('C1', 'completed'));
    expect(await record(fixture, attempt, live('C2', 'ringing'))).toBe('unwanted');
    expect(await unwantedOf(tenant)).toEqual(['C2']);
  });

  it('about a closed attempt is not believed without its token', async () => {
    const { tenant, run_id, attempt } = await claimed();
    await record(fixture, attempt, { kind: 'unknown', cause: 'reset' });
    await record(fixture, attempt, { kind: 'absent' });
    const forged = { ...attempt, token: 'A'.repeat(22) };
    expect(await record(fixture, forged, live('C1', 'ringing'))).toBe('unknown_attempt');
    expect(await jobOf(run_id)).toBe('waiting');
    expect(await unwantedOf(tenant)).toEqual([]);
  });

  it('that takes a call back takes its job out of the schedule', async () => {
    const { run_id, attempt } = await claimed();
    await record(fixture, attempt, { kind: 'unknown', cause: 'reset' });
    await record(fixture, attempt, { kind: 'absent' });
    expect(await scheduleOf(run_id)).toHaveLength(1);
    expect(await record(fixture, attempt, live('C1', 'ringing'))).toBe('applied');
    expect(await scheduleOf(run_id)).toEqual([]);
  });
});

describe('a lane', () => {
  const laneOf = async ({ business_id }: Tenant) =>
    (
      await fixture.rows('SELECT halted_reason, halted_until_us FROM carillon.lanes WHERE business_id = $1', [
        business_id,
      ])
    )[0];
  const FOR_GOOD = { halted_reason: FORGOTTEN_CALL_HALT, halted_until_us: null };

  it('that a person must resume is not opened by a refusal, whose halt ends by itself', async () => {
    const { tenant, attempt } = await claimed();
    await reportForgottenCall(fixture.db, tenant.business_id, tenant.carrier_account_id, 'CX', actor);
    await record(fixture, attempt, { kind: 'rejected', code: '20003', class: 'lane' });
    expect(await laneOf(tenant)).toEqual(FOR_GOOD);
  });

  it('that a person must resume is not closed by an accepted call', async () => {
    const { tenant, attempt } = await claimed();
    await fixture.rows('UPDATE carillon.lanes SET refusals_in_a_row = 1 WHERE business_id = $1', [tenant.business_id]);
    await reportForgottenCall(fixture.db, tenant.business_id, tenant.carrier_account_id, 'CX', actor);
    await record(fixture, attempt, { kind: 'accepted', call_id: 'C1' });
    expect(await laneOf(tenant)).toEqual(FOR_GOOD);
  });
});

describe('a run', () => {
  it('that never finishes anything fails once its last attempt is settled', async () => {
    const { tenant, run_id, mine: first } = await leased(10, { lines: 1 });
    let open: AttemptKey | undefined;
    for (let [death, mine] = [0, first]; death < 5; death++) {
      const [attempt] = await claimAll(fixture, mine, 1);
      if (!attempt) throw new Error('nothing was claimed');
      if (death < 4) await record(fixture, attempt, { kind: 'not_dialed', cause: 'died', unreachable: false });
      else open = attempt;
      await age(run_id, 31);
      if (death < 4) mine = await lease(fixture, tenant, run_id);
    }
    await expect(lease(fixture, tenant, run_id)).rejects.toThrow('not leased');
    expect(await readRow(fixture, run_id)).toMatchObject({
      status: 'cancelling',
      in_progress: 1,
      locked_by_worker: null,
      control_epoch: 1,
    });
    if (open) await record(fixture, open, { kind: 'not_dialed', cause: 'died', unreachable: false });
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'failed', in_progress: 0, cancelled: 10 });
  });

  it('that never finishes anything again fails, though it did once', async () => {
    const { tenant, run_id, mine: first } = await leased(10, { lines: 1 });
    for (let [death, mine] = [0, first]; death < 6; death++) {
      const [attempt] = await claimAll(fixture, mine, 1);
      if (!attempt) throw new Error('nothing was claimed');
      const died = { kind: 'not_dialed', cause: 'died', unreachable: false } as const;
      await record(fixture, attempt, death === 0 ? ended('C1', 'completed') : died);
      await age(run_id, 31);
      if (death < 5) mine = await lease(fixture, tenant, run_id);
    }
    await expect(lease(fixture, tenant, run_id)).rejects.toThrow('not leased');
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'failed', completed: 1, cancelled: 9 });
    while (await sweepOnce(fixture.db, fixture.limits, fail));
    expect(await jobOf(run_id, 10)).toBe('cancelled');
  });

  it.each([
    ['starts nothing', 0],
    ['finishes something', 1],
  ])('that %s in each of many leases goes on, though each of its workers dies', async (_, calls) => {
    const { tenant, run_id, mine: first } = await leased(10, { lines: 1 });
    for (let [death, mine] = [0, first]; death < 6; death++) {
      for (const attempt of calls > 0 ? await claimAll(fixture, mine, calls) : [])
        await record(fixture, attempt, ended(`C${attempt.seq}`, 'completed'));
      await age(run_id, 31);
      mine = await lease(fixture, tenant, run_id);
    }
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'running', reclaim_count: 6, completed: 6 * calls });
  });

  it('that goes on already is answered as it is by who resumes it', async () => {
    const { tenant, run_id } = await leased();
    const resumed = await resumeRun(fixture.db, tenant.business_id, run_id, fixture.limits, actor);
    expect(resumed).toMatchObject({ status: 'running', locked_by_worker: 'worker-1' });
    expect(await readRow(fixture, run_id)).toMatchObject({ control_epoch: 0 });
  });

  it('that is a draft of named leads is started with them as they are', async () => {
    const tenant = await createTenant(fixture, { leads: 0 });
    const { lead_id } = await createLead(fixture.db, tenant.business_id, { phone: '+972541234568' }, actor);
    const run_id = await startRun(fixture, tenant, { lead_ids: [lead_id], draft: true });
    const started = await resumeRun(fixture.db, tenant.business_id, run_id, fixture.limits, actor);
    expect(started).toMatchObject({ status: 'pending', total_leads: 1, queued: 1 });
  });

  it('that has ended is not stopped: a stopped one is answered as it is, any other is refused', async () => {
    const stopped = await leased();
    const stop = (tenant: Tenant, run_id: RunId) => stopRun(fixture.db, tenant.business_id, run_id, 'hang_up', actor);
    await stop(stopped.tenant, stopped.run_id);
    expect(await stop(stopped.tenant, stopped.run_id)).toMatchObject({ status: 'cancelled' });
    expect(await readRow(fixture, stopped.run_id)).toMatchObject({ control_epoch: 1 });
    const { tenant, run_id, attempt } = await claimed(1);
    await record(fixture, attempt, ended('C1', 'completed'));
    await expect(stop(tenant, run_id)).rejects.toMatchObject({
      code: 'run_state_conflict',
      details: { status: 'completed' },
    });
  });

  it('waits again when its number is still on the line', async () => {
    const { tenant } = await claimed(1, 5);
    const second = await startRun(fixture, tenant);
    const mine = await lease(fixture, tenant, second);
    for (let round = 0; round < 2; round++) {
      expect((await claimOnce(fixture, mine)).attempts).toEqual([]);
      expect(await jobOf(second)).toBe('waiting');
      await fixture.rows('UPDATE carillon.job_schedule SET due_us = 1 WHERE run_id = $1', [second]);
    }
    const { kept, counted } = await recount(fixture, second);
    expect(kept).toEqual(counted);
  });

  it('that is stopped is swept to its end: who sweeps, sweeps no run that goes on', async () => {
    const [going, stopped] = [await leased(3), await leased(3)];
    await stopRun(fixture.db, stopped.tenant.business_id, stopped.run_id, 'drain', actor);
    let rounds = 0;
    while (await sweepOnce(fixture.db, fixture.limits, fail)) expect(++rounds).toBeLessThan(50);
    expect([await jobOf(going.run_id), await jobOf(stopped.run_id)]).toEqual(['queued', 'cancelled']);
  });
});

it('numbers that lie far apart are looked up in stretches, and nothing between them is read', () => {
  expect(stretches([200, 1, 65, 66, 265, 2] as Seq[])).toEqual([[1, 2, 65, 66], [200], [265]]);
});

it('a lead is made once, and found by whoever makes it again', async () => {
  const { business_id } = await createTenant(fixture, { leads: 0 });
  const make = () => createLead(fixture.db, business_id, { phone: '+972541234567' }, actor);
  const [one, two] = await Promise.all([make(), make()]);
  expect(one.lead_id).toBe(two.lead_id);
  expect([one.created, two.created].toSorted()).toEqual([false, true]);
});

describe('the wish to hang up', () => {
  it('of one job is kept through a pause of its run', async () => {
    const { tenant, run_id, attempt } = await claimed();
    await cancelJob(fixture.db, tenant.business_id, attempt, fixture.limits, actor);
    await pauseRun(fixture.db, tenant.business_id, run_id, 'hang_up', actor);
    const [open] = await fixture.rows('SELECT hang_up FROM carillon.open_attempts WHERE run_id = $1', [run_id]);
    expect(open).toEqual({ hang_up: 'job' });
  });

  it('is told again only when the carrier has had its time', async () => {
    const { run_id, attempt } = await claimed();
    await record(fixture, attempt, { kind: 'accepted', call_id: 'C1' });
    await fixture.rows("UPDATE carillon.open_attempts SET hang_up = 'run' WHERE run_id = $1", [run_id]);
    const mine = async () => (await findDue(fixture.db, fixture.limits)).filter((due) => due.run_id === run_id);
    const [due] = await mine();
    expect(due).toMatchObject({ errand: 'hang_up' });
    if (due) await takeTurn(fixture.db, due, fixture.limits.hang_up_every_ms);
    expect(await mine()).toEqual([]);
  });

  it('a call is not taken again once it is over, though many are', async () => {
    const { business_id, carrier_account_id } = await createTenant(fixture, { leads: 0 });
    await fixture.rows(
      `INSERT INTO carillon.unwanted_calls (business_id, carrier_account_id, call_id, reason, asked_us, over_at)
       SELECT $1, $2, 'C' || n, 'test', n, CASE WHEN n < 201 THEN now() END FROM generate_series(1, 201) n`,
      [business_id, carrier_account_id],
    );
    const taken = await takeUnwanted(fixture.db, fixture.limits);
    expect(taken.filter((call) => call.business_id === business_id)).toMatchObject([{ call_id: 'C201' }]);
  });
});

describe('one job', () => {
  it('that is cancelled while it waits: this takes it out of the schedule', async () => {
    const { tenant, run_id, attempt } = await claimed();
    await record(fixture, attempt, { kind: 'not_dialed', cause: 'late', unreachable: false });
    await cancelJob(fixture.db, tenant.business_id, { run_id, seq: 1 as Seq }, fixture.limits, actor);
    expect(await scheduleOf(run_id)).toEqual([]);
    expect(await jobOf(run_id)).toBe('cancelled');
  });
});

describe('a call', () => {
  it('what it says is told to nobody who does not know its token', async () => {
    const { attempt } = await claimed();
    expect(await readAnswer(fixture.db, attempt)).toMatchObject({ script: { language: expect.any(String) } });
    expect(await readAnswer(fixture.db, { ...attempt, token: 'A'.repeat(22) })).toBeNull();
  });

  it('that is found is none that another attempt to the lead has had', async () => {
    const tenant = await createTenant(fixture, { leads: 1 });
    const policy = { retry: { busy: { times: 1, after_s: 0 } }, review_always: false };
    const run_id = await startRun(fixture, tenant, { policy });
    const mine = await lease(fixture, tenant, run_id);
    for (const call_id of ['C1', 'C2']) {
      const [attempt] = await claimAll(fixture, mine, 1);
      if (!attempt) throw new Error('nothing was claimed');
      await record(fixture, attempt, call_id === 'C1' ? ended(call_id, 'busy') : { kind: 'accepted', call_id });
    }
    const listed = ['C0', 'C1', 'C2', 'C1'];
    expect([...(await boundCallIds(fixture.db, tenant, listed))].toSorted()).toEqual(['C1', 'C2']);
  });

  it('that is another carrier’s, by whose count it has the same id, is nobody’s here', async () => {
    const { tenant, attempt, more } = await claimed(2, 2);
    await record(fixture, attempt, ended('C1', 'completed'));
    for (const other of more) await record(fixture, other, { kind: 'accepted', call_id: 'C2' });
    const carrier_account_id = await addAccount(fixture, tenant);
    const bound = await boundCallIds(fixture.db, { ...tenant, carrier_account_id }, ['C1', 'C2']);
    expect([...bound]).toEqual([]);
  });
});
