import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stopRun } from '../src/run/stop.ts';
import {
  actor,
  claimAll,
  createFixture,
  createTenant,
  ended,
  expectRecounted,
  type Fixture,
  lease,
  live,
  readRow,
  record,
  startRun,
} from './support/fixture.ts';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
});
afterAll(async () => await fixture.close());

describe('a run from its list to its end', () => {
  it('calls each lead once and ends with every counter equal to its rows', async () => {
    const tenant = await createTenant(fixture, { leads: 50, lines: 20 });
    const run_id = await startRun(fixture, tenant);
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'pending', total_leads: 50, queued: 50 });
    const mine = await lease(fixture, tenant, run_id);
    const numbers: string[] = [];
    for (let round = 0; (await readRow(fixture, run_id)).status === 'running' && round < 100; round++) {
      const attempts = await claimAll(fixture, mine, 20);
      for (const attempt of attempts) {
        const call_id = `CA${attempt.seq}`;
        numbers.push(attempt.to);
        expect(await record(fixture, attempt, { kind: 'accepted', call_id })).toBe('applied');
        expect(await record(fixture, attempt, live(call_id, 'ringing'))).toBe('applied');
        expect(await record(fixture, attempt, ended(call_id, attempt.seq % 5 === 0 ? 'busy' : 'completed'))).toBe(
          'applied',
        );
      }
      await expectRecounted(fixture, run_id);
    }
    const row = await readRow(fixture, run_id);
    expect(row).toMatchObject({
      status: 'completed',
      completed: 40,
      failed: 10,
      cursor_position: 50,
      locked_by_worker: null,
    });
    expect(row.ended_at).not.toBeNull();
    expect(new Set(numbers).size).toBe(50);
    expect(numbers).toHaveLength(50);
  });

  it('stops in the middle: what is queued is cancelled at once, what is live ends, and the last one ends the run', async () => {
    const tenant = await createTenant(fixture, { leads: 30, lines: 10 });
    const run_id = await startRun(fixture, tenant);
    const mine = await lease(fixture, tenant, run_id);
    const attempts = await claimAll(fixture, mine, 10);
    expect(attempts).toHaveLength(10);
    const stopped = await stopRun(fixture.db, tenant.business_id, run_id, 'drain', actor);
    expect(stopped).toMatchObject({
      status: 'cancelling',
      in_flight: 10,
      cancelled: 20,
      queued: 0,
      cancel_requested: true,
    });
    expect(await claimAll(fixture, mine, 10)).toHaveLength(0);
    for (const attempt of attempts) await record(fixture, attempt, ended(`CX${attempt.seq}`, 'completed'));
    const row = await readRow(fixture, run_id);
    expect(row).toMatchObject({ status: 'cancelled', completed: 10, cancelled: 20, cursor_position: 30 });
    expect(row.ended_at).not.toBeNull();
    await expectRecounted(fixture, run_id);
  });
});
