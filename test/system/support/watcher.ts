import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';

/** Counting costs the database as much as calling does; what is being judged must have room to work. */
const EVERY_MS = 50;

/** A run's figures and those that its rows give, both read in one snapshot. */
export interface Seen {
  run_id: number;
  cursor_position: number;
  counters: string;
  recount: string;
  finished: number;
}

const STATES = ['queued', 'waiting', 'in_progress', 'completed', 'failed', 'cancelled', 'skipped', 'needs_review'];

/** Runs that are not stopped: their rows say themselves what they are. Jobs not yet made from the list are queued. */
const RUNS = `
  SELECT run_id::int, cursor_position, total_leads - filled_seq AS unmade, concat_ws(' ', ${STATES.join(', ')}) AS counters
  FROM carillon.outbound_call_runs WHERE cancel_requested_at IS NULL ORDER BY run_id`;
const JOBS = `
  SELECT run_id::int, status, count(*)::int AS jobs FROM carillon.outbound_call_jobs GROUP BY run_id, status`;

/**
 * Reads every run and recounts its jobs, both in one snapshot, again and again until it is told to stop. Returns what
 * differed, and how many different moments it saw.
 */
export function watchCounters(superuserUrl: string): () => Promise<{ moments: number; differing: Seen[] }> {
  const stop = new AbortController();
  const differing: Seen[] = [];
  const moments = new Set<string>();

  async function look(client: pg.Client): Promise<void> {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    const runs = await client.query<{ run_id: number; cursor_position: number; unmade: number; counters: string }>(
      RUNS,
    );
    const jobs = await client.query<{ run_id: number; status: string; jobs: number }>(JOBS);
    await client.query('COMMIT');
    for (const { run_id, cursor_position, unmade, counters } of runs.rows) {
      const of = (state: string) => jobs.rows.find((row) => row.run_id === run_id && row.status === state)?.jobs ?? 0;
      const recounted = STATES.map((state) => of(state) + (state === 'queued' ? unmade : 0));
      const recount = recounted.join(' ');
      const finished = recounted.slice(STATES.indexOf('completed')).reduce((sum, count) => sum + count, 0);
      if (counters !== recount || cursor_position !== finished)
        differing.push({ run_id, cursor_position, counters, recount, finished });
      moments.add(`${run_id} ${counters}`);
    }
  }

  async function watch(): Promise<void> {
    const client = new pg.Client({ connectionString: superuserUrl });
    await client.connect();
    try {
      while (!stop.signal.aborted) {
        await look(client);
        await pause(EVERY_MS);
      }
    } finally {
      await client.end();
    }
  }

  const watching = watch();
  // Told by whoever stops it.
  watching.catch(() => {});
  return async () => {
    stop.abort();
    await watching;
    return { moments: moments.size, differing };
  };
}
