import { createSystemKey, type Database, localActor, openDatabase } from '@carillon/engine';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Gate, startGate } from '../../../test/support/gate.ts';
import { until } from '../../../test/support/wait.ts';
import {
  type Caller,
  callbackPath,
  claimAttempts,
  createCaller,
  createFixture,
  csv,
  type Fixture,
  type Json,
  signed,
  startRun,
  statusForm,
} from './support/api.ts';

let fixture: Fixture;
let caller: Caller;
let gate: Gate;
/** The same database and another API, through a door. */
let through: Database;
let behind: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
  caller = await createCaller(fixture);
  gate = await startGate(fixture.appUrl);
  through = openDatabase({ app_url: gate.url(fixture.appUrl), discovery_url: fixture.discoveryUrl });
  behind = await createFixture({ db: through, app_url: fixture.appUrl });
});
afterAll(async () => {
  await behind.close();
  await through.close();
  await gate.shut();
  await fixture.close();
});

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
  it('and did not go through is carried out by us: its sender sees none of it', async () => {
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

  describe.each([
    ['and went through', 'done'],
    ['and did not reach the server', 'never sent'],
  ] as const)('%s', (_, fate) => {
    /** Asks through a door that loses a COMMIT of it: of a business's key, that behind the look at the key. */
    async function askLosing(key: string, url: string, payload: object, text = 'COMMIT'): Promise<Json> {
      const lost = gate.loseNext(text, fate, key.startsWith('ck_system_') ? 0 : 1);
      const { status, json } = await behind.ask(key, 'POST', url, { payload });
      expect(lost(), 'answers that were lost').toBe(1);
      return { status, ...json };
    }

    it('makes one list', async () => {
      const name = `List ${fate}`;
      expect(await askLosing(caller.admin, '/api/lists', { name })).toMatchObject({ status: 201, name });
      expect(await fixture.rows('SELECT 1 FROM carillon.lists WHERE name = $1', [name])).toHaveLength(1);
    });

    it('makes one lead, and says that it is new', async () => {
      const phone = fate === 'done' ? '+972521110001' : '+972521110002';
      expect(await askLosing(caller.admin, '/api/leads', { phone })).toMatchObject({ status: 201 });
      expect(await askLosing(caller.admin, '/api/leads', { phone })).toMatchObject({ status: 200 });
    });

    it('makes one key, the one that is told', async () => {
      const { key, key_id, status } = await askLosing(caller.owner, '/api/keys', { role: 'agent', label: fate });
      expect(status).toBe(201);
      expect(await fixture.rows('SELECT key_id::int FROM carillon.api_keys WHERE label = $1', [fate])).toEqual([
        { key_id },
      ]);
      expect(await fixture.ask(String(key), 'GET', '/api/lists')).toMatchObject({ status: 200 });
    });

    it('makes one business, with one owner', async () => {
      const { key } = await createSystemKey(fixture.db, {}, localActor('test'));
      // Its number is drawn by a statement alone.
      for (const text of ['nextval', 'COMMIT']) {
        const name = `Business ${fate} ${text.toLowerCase()}`;
        const { status, business_id } = await askLosing(key, '/api/businesses', { name }, text);
        expect(status).toBe(201);
        const made = await fixture.rows(
          `SELECT business_id::int, (SELECT count(*)::int FROM carillon.api_keys k WHERE k.business_id = b.business_id) AS keys
           FROM carillon.businesses b WHERE name = $1`,
          [name],
        );
        expect(made).toEqual([{ business_id, keys: 1 }]);
      }
    });

    it('takes a file once, whichever of its transactions it was', async () => {
      for (let place = 1; place <= 4; place++) {
        const { json } = await fixture.ask(caller.admin, 'POST', '/api/lists', { payload: { name: 'Uploaded' } });
        const lost = gate.loseNext('COMMIT', fate, place);
        const url = `/api/lists/${Number(json.list_id)}/import`;
        const report = await behind.ask(caller.admin, 'POST', url, csv(5));
        if (lost() === 0) return expect(place, 'the transactions of an upload').toBeGreaterThan(3);
        expect(report).toMatchObject({ status: 200, json: { lines: 5, accepted: 5, rejected: 0 } });
        const leads = await fixture.ask(caller.agent, 'GET', `/api/lists/${Number(json.list_id)}/leads`);
        expect(leads.json.items).toHaveLength(5);
      }
    });
  });

  it('is told that nobody knows what came of it, and when to come again, where the database stays away', async () => {
    const hasty = await createFixture({ db: through, api_limits: { database_wait_ms: 0 } });
    try {
      gate.loseNext('COMMIT', 'done', 1);
      const answer = await hasty.ask(caller.admin, 'POST', '/api/lists', { payload: { name: 'One more' } });
      expect(answer).toMatchObject({ status: 503, json: { code: 'outcome_unknown' } });
      expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
    } finally {
      await hasty.close();
    }
  });
});

describe('a receipt', () => {
  const receipts = async () => (await fixture.rows('SELECT 1 FROM carillon.receipts')).length;

  it('is left by whoever changes something, and not by whoever reads', async () => {
    const before = await receipts();
    await fixture.ask(caller.agent, 'GET', '/api/lists');
    await fixture.ask(caller.agent, 'GET', '/api/lists/999999/leads');
    expect(await receipts()).toBe(before);
    await fixture.ask(caller.admin, 'POST', '/api/lists', { payload: { name: 'Another' } });
    expect(await receipts()).toBe(before + 1);
  });

  it('is left by no callback of a carrier: what it tells is the same when told twice', async () => {
    const called = await createCaller(fixture, 1);
    const { run_id } = await startRun(fixture, called);
    const [attempt] = await claimAttempts(fixture, run_id);
    if (!attempt) throw new Error('no attempt');
    const before = await receipts();
    const path = callbackPath('status', attempt);
    expect(await fixture.ask(null, 'POST', path, signed(path, statusForm('CA1', 'busy')))).toMatchObject({
      status: 204,
    });
    expect(await receipts()).toBe(before);
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
