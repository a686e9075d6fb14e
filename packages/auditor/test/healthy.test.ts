import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createWorld, finishedRun, openRun, type World } from './support/world.ts';

let world: World;
beforeAll(async () => void (world = await createWorld()));
afterAll(async () => await world.close());

describe('what the engine has done', () => {
  it('is found in order, whatever became of the attempts', async () => {
    const run = await finishedRun(world);
    const [row] = await world.rows(
      'SELECT status, completed, failed, needs_review FROM carillon.outbound_call_runs WHERE run_id = $1',
      [run.run_id],
    );
    expect(row).toEqual({ status: 'completed', completed: 7, failed: 2, needs_review: 1 });
    await openRun(world);
    const report = await world.audit();
    expect(report.violations).toEqual([]);
    expect(report).toMatchObject({
      ok: true,
      incomplete: [],
      checked: { businesses: 2, runs: 2, jobs: 20, attempts: 18, ledger_calls: 0, carrier_numbers: 0 },
    });
    expect(report.checked.events).toBeGreaterThanOrEqual(7);
  });
});
