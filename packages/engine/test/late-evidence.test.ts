import type { RunId } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expireDialing, findDue } from '../src/call/tend.ts';
import { pauseRun } from '../src/run/pause.ts';
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
  live,
  firstAttempts,
  readRow,
  record,
  review,
  startRun,
} from './support/fixture.ts';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture({ dial_deadline_ms: 1 });
});
afterAll(async () => await fixture.close());

const oneAttempt = (leads?: number, lines?: number) => firstAttempts(fixture, leads, lines);

async function jobStatus(run_id: number, seq = 1): Promise<string> {
  const [job] = await fixture.rows<{ status: string }>(
    'SELECT status FROM carillon.outbound_call_jobs WHERE run_id = $1 AND seq = $2',
    [run_id, seq],
  );
  return job?.status ?? 'none';
}

async function history(run_id: number) {
  return await fixture.rows<{ attempt_no: number; revision: number; outcome: string; call_id: string | null }>(
    'SELECT attempt_no, revision, outcome, call_id FROM carillon.attempts WHERE run_id = $1 ORDER BY seq, attempt_no, revision',
    [run_id],
  );
}

const expectTrue = (run_id: RunId) => expectRecounted(fixture, run_id);

describe('evidence', () => {
  it('is taken in any order and as often as it comes', async () => {
    const { run_id, attempt } = await oneAttempt();
    await record(fixture, attempt, live('C1', 'in_call'));
    await record(fixture, attempt, live('C1', 'ringing'));
    await record(fixture, attempt, { kind: 'accepted', call_id: 'C1' });
    const [open] = await fixture.rows('SELECT state, call_id FROM carillon.open_attempts WHERE run_id = $1', [run_id]);
    expect(open).toEqual({ state: 'in_call', call_id: 'C1' });
    await record(fixture, attempt, ended('C1', 'completed'));
    expect(await record(fixture, attempt, ended('C1', 'completed'))).toBe('nothing');
    expect(await record(fixture, attempt, live('C1', 'ringing'))).toBe('nothing');
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'completed', completed: 1 });
    expect(await history(run_id)).toEqual([{ attempt_no: 1, revision: 0, outcome: 'completed', call_id: 'C1' }]);
  });

  it('without the attempt’s token is not believed', async () => {
    const { run_id, attempt } = await oneAttempt();
    const forged = { ...attempt, token: 'A'.repeat(22) };
    expect(await record(fixture, forged, ended('C1', 'completed'))).toBe('unknown_attempt');
    expect(await jobStatus(run_id)).toBe('in_progress');
  });

  it('that shows a second call under one token has that call hung up', async () => {
    const { tenant, attempt } = await oneAttempt();
    await record(fixture, attempt, { kind: 'accepted', call_id: 'C1' });
    expect(await record(fixture, attempt, live('C2', 'ringing'))).toBe('unwanted');
    const unwanted = await fixture.rows('SELECT call_id, over_at FROM carillon.unwanted_calls WHERE business_id = $1', [
      tenant.business_id,
    ]);
    expect(unwanted).toEqual([{ call_id: 'C2', over_at: null }]);
  });

  it('of a refusal never undoes a call that is known', async () => {
    const { run_id, attempt } = await oneAttempt();
    await record(fixture, attempt, live('C1', 'ringing'));
    expect(await record(fixture, attempt, { kind: 'not_dialed', cause: 'late', unreachable: false })).toBe('nothing');
    expect(await record(fixture, attempt, { kind: 'absent' })).toBe('nothing');
    expect(await jobStatus(run_id)).toBe('in_progress');
  });
});

describe('an attempt whose answer was lost', () => {
  it('becomes unknown past its deadline, whatever its run does, and keeps its line', async () => {
    const { tenant, run_id } = await oneAttempt();
    await pauseRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
    const due = (await findDue(fixture.db, fixture.limits)).filter((item) => item.run_id === run_id);
    expect(due.map(({ errand }) => errand)).toEqual(['expire']);
    expect(await expireDialing(fixture.db, due)).toBe(1);
    expect(await expireDialing(fixture.db, due)).toBe(0);
    const [open] = await fixture.rows('SELECT state FROM carillon.open_attempts WHERE run_id = $1', [run_id]);
    expect(open).toEqual({ state: 'unknown' });
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'paused', in_progress: 1 });
  });

  it('that is proven absent is called again, and does not count as a call', async () => {
    const { run_id, mine, attempt } = await oneAttempt();
    await record(fixture, attempt, { kind: 'unknown', cause: 'timeout' });
    await record(fixture, attempt, { kind: 'absent' });
    expect(await jobStatus(run_id)).toBe('waiting');
    const [again] = (await claimOnce(fixture, mine)).attempts;
    expect(again).toMatchObject({ seq: 1, attempt_no: 2 });
    await expectTrue(run_id);
  });

  it('is taken back when the call shows up after all and no newer attempt exists', async () => {
    const { run_id, attempt } = await oneAttempt();
    await record(fixture, attempt, { kind: 'unknown', cause: 'timeout' });
    await record(fixture, attempt, { kind: 'absent' });
    expect(await record(fixture, attempt, live('C1', 'ringing'))).toBe('applied');
    expect(await jobStatus(run_id)).toBe('in_progress');
    await expectTrue(run_id);
    await record(fixture, attempt, ended('C1', 'completed'));
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'completed', completed: 1, waiting: 0 });
    expect(await history(run_id)).toEqual([
      { attempt_no: 1, revision: 0, outcome: 'absent', call_id: null },
      { attempt_no: 1, revision: 1, outcome: 'completed', call_id: 'C1' },
    ]);
  });

  it('is taken back and closed at once by the end of its call', async () => {
    const { run_id, attempt } = await oneAttempt();
    await record(fixture, attempt, { kind: 'unknown', cause: 'timeout' });
    await record(fixture, attempt, { kind: 'absent' });
    expect(await record(fixture, attempt, ended('C1', 'busy'))).toBe('applied');
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'completed', failed: 1 });
    await expectTrue(run_id);
  });

  it('is hung up when a newer attempt exists', async () => {
    const { tenant, run_id, mine, attempt } = await oneAttempt();
    await record(fixture, attempt, { kind: 'unknown', cause: 'timeout' });
    await record(fixture, attempt, { kind: 'absent' });
    expect((await claimOnce(fixture, mine)).attempts).toHaveLength(1);
    expect(await record(fixture, attempt, live('C-old', 'ringing'))).toBe('unwanted');
    const unwanted = await fixture.rows('SELECT call_id, reason FROM carillon.unwanted_calls WHERE business_id = $1', [
      tenant.business_id,
    ]);
    expect(unwanted).toEqual([{ call_id: 'C-old', reason: 'superseded' }]);
    await expectTrue(run_id);
  });

  it('goes to review when nobody can say; the run ends, and the end of the call settles it later', async () => {
    const { run_id, attempt } = await oneAttempt();
    await record(fixture, attempt, { kind: 'unknown', cause: 'timeout' });
    await record(fixture, attempt, await review(fixture, attempt, 'the carrier did not answer'));
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'completed', needs_review: 1, cursor_position: 1 });
    expect(await record(fixture, attempt, live('C1', 'ringing'))).toBe('nothing');
    expect(await record(fixture, attempt, ended('C1', 'completed'))).toBe('applied');
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'completed', needs_review: 0, completed: 1 });
    expect((await history(run_id)).map(({ outcome }) => outcome)).toEqual(['unknown', 'completed']);
    await expectTrue(run_id);
  });

  it('that was refused for this number fails; refused for the account, its lead waits and the lane pauses', async () => {
    const { tenant, run_id, mine, attempt } = await oneAttempt(3);
    await record(fixture, attempt, { kind: 'rejected', code: '21211', class: 'contact' });
    expect(await jobStatus(run_id)).toBe('failed');
    const [second] = (await claimOnce(fixture, mine)).attempts;
    if (!second) throw new Error('nothing was claimed');
    await record(fixture, second, { kind: 'rejected', code: '20003', class: 'lane' });
    expect(await jobStatus(run_id, second.seq)).toBe('waiting');
    const [lane] = await fixture.rows('SELECT halted_reason FROM carillon.lanes WHERE business_id = $1', [
      tenant.business_id,
    ]);
    expect(lane).toEqual({ halted_reason: '20003' });
    expect((await claimOnce(fixture, mine)).state).toBe('halted');
    await expectTrue(run_id);
  });

  it('that was refused by what the carrier said, and called all the same, is taken back', async () => {
    const { run_id, attempt } = await oneAttempt(3);
    await record(fixture, attempt, { kind: 'rejected', code: '21211', class: 'contact' });
    expect(await jobStatus(run_id)).toBe('failed');
    expect(await record(fixture, attempt, live('C1', 'ringing'))).toBe('applied');
    expect(await jobStatus(run_id)).toBe('in_progress');
    await record(fixture, attempt, ended('C1', 'completed'));
    expect(await jobStatus(run_id)).toBe('completed');
    await expectTrue(run_id);
  });
});

describe('a stop', () => {
  it('hangs up every open attempt, those without a call id included, and refuses what is not dialled yet', async () => {
    const { tenant, run_id, attempt, more } = await oneAttempt(5, 3);
    await record(fixture, attempt, { kind: 'accepted', call_id: 'C1' });
    const stopped = await stopRun(fixture.db, tenant.business_id, run_id, 'hang_up', actor);
    expect(stopped.in_flight).toBe(3);
    const flags = await fixture.rows('SELECT hang_up FROM carillon.open_attempts WHERE run_id = $1', [run_id]);
    expect(flags).toHaveLength(3);
    expect(flags.every(({ hang_up }) => hang_up === 'run')).toBe(true);
    for (const open of more) await record(fixture, open, { kind: 'not_dialed', cause: 'stopped', unreachable: false });
    await record(fixture, attempt, ended('C1', 'cancelled'));
    const row = await readRow(fixture, run_id);
    expect(row).toMatchObject({ status: 'cancelled', cancelled: 5, waiting: 0 });
    await expectTrue(run_id);
  });

  it('lets a late call of a stopped run be hung up', async () => {
    const { tenant, run_id, attempt } = await oneAttempt();
    await record(fixture, attempt, { kind: 'unknown', cause: 'timeout' });
    await stopRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
    await record(fixture, attempt, { kind: 'absent' });
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'cancelled', cancelled: 1 });
    expect(await record(fixture, attempt, live('C1', 'ringing'))).toBe('unwanted');
    await expectTrue(run_id);
  });
});

describe('a retry policy', () => {
  it('calls again after the outcomes it names, as often as it says', async () => {
    const tenant = await createTenant(fixture, { leads: 1 });
    const policy = { retry: { busy: { times: 2, after_s: 0 } }, review_always: false };
    const run_id = await startRun(fixture, tenant, { policy });
    const mine = await lease(fixture, tenant, run_id);
    for (let call = 1; call <= 3; call++) {
      const [attempt] = await claimAll(fixture, mine, 1);
      expect(attempt?.attempt_no).toBe(call);
      if (attempt) await record(fixture, attempt, ended(`C${call}`, 'busy'));
      expect(await jobStatus(run_id)).toBe(call < 3 ? 'waiting' : 'failed');
    }
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'completed', failed: 1 });
  });
});
