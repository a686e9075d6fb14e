import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Evidence } from '../src/call/attempt.ts';
import { fillAhead } from '../src/run/fill.ts';
import {
  claimAll,
  claimOnce,
  createFixture,
  createTenant,
  type Fixture,
  lease,
  readRow,
  record,
  startRun,
} from './support/fixture.ts';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture({ fill_batch_jobs: 100, fill_ahead_jobs: 50 });
});
afterAll(async () => await fixture.close());

describe.each<[string, Evidence]>([
  ['it was not dialled', { kind: 'not_dialed', cause: 'the dial deadline is past', unreachable: false }],
  ['the account was refused', { kind: 'rejected', code: '20003', class: 'lane' }],
  ['the carrier had too much to do', { kind: 'rejected', code: '20429', class: 'again' }],
])('a job that goes back to the pool because %s', (_, evidence) => {
  /** Its first lead has been claimed `attempts` times, and again now; in how many ms it is due after that one. */
  async function dueAfter(attempts: number): Promise<number> {
    const tenant = await createTenant(fixture, { leads: 1 });
    const run_id = await startRun(fixture, tenant);
    const mine = await lease(fixture, tenant, run_id);
    await fixture.rows('UPDATE carillon.outbound_call_jobs SET attempts = $2 WHERE run_id = $1', [run_id, attempts]);
    const [attempt] = await claimAll(fixture, mine, 1);
    if (!attempt) throw new Error('nothing was claimed');
    expect(attempt.attempt_no).toBe(attempts + 1);
    await record(fixture, attempt, evidence);
    const [job] = await fixture.rows<{ wait_ms: number }>(
      `SELECT ((s.due_us - a.ended_us) / 1000)::int AS wait_ms FROM carillon.job_schedule s
       JOIN carillon.attempts a USING (business_id, run_id, seq) WHERE run_id = $1`,
      [run_id],
    );
    return job?.wait_ms ?? -1;
  }

  it('is called again at once, the first times', async () => {
    expect(await dueAfter(0)).toBe(0);
    expect(await dueAfter(2)).toBe(0);
  });

  it('waits longer each time after that, up to a minute, and never stops its run', async () => {
    expect(await dueAfter(3)).toBe(200);
    expect(await dueAfter(6)).toBe(1_600);
    expect(await dueAfter(40)).toBe(60_000);
    // One more than a smallint holds.
    expect(await dueAfter(32_767)).toBe(60_000);
  });
});

describe('filling a run from its list', () => {
  it('says that it made rows only when it did, and a claim asks for more only when few lie ahead', async () => {
    const tenant = await createTenant(fixture, { leads: 250, lines: 1 });
    const run_id = await startRun(fixture, tenant);
    const mine = await lease(fixture, tenant, run_id);
    const fill = () => fillAhead(fixture.db, tenant.business_id, run_id, fixture.limits);
    expect(await fill()).toBe(false);
    expect(await readRow(fixture, run_id)).toMatchObject({ filled_seq: 100, claim_cursor: 1 });
    expect(await claimOnce(fixture, mine)).toMatchObject({ unfilled: false, attempts: [{ seq: 1 }] });
    // Its one line is busy, and enough lies ahead: nothing is to be done, so nothing spins.
    expect(await claimOnce(fixture, mine)).toMatchObject({ state: 'lines', unfilled: false });
    await fixture.rows('UPDATE carillon.outbound_call_runs SET claim_cursor = 60 WHERE run_id = $1', [run_id]);
    expect(await claimOnce(fixture, mine)).toMatchObject({ state: 'lines', unfilled: true });
    expect(await fill()).toBe(true);
    expect(await fill()).toBe(false);
    expect(await readRow(fixture, run_id)).toMatchObject({ filled_seq: 200 });
    await fixture.rows('UPDATE carillon.outbound_call_runs SET claim_cursor = 200 WHERE run_id = $1', [run_id]);
    expect(await fill()).toBe(true);
    expect(await readRow(fixture, run_id)).toMatchObject({ filled_seq: 250 });
    expect(await fill()).toBe(false);
    expect(await claimOnce(fixture, mine)).toMatchObject({ unfilled: false });
  });
});
