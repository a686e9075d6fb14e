import type { RunId } from '@carillon/contract';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import type { AttemptKey, Evidence, OpenAttempt } from '../src/call/attempt.ts';
import { recordEvidence } from '../src/call/record.ts';
import { boundCallIds } from '../src/call/tend.ts';
import { inBusiness } from '../src/db/database.ts';
import { stopRun } from '../src/run/stop.ts';
import {
  actor,
  claimOnce,
  createFixture,
  ended,
  expectRecounted,
  type Fixture,
  live,
  firstAttempts,
  readRow,
  record,
  review,
} from './support/fixture.ts';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture({ dial_deadline_ms: 1 });
});
afterAll(async () => await fixture.close());

const oneAttempt = (leads?: number, lines?: number) => firstAttempts(fixture, leads, lines);

async function becomesAbsent(attempt: AttemptKey): Promise<void> {
  await record(fixture, attempt, { kind: 'unknown', cause: 'timeout' });
  await record(fixture, attempt, { kind: 'absent' });
}

async function recordTogether(attempt: AttemptKey, ...evidence: Evidence[]) {
  const items = evidence.map((one) => ({ key: attempt, evidence: one, actor }));
  return await recordEvidence(fixture.db, attempt.business_id, attempt.run_id, items, fixture.limits);
}

async function jobStatus(run_id: number): Promise<string | undefined> {
  const jobs = await fixture.rows<{ status: string }>(
    'SELECT status FROM carillon.outbound_call_jobs WHERE run_id = $1 AND seq = 1',
    [run_id],
  );
  return jobs[0]?.status;
}

async function openAttempts({ business_id, run_id }: AttemptKey): Promise<OpenAttempt[]> {
  return await inBusiness(fixture.db, business_id, (tx) =>
    tx.query<OpenAttempt>('SELECT * FROM carillon.open_attempts WHERE business_id = $1 AND run_id = $2', [
      business_id,
      run_id,
    ]),
  );
}

const expectTrue = (run_id: RunId) => expectRecounted(fixture, run_id);

/** Starts `work` while somebody holds the run's lock, and lets go when `waiting` of its statements wait for it. */
async function behindTheRunsLock<T>(run_id: number, waiting: number, work: () => Promise<T>): Promise<T> {
  const holder = new pg.Client({ connectionString: fixture.superuserUrl });
  await holder.connect();
  try {
    await holder.query('BEGIN');
    await holder.query('SELECT 1 FROM carillon.outbound_call_runs WHERE run_id = $1 FOR UPDATE', [run_id]);
    const done = work();
    await until(
      async () => {
        const waiters = await fixture.rows(
          "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        );
        return waiters.length >= waiting;
      },
      { deadline_ms: 10_000, what: `${waiting} waiters for the run's lock` },
    );
    await holder.query('COMMIT');
    return await done;
  } finally {
    await holder.end();
  }
}

describe('two callbacks about a call that was believed absent', () => {
  it('settle its attempt when they are recorded together', async () => {
    const { run_id, attempt } = await oneAttempt();
    await becomesAbsent(attempt);
    expect(await recordTogether(attempt, live('C1', 'ringing'), ended('C1', 'completed'))).toEqual([
      'applied',
      'applied',
    ]);
    expect(await openAttempts(attempt)).toEqual([]);
    expect(await jobStatus(run_id)).toBe('completed');
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'completed', completed: 1 });
    expect(await record(fixture, attempt, ended('C1', 'completed'))).toBe('nothing');
    await expectTrue(run_id);
  });

  it('settle it out of review too, in a run that goes on', async () => {
    const { run_id, attempt } = await oneAttempt(2);
    await record(fixture, attempt, { kind: 'unknown', cause: 'timeout' });
    await record(fixture, attempt, await review(fixture, attempt, 'nobody can say'));
    await recordTogether(attempt, live('C1', 'ringing'), ended('C1', 'completed'));
    expect(await jobStatus(run_id)).toBe('completed');
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'running', completed: 1, needs_review: 0 });
    await expectTrue(run_id);
  });

  it('re-attach it when two processes record them at once, and neither has the call hung up', async () => {
    const { tenant, run_id, attempt } = await oneAttempt();
    await becomesAbsent(attempt);
    const recorded = await behindTheRunsLock(run_id, 2, () =>
      Promise.all([record(fixture, attempt, live('C1', 'ringing')), record(fixture, attempt, live('C1', 'in_call'))]),
    );
    expect(recorded).toEqual(['applied', 'applied']);
    expect(await openAttempts(attempt)).toMatchObject([{ call_id: 'C1', state: 'in_call' }]);
    const unwanted = await fixture.rows('SELECT call_id FROM carillon.unwanted_calls WHERE business_id = $1', [
      tenant.business_id,
    ]);
    expect(unwanted).toEqual([]);
    await expectTrue(run_id);
  });
});

describe('the end of a call that was believed absent', () => {
  it('is kept in the history of a run that is stopping, whose counters stay as they are', async () => {
    const { tenant, run_id, attempt, more } = await oneAttempt(2, 2);
    const [other] = more;
    if (!other) throw new Error('two are wanted');
    await record(fixture, other, live('C-other', 'in_call'));
    await becomesAbsent(attempt);
    await stopRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
    expect(await record(fixture, attempt, ended('C1', 'completed'))).toBe('applied');
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'cancelling', cancelled: 1, in_progress: 1 });
    const last = await fixture.rows(
      'SELECT outcome, call_id FROM carillon.attempts WHERE run_id = $1 AND seq = $2 ORDER BY revision DESC LIMIT 1',
      [run_id, attempt.seq],
    );
    expect(last).toEqual([{ outcome: 'completed', call_id: 'C1' }]);
    await expectTrue(run_id);
    await record(fixture, other, ended('C-other', 'completed'));
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'cancelled', cancelled: 1, completed: 1 });
  });

  it('counts though a newer attempt was made, if that was never dialled: its lead is not called again', async () => {
    const { run_id, mine, attempt } = await oneAttempt();
    await becomesAbsent(attempt);
    const [newer] = (await claimOnce(fixture, mine)).attempts;
    if (!newer) throw new Error('nothing was claimed');
    await record(fixture, newer, { kind: 'not_dialed', cause: 'the worker is stopping', unreachable: false });
    expect(await record(fixture, attempt, ended('C1', 'completed'))).toBe('applied');
    expect((await claimOnce(fixture, mine)).attempts).toEqual([]);
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'completed', completed: 1, waiting: 0 });
    await expectTrue(run_id);
  });
});

describe('a call that is to be hung up', () => {
  it('belongs to the older attempt, and is not found as that of the newer one', async () => {
    const { mine, attempt } = await oneAttempt();
    await becomesAbsent(attempt);
    const [newer] = (await claimOnce(fixture, mine)).attempts;
    if (!newer) throw new Error('nothing was claimed');
    expect(await record(fixture, attempt, live('C-old', 'ringing'))).toBe('unwanted');
    await record(fixture, newer, { kind: 'unknown', cause: 'timeout' });
    expect([...(await boundCallIds(fixture.db, newer, ['C-old']))]).toEqual(['C-old']);
  });
});
