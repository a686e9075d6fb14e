import pg from 'pg';
import { until } from '../../../../test/support/wait.ts';
import type { Fixture } from './fixture.ts';

type Statement = readonly [sql: string, params: readonly unknown[]];

export interface Waited<T> {
  result: T;
  /** Whether it stood still until the other transaction had ended. */
  waited: boolean;
}

/**
 * Does `change` in a transaction, begins `work` while that is open, and commits once `waiting` of its statements wait for
 * a lock, or it has ended without waiting. So `work` meets rows that change between its first look and its lock.
 */
export async function behind<T>(
  fixture: Fixture,
  change: readonly Statement[],
  work: () => Promise<T>,
  waiting = 1,
): Promise<Waited<T>> {
  const holder = new pg.Client({ connectionString: fixture.superuserUrl });
  await holder.connect();
  try {
    await holder.query('BEGIN');
    for (const [sql, params] of change) await holder.query(sql, [...params]);
    const state = { ended: false };
    const done = work().finally(() => (state.ended = true));
    // Whoever asks for the result hears of its failure.
    done.catch(() => {});
    await until(async () => state.ended || (await waiters(fixture)) >= waiting, {
      deadline_ms: 30_000,
      what: `${waiting} that wait for a lock`,
    });
    const waited = !state.ended;
    await holder.query('COMMIT');
    return { result: await done, waited };
  } finally {
    await holder.end();
  }
}

/** How many statements of this database wait for a lock. */
export async function waiters(fixture: Fixture): Promise<number> {
  const waiting = await fixture.rows(
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
  );
  return waiting.length;
}
