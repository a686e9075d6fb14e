import { randomBytes } from 'node:crypto';
import { createCarrierDrivers } from '@carillon/carriers';
import { startCarrierSim } from '@carillon/carrier-sim';
import type { BusinessId, ReadinessReport } from '@carillon/contract';
import {
  createBusiness,
  createCanary,
  createCarrierAccount,
  type Database,
  defaultLimits,
  localActor,
  noteCallback,
  openDatabase,
  removeCanary,
  systemClock,
  tellWorkerClock,
} from '@carillon/engine';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { checkBusiness, checkReadiness, type ReadinessOptions } from '../src/index.ts';

const actor = localActor('test');
let database: TestDatabase;
let db: Database;
let superuser: pg.Pool;
let sim: Awaited<ReturnType<typeof startCarrierSim>>;
let options: ReadinessOptions;
let mine: { business_id: BusinessId; carrier_account_id: number };
let others: BusinessId;

const rows = async (sql: string, params: unknown[] = []) => (await superuser.query(sql, params)).rows;

beforeAll(async () => {
  database = await createTestDatabase();
  db = openDatabase({ app_url: database.appUrl, discovery_url: database.discoveryUrl });
  superuser = new pg.Pool({ connectionString: database.superuserUrl, max: 2 });
  sim = await startCarrierSim({ port: 0, seed: 1 });
  options = {
    db,
    app_url: database.appUrl,
    drivers: createCarrierDrivers(),
    secret: randomBytes(32),
    limits: { ...defaultLimits, lease_ttl_ms: 500 },
    clock: systemClock,
    timeout_ms: 60_000,
    ask_carrier: false,
  };
  const { business_id } = await createBusiness(db, { name: 'Mine' }, actor);
  others = (await createBusiness(db, { name: 'Another' }, actor)).business_id;
  const account = await createCarrierAccount(db, business_id, accountOf('AC1'), options.secret, actor);
  mine = { business_id, carrier_account_id: account.carrier_account_id };
});
afterAll(async () => {
  await sim.close();
  await Promise.all([db.close(), superuser.end()]);
  await database.drop();
});

function accountOf(account_sid: string) {
  return {
    name: 'main',
    driver: 'twilio',
    base_url: sim.url,
    account_sid,
    auth_token: 'token',
    from_numbers: ['+97231110000'],
    concurrency_limit: 3,
    calls_per_second: 1,
  };
}

const of = ({ points, beyond }: ReadinessReport, point: string) => {
  const result = [...points, ...beyond].find((one) => one.point === point);
  if (!result) throw new Error(`the report says nothing of ${point}`);
  return result;
};

describe('what is looked at beyond the seven', () => {
  let report: ReadinessReport;
  const check = async (more: Partial<ReadinessOptions> = {}) => await checkReadiness({ ...options, ...more });
  beforeAll(async () => {
    report = await check();
  });
  beforeEach(async () => {
    await rows('DELETE FROM carillon.workers');
  });

  it('names a server that may forget what was committed', () => {
    // The server of the tests is as fast, and as forgetful, as can be.
    expect(of(report, 'durability')).toMatchObject({ ok: false, evidence: { fsync: 'off' } });
    expect(of(report, 'durability').sentence).toMatch(/fsync is off.*synchronous_commit is off/);
    expect(report.ok).toBe(false);
  });

  it('counts workers, and says that there is none', () => {
    expect(of(report, 'workers')).toMatchObject({ ok: false, evidence: { alive: 0 } });
  });

  it('finds credentials that do not open, by the account, and asks no carrier about the others', async () => {
    expect(of(report, 'credentials')).toMatchObject({ ok: true, evidence: { accounts: 1, asked: 0, refused: [] } });
    const { beyond } = await check({ secret: randomBytes(32) });
    const credentials = beyond.find(({ point }) => point === 'credentials');
    expect(credentials).toMatchObject({ ok: false, evidence: { refused: [{ ...mine }] } });
    expect(credentials?.sentence).toContain('CARILLON_SECRET is not the one that it was sealed with');
  });

  it('finds a number from which two businesses call through one account at the carrier', async () => {
    expect(of(report, 'numbers')).toMatchObject({ ok: true, evidence: { shared: 0 } });
    const theirs = await createCarrierAccount(db, others, accountOf('AC1'), options.secret, actor);
    const shared = of(await check(), 'numbers');
    expect(shared).toMatchObject({
      ok: false,
      evidence: {
        shared: 1,
        each: [[mine, { business_id: others, carrier_account_id: theirs.carrier_account_id }]],
      },
    });
    expect(shared.sentence).toMatch(/a call of the one could be taken for the other’s/);
    expect(JSON.stringify(shared)).not.toContain('+972');
    await rows('DELETE FROM carillon.lanes WHERE business_id = $1', [others]);
    await rows('DELETE FROM carillon.carrier_accounts WHERE business_id = $1', [others]);
  }, 60_000);

  it('takes no number of canaries for shared: another check may be under way, or was killed', async () => {
    const canaries = [await createCanary(db, options.secret), await createCanary(db, options.secret)];
    expect(of(await check(), 'numbers')).toMatchObject({ ok: true, evidence: { shared: 0 } });
    for (const { business_id } of canaries) await removeCanary(db, business_id);
  }, 60_000);

  it('asks the carriers when it is told to, for nothing but their calls of the last minute', async () => {
    const asked = await check({ ask_carrier: true });
    expect(of(asked, 'credentials')).toMatchObject({ ok: true, evidence: { accounts: 1, asked: 1 } });
    const away = await createCarrierAccount(
      db,
      others,
      { ...accountOf('AC2'), base_url: 'http://127.0.0.1:1' },
      options.secret,
      actor,
    );
    const refused = await check({ ask_carrier: true });
    expect(of(refused, 'credentials')).toMatchObject({
      ok: false,
      evidence: { refused: [{ business_id: others, carrier_account_id: away.carrier_account_id }] },
    });
    await rows('DELETE FROM carillon.lanes WHERE business_id = $1', [others]);
    await rows('DELETE FROM carillon.carrier_accounts WHERE business_id = $1', [others]);
    expect(sim.ledger()).toEqual([]);
  });

  it("compares this machine's clock with the database's, and the workers'", async () => {
    expect(of(report, 'clocks').ok).toBe(true);
    const ahead = { monotonicMs: systemClock.monotonicMs, wallMs: () => systemClock.wallMs() + 7_000 };
    const wrong = of(await check({ clock: ahead }), 'clocks');
    expect(wrong.ok).toBe(false);
    expect(wrong.sentence).toMatch(/^This machine's clock is \d+ ms ahead of the database's.*NTP/);
    await rows("INSERT INTO carillon.workers (worker_id, seen_at) VALUES ('w', now() + interval '1 second')");
    await tellWorkerClock(db, 'w', systemClock.wallMs() - 5_000);
    const worker = of(await check({ limits: { ...options.limits, lease_ttl_ms: 60_000 } }), 'clocks');
    expect(worker.ok).toBe(false);
    expect(Number(worker.evidence.worst_worker_skew_ms)).toBeGreaterThan(4_000);
  }, 60_000);

  it('knows when a carrier last called back, of each account', async () => {
    expect(of(report, 'carriers').sentence).toMatch(/no callback was ever received/);
    await noteCallback(db, mine.business_id, mine.carrier_account_id);
    const [noted] = await rows('SELECT last_callback_at FROM carillon.carrier_accounts');
    // Twice within half a minute is once.
    await noteCallback(db, mine.business_id, mine.carrier_account_id);
    expect(await rows('SELECT last_callback_at FROM carillon.carrier_accounts')).toEqual([noted]);
    const heard = of(await checkBusiness(options, mine.business_id), 'carriers');
    expect(heard.sentence).toMatch(/the last callback came \d+ s ago/);
    expect(heard.evidence.each).toMatchObject([{ carrier_account_id: mine.carrier_account_id }]);
    await rows("UPDATE carillon.carrier_accounts SET last_callback_at = now() - interval '31 seconds'");
    await noteCallback(db, mine.business_id, mine.carrier_account_id);
    const [again] = await rows(
      "SELECT now() - last_callback_at < interval '20 seconds' AS fresh FROM carillon.carrier_accounts",
    );
    expect(again).toEqual({ fresh: true });
  });

  it('finds leases that nobody takes over, calls that stay unknown, silent carriers and halted lanes', async () => {
    await rows("UPDATE carillon.lanes SET halted_reason = '20003'");
    const [run] = await rows(
      `INSERT INTO carillon.outbound_call_runs (business_id, name, status, carrier_account_id, concurrency, answer,
         total_leads, filled_seq, in_progress, claim_cursor, created_by, locked_by_worker, lock_ts)
       VALUES ($1, 'x', 'running', $2, 1, '{}', 2, 2, 2, 3, 'test', 'gone', now() - interval '1 minute') RETURNING run_id`,
      [mine.business_id, mine.carrier_account_id],
    );
    await rows(
      `WITH leads AS (INSERT INTO carillon.leads (business_id, phone) VALUES ($1, '+972501000001'), ($1, '+972501000002')
         RETURNING lead_id), jobs AS (
         INSERT INTO carillon.outbound_call_jobs (business_id, run_id, seq, lead_id, status, attempts)
         SELECT $1, $2, row_number() OVER (), lead_id, 'in_progress', 1 FROM leads RETURNING *)
       INSERT INTO carillon.open_attempts (business_id, run_id, seq, attempt_no, carrier_account_id, lead_id, token, state,
         worker_id, lease_epoch, control_epoch, from_number, to_number, intent_us, deadline_us, call_max_ms, heard_us,
         call_id, placed_us)
       SELECT $1, $2, seq, 1, $3, lead_id, repeat('a', 22), CASE seq WHEN 1 THEN 'unknown' ELSE 'ringing' END, 'gone', 1,
         0, '+97231110000', '+97250100000' || seq, t.us, t.us, 600000, t.us, CASE seq WHEN 2 THEN 'CA1' END,
         CASE seq WHEN 2 THEN t.us END
       FROM jobs, (SELECT ((extract(epoch FROM now()) - 3600) * 1000000)::bigint AS us) t`,
      [mine.business_id, run.run_id, mine.carrier_account_id],
    );
    for (const seen of [await check(), await checkBusiness(options, mine.business_id)]) {
      expect(of(seen, 'leases')).toMatchObject({ ok: false, evidence: { stale_leases: 1 } });
      expect(of(seen, 'backlog')).toMatchObject({ ok: false, evidence: { unknown_attempts: 1 } });
      expect(of(seen, 'backlog').sentence).toMatch(/unknown for \d+ s, and should have been settled after \d+ s/);
      expect(of(seen, 'carriers')).toMatchObject({ ok: true, warning: true });
      expect(of(seen, 'carriers').sentence).toMatch(
        /accounts that are halted: 1 \(20003\).*said nothing of live calls/,
      );
      expect(of(seen, 'cursor').ok).toBe(true);
    }
  }, 60_000);
});

describe('the report of one business', () => {
  it('tells of its own runs and accounts alone, and of nothing else', async () => {
    const report = await checkBusiness(options, others);
    expect(report.scope).toBe('business');
    expect(report.points.map(({ point }) => point)).toEqual(['cursor']);
    expect(report.beyond.map(({ point }) => point)).toEqual(['leases', 'backlog', 'credentials', 'carriers']);
    expect(report.ok).toBe(true);
    expect(of(report, 'cursor').evidence).toMatchObject({ runs_counted: 0, jobs_counted: 0 });
    expect(of(report, 'credentials').evidence).toMatchObject({ accounts: 0 });
    expect(JSON.stringify(report)).not.toContain(`"business_id":${mine.business_id}`);
  });

  it('finds a counter that differs from its rows, and the business beside it hears nothing of it', async () => {
    await rows('ALTER TABLE carillon.outbound_call_runs DROP CONSTRAINT counters_add_up');
    await rows('UPDATE carillon.outbound_call_runs SET failed = failed + 3 WHERE business_id = $1', [mine.business_id]);
    const cursor = of(await checkBusiness(options, mine.business_id), 'cursor');
    expect(cursor.ok).toBe(false);
    expect(cursor.sentence).toMatch(/failed 3, counted 0, cursor_position 3, counted 0/);
    expect((await checkBusiness(options, others)).ok).toBe(true);
  });

  it('leaves nothing behind, and makes nothing', async () => {
    const before = await rows('SELECT count(*) AS businesses, max(business_id) FROM carillon.businesses');
    await checkBusiness(options, mine.business_id);
    expect(await rows('SELECT count(*) AS businesses, max(business_id) FROM carillon.businesses')).toEqual(before);
  });
});
