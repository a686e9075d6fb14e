import { openDatabase } from '@carillon/engine';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { type Caller, createCaller, createFixture, type Fixture, startRun } from './support/api.ts';

let fixture: Fixture;
let caller: Caller;
beforeAll(async () => {
  fixture = await createFixture();
  caller = await createCaller(fixture);
});
afterAll(async () => await fixture.close());

/** Ends the connection of the next transaction that has something to say in the trail, in the middle of its COMMIT. */
async function cutNextCommit(): Promise<void> {
  await fixture.rows(`
    CREATE SEQUENCE IF NOT EXISTS public.cuts;
    CREATE OR REPLACE FUNCTION public.cut() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
      $$ BEGIN IF nextval('public.cuts') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NULL; END $$;
    DROP TRIGGER IF EXISTS cut ON carillon.audit_events;
    CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON carillon.audit_events DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION public.cut();
    SELECT setval('public.cuts', 1, false)`);
}

async function cuts(): Promise<number> {
  const [row] = await fixture.rows<{ cut: boolean }>('SELECT is_called AS cut FROM public.cuts');
  return Number(row?.cut);
}

describe('a request whose COMMIT has no answer', () => {
  it('is asked again by us where that changes nothing: its sender sees none of it', async () => {
    await cutNextCommit();
    const run = await startRun(fixture, caller);
    expect(await cuts()).toBe(1);
    const { json } = await fixture.ask(caller.agent, 'GET', '/api/outbound/runs');
    expect(json.items).toMatchObject([{ run_id: run.run_id }]);

    const { run_id } = run;
    for (const [path, payload, status] of [
      [`/api/outbound/runs/${run_id}/pause`, {}, 'paused'],
      [`/api/outbound/runs/${run_id}/resume`, undefined, 'pending'],
      [`/api/outbound_calls/jobs/${run_id}-1/cancel`, undefined, 'cancelled'],
      ['/api/outbound/stop-queue', { run_id }, 'cancelled'],
    ] as const) {
      await cutNextCommit();
      const answer = await fixture.ask(caller.admin, 'POST', path, payload ? { payload } : {});
      expect(answer).toMatchObject({ status: 200, json: { status } });
      expect(await cuts()).toBe(1);
    }
  });

  it('is told that nobody knows what came of it, and when to come again, where it might be done twice', async () => {
    await cutNextCommit();
    const answer = await fixture.ask(caller.admin, 'POST', '/api/lists', { payload: { name: 'One more' } });
    expect(answer).toMatchObject({ status: 503, json: { code: 'outcome_unknown' } });
    expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
  });
});

describe('while the database is away', () => {
  it('whoever asks how things stand is told at once, and a server that closes makes nobody wait', async () => {
    // Longer than a test may take.
    const api_limits = { database_wait_ms: 600_000 };
    const db = openDatabase({ app_url: 'postgres://nobody:x@127.0.0.1:1/nothing' });
    const lost = await createFixture({ db, api_limits });
    try {
      let over = false;
      const waiting = lost.ask('ck_1_1_x', 'GET', '/api/lists').finally(() => (over = true));
      expect(await lost.ask(null, 'GET', '/readyz')).toMatchObject({ status: 503 });
      expect((await lost.ask(null, 'GET', '/metrics')).text).toContain('carillon_database_up 0');
      const since_ms = performance.now();
      await until(() => performance.now() - since_ms > 300, { deadline_ms: 10_000 });
      expect(over).toBe(false);
      await lost.app.close();
      expect(await waiting).toMatchObject({ status: 503, json: { code: 'database_unavailable' } });
    } finally {
      await lost.close();
      await db.close();
    }
  });
});
