import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { violatedConstraint } from '../src/db/database.ts';
import { claimAll, createFixture, createTenant, type Fixture, lease, startRun } from './support/fixture.ts';

/** What the database itself refuses, whoever writes it: the last that stands where the code is wrong. */

let fixture: Fixture;
let run_id: number;
beforeAll(async () => {
  fixture = await createFixture();
  const tenant = await createTenant(fixture, { leads: 3, lines: 2 });
  const made = await startRun(fixture, tenant);
  run_id = made;
  await claimAll(fixture, await lease(fixture, tenant, made), 2);
});
afterAll(async () => await fixture.close());

async function refusedBy(sql: string): Promise<string | undefined> {
  return await fixture.rows(sql, [run_id]).then(
    () => undefined,
    (error: unknown) => violatedConstraint(error),
  );
}

describe('the row of a run', () => {
  it.each([
    ['counters_add_up', 'counters that do not add up to its leads', 'completed = completed + 1'],
    ['cursors_in_bounds', 'a claim cursor beyond the jobs that are made', 'claim_cursor = filled_seq + 2'],
    [
      'ended_when_final',
      'a final state without its time',
      "status = 'completed', queued = 0, in_progress = 0, failed = 3",
    ],
    ['final_when_done', 'a final state with unfinished jobs', "status = 'completed', ended_at = now()"],
    ['stopped_holds_no_work', 'work that waits in a stopped run', "status = 'cancelling', cancel_requested_at = now()"],
  ])('can not hold (%s) %s', async (constraint, _what, change) => {
    const update = `UPDATE carillon.outbound_call_runs SET ${change} WHERE run_id = $1`;
    expect(await refusedBy(update)).toBe(constraint);
  });
});

describe('a job', () => {
  it('can not have two open attempts', async () => {
    const columns = await fixture.rows<{ column_name: string }>(
      `SELECT column_name FROM information_schema.columns
       WHERE table_schema = 'carillon' AND table_name = 'open_attempts' ORDER BY ordinal_position`,
    );
    const names = columns.map(({ column_name }) => column_name);
    const other = names.map((name) => {
      if (name === 'token') return `'${'A'.repeat(22)}'`;
      return name === 'attempt_no' ? 'attempt_no + 1' : name;
    });
    const second = `INSERT INTO carillon.open_attempts (${names.join(', ')})
      SELECT ${other.join(', ')} FROM carillon.open_attempts WHERE run_id = $1 AND seq = 1`;
    expect(await refusedBy(second)).toBe('open_attempts_pkey');
  });
});
