import { Policy } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expireDialing, findDue, takeTurn } from '../src/call/tend.ts';
import { takeUnwanted } from '../src/call/unwanted.ts';
import type { Evidence } from '../src/call/attempt.ts';
import { importLeads } from '../src/lead/import.ts';
import { inBusiness } from '../src/db/database.ts';
import { heartbeat } from '../src/run/heartbeat.ts';
import { leaseRun, leaseRuns } from '../src/run/lease.ts';
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
  readRow,
  record,
  startRun,
} from './support/fixture.ts';

/** The rows as they stand after the database's clock went back by an hour: their times lie an hour ahead. */

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture({ dial_deadline_ms: 1 });
});
afterAll(async () => await fixture.close());

/** Nothing may go wrong in passing. */
const fail = (error: unknown) => {
  throw error;
};

async function oneAttempt(leads = 1) {
  const tenant = await createTenant(fixture, { leads, lines: 1 });
  const run_id = await startRun(fixture, tenant);
  const mine = await lease(fixture, tenant, run_id);
  const [attempt] = await claimAll(fixture, mine, 1);
  if (!attempt) throw new Error('nothing was claimed');
  return { tenant, run_id, mine, attempt };
}

async function setBack(run_id: number): Promise<void> {
  await fixture.rows("UPDATE carillon.outbound_call_runs SET lock_ts = lock_ts + interval '1 hour' WHERE run_id = $1", [
    run_id,
  ]);
  await fixture.rows(
    `UPDATE carillon.open_attempts SET intent_us = intent_us + 3600000000, deadline_us = deadline_us + 3600000000,
       heard_us = heard_us + 3600000000, asked_us = CASE WHEN asked_us > 0 THEN asked_us + 3600000000 ELSE 0 END
     WHERE run_id = $1`,
    [run_id],
  );
}

async function errandsOf(run_id: number) {
  return (await findDue(fixture.db, fixture.limits)).filter((due) => due.run_id === run_id);
}

describe('a lease written before the clock was set back', () => {
  it('is as good as none: its run is taken, and its worker’s claims and heartbeats are refused', async () => {
    const { tenant, run_id, mine } = await oneAttempt(2);
    await setBack(run_id);
    expect(await heartbeat(fixture.db, [mine], 'worker-1', fixture.limits)).toEqual({ lost: [mine], failed: [] });
    expect((await claimOnce(fixture, mine)).state).toBe('lost');
    const heir = await inBusiness(fixture.db, tenant.business_id, (tx) => leaseRun(tx, run_id, 'heir', fixture.limits));
    expect(heir).toMatchObject({ run_id, lease_epoch: mine.lease_epoch + 1 });
  });

  it('is found among all runs', async () => {
    const { run_id } = await oneAttempt(2);
    await setBack(run_id);
    await leaseRuns(fixture.db, 'heir', 0, fixture.limits, fail);
    expect(await readRow(fixture, run_id)).toMatchObject({ locked_by_worker: 'heir' });
  });

  it('of a worker that died then does not count it among the living, who share the runs', async () => {
    await fixture.rows('DELETE FROM carillon.workers');
    await fixture.rows("INSERT INTO carillon.workers (worker_id, seen_at) VALUES ('dead', now() + interval '1 hour')");
    for (let run = 0; run < 2; run++) await startRun(fixture, await createTenant(fixture, { leads: 1 }));
    const [due] = await fixture.rows<{ runs: number }>(
      "SELECT count(*)::int AS runs FROM carillon.outbound_call_runs WHERE status IN ('pending', 'running')",
    );
    const { fair_share } = await leaseRuns(fixture.db, 'alone', 0, fixture.limits, fail);
    expect(fair_share).toBe(due?.runs);
  });
});

describe('an open attempt from before the clock was set back', () => {
  it('becomes unknown though its deadline seems to lie ahead', async () => {
    const { run_id } = await oneAttempt();
    await setBack(run_id);
    const due = await errandsOf(run_id);
    expect(due).toMatchObject([{ errand: 'expire' }]);
    expect(await expireDialing(fixture.db, due)).toBe(1);
  });

  it('is reconciled, polled and hung up though somebody seems to have asked just now', async () => {
    const { run_id, attempt } = await oneAttempt();
    const next = async () => {
      await fixture.rows(
        'UPDATE carillon.open_attempts SET asked_us = (extract(epoch FROM now()) * 1000000)::bigint WHERE run_id = $1',
        [run_id],
      );
      await setBack(run_id);
      const [due] = await errandsOf(run_id);
      // The turn is there to be taken, once.
      if (due) expect(await takeTurn(fixture.db, due, 60_000)).not.toBeNull();
      if (due) expect(await takeTurn(fixture.db, due, 60_000)).toBeNull();
      return due?.errand;
    };
    await record(fixture, attempt, { kind: 'unknown', cause: 'timeout' });
    expect(await next()).toBe('reconcile');
    await record(fixture, attempt, live('C1', 'in_call'));
    expect(await next()).toBe('poll');
    await fixture.rows("UPDATE carillon.open_attempts SET hang_up = 'run' WHERE run_id = $1", [run_id]);
    expect(await next()).toBe('hang_up');
  });

  it('that nobody wants is hung up: a turn that seems to be taken in an hour is none', async () => {
    const { tenant, attempt } = await oneAttempt();
    await record(fixture, attempt, { kind: 'accepted', call_id: 'C1' });
    await record(fixture, attempt, live('C2', 'ringing'));
    await fixture.rows(
      `UPDATE carillon.unwanted_calls SET asked_us = (extract(epoch FROM now()) * 1000000)::bigint + 3600000000
       WHERE business_id = $1`,
      [tenant.business_id],
    );
    const mine = (calls: { business_id: number }[]) => calls.filter((call) => call.business_id === tenant.business_id);
    expect(mine(await takeUnwanted(fixture.db, fixture.limits))).toMatchObject([{ call_id: 'C2' }]);
    expect(mine(await takeUnwanted(fixture.db, fixture.limits))).toEqual([]);
  });
});

describe('a job that was told to wait before the clock was set back', () => {
  const minutes = (left_us: number | undefined) => Math.round((left_us ?? 0) / 60_000_000);

  /** Of a job's waiting, as the database's clock has it now, in minutes. */
  async function left(run_id: number): Promise<number> {
    const [row] = await fixture.rows<{ left_us: number }>(
      `SELECT (due_us - extract(epoch FROM clock_timestamp()) * 1000000)::float8 AS left_us
       FROM carillon.job_schedule WHERE run_id = $1`,
      [run_id],
    );
    return minutes(row?.left_us);
  }

  const waitLonger = (run_id: number) =>
    fixture.rows('UPDATE carillon.job_schedule SET due_us = due_us + 3600000000 WHERE run_id = $1', [run_id]);

  async function waiting(evidence: Evidence, retry?: { times: number; after_s: number }) {
    const tenant = await createTenant(fixture, { leads: 1 });
    const policy = retry ? { policy: Policy.parse({ retry: { busy: retry } }) } : {};
    const run_id = await startRun(fixture, tenant, policy);
    const mine = await lease(fixture, tenant, run_id);
    const [attempt] = await claimAll(fixture, mine, 1);
    if (!attempt) throw new Error('nothing was claimed');
    await record(fixture, attempt, { kind: 'unknown', cause: 'timeout' });
    await record(fixture, attempt, evidence);
    return { run_id, mine };
  }

  it('is due at once where nothing makes it wait', async () => {
    const { run_id, mine } = await waiting({ kind: 'absent' });
    await waitLonger(run_id);
    expect(await left(run_id)).toBe(60);
    expect((await claimOnce(fixture, mine)).attempts).toEqual([]);
    expect((await claimOnce(fixture, mine)).attempts).toHaveLength(1);
  });

  it('waits for its next try as long as its policy says, and not the hour as well', async () => {
    const { run_id, mine } = await waiting(ended('C1', 'busy'), { times: 1, after_s: 600 });
    expect((await claimOnce(fixture, mine)).attempts).toEqual([]);
    expect(await left(run_id)).toBe(10);
    await waitLonger(run_id);
    expect(await left(run_id)).toBe(70);
    expect((await claimOnce(fixture, mine)).attempts).toEqual([]);
    expect(await left(run_id)).toBe(10);
  });
});

describe('jobs that wait for different things', () => {
  /** One that waits for its next try, and one that was found absent: due in so many minutes, on the database's clock. */
  async function twoWaiting(after_s: number, due_min: { retry: number; absent: number }) {
    const tenant = await createTenant(fixture, { leads: 2, lines: 2 });
    const policy = Policy.parse({ retry: { busy: { times: 1, after_s } } });
    const run_id = await startRun(fixture, tenant, { policy });
    const mine = await lease(fixture, tenant, run_id);
    const [retry, absent] = await claimAll(fixture, mine, 2);
    if (!retry || !absent) throw new Error('two are wanted');
    await record(fixture, retry, ended('C1', 'busy'));
    await record(fixture, absent, { kind: 'unknown', cause: 'timeout' });
    await record(fixture, absent, { kind: 'absent' });
    await fixture.rows(
      `UPDATE carillon.job_schedule
       SET due_us = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
         + CASE seq WHEN $2 THEN $3::bigint ELSE $4::bigint END * 60000000
       WHERE run_id = $1`,
      [run_id, retry.seq, due_min.retry, due_min.absent],
    );
    expect((await claimOnce(fixture, mine)).attempts).toEqual([]);
    const left = await fixture.rows<{ seq: number; left_us: number }>(
      `SELECT seq, (due_us - extract(epoch FROM clock_timestamp()) * 1000000)::float8 AS left_us
       FROM carillon.job_schedule WHERE run_id = $1`,
      [run_id],
    );
    const of = (seq: number) => (left.find((row) => row.seq === seq)?.left_us ?? NaN) / 60_000_000;
    return { retry: of(retry.seq), absent: of(absent.seq) };
  }

  it('those that wait for longer than anything may are due; whoever waits rightly goes on waiting, first or last', async () => {
    const first = await twoWaiting(600, { retry: 5, absent: 60 });
    const last = await twoWaiting(7_200, { retry: 90, absent: 60 });
    expect([first.absent, last.absent].filter((left) => left > 1)).toEqual([]);
    expect([first.retry, last.retry].map(Math.round)).toEqual([5, 90]);
  });
});

describe('an import that was touched before the clock was set back', () => {
  it('and whose process is gone does not keep its list for an hour', async () => {
    const { business_id, list_id } = await createTenant(fixture, { leads: 1 });
    await fixture.rows(
      `WITH i AS (INSERT INTO carillon.list_imports (business_id, list_id, state, touched_at)
                  VALUES ($1, $2, 'running', now() + interval '1 hour') RETURNING import_id)
       UPDATE carillon.lists SET import_id = i.import_id FROM i WHERE list_id = $2`,
      [business_id, list_id],
    );
    async function* file() {
      yield Buffer.from('phone\n+972521234567');
    }
    expect(await importLeads(fixture.db, business_id, list_id, file(), { actor })).toMatchObject({ accepted: 1 });
  });
});

describe('a lane halted before the clock was set back', () => {
  it('takes calls again: no halt reaches that far', async () => {
    const { tenant, mine, attempt } = await oneAttempt(2);
    await record(fixture, attempt, { kind: 'rejected', code: '20429', class: 'again' });
    expect((await claimOnce(fixture, mine)).state).toBe('halted');
    await fixture.rows(
      'UPDATE carillon.lanes SET halted_until_us = halted_until_us + 3600000000 WHERE business_id = $1',
      [tenant.business_id],
    );
    expect((await claimOnce(fixture, mine)).attempts).toHaveLength(1);
  });
});
