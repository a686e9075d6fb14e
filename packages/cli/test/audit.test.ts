import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import type { AuditReport } from '@carillon/auditor';
import { type BehaviourInput, type CarrierSim, startCarrierSim } from '@carillon/carrier-sim';
import { createCarrierDrivers } from '@carillon/carriers';
import { isFinalRun, type Run, type StoppedRun } from '@carillon/contract';
import { defaultLimits, type Limits, openDatabase, systemClock } from '@carillon/engine';
import { startWorker } from '@carillon/worker';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { until } from '../../../test/support/wait.ts';
import type { Environment } from '../src/config.ts';
import { carillon } from './support/cli.ts';

const SEED = 7;
const SECRET = Buffer.alloc(32, 1);

/** Short enough for a test, in the proportions of the real ones. */
const QUICK: Partial<Limits> = {
  dial_deadline_ms: 1_000,
  carrier_effect_delay_ms: 300,
  carrier_listing_delay_ms: 200,
  reconcile_margin_ms: 300,
  reconcile_every_ms: 200,
  poll_after_ms: 300,
  hang_up_every_ms: 200,
  poll_work_ms: 100,
};

/** Everything that may become of a call, and some that are only found in the carrier's list. */
const TROUBLE: BehaviourInput = {
  default: {
    ring_ms: [20, 60],
    talk_ms: [20, 200],
    response_delay_ms: [0, 20],
    outcomes: { answered: 6, busy: 3, no_answer: 2, failed: 1 },
    lose_response: 0.15,
    http_error: { status: 502, probability: 0.05, create: false },
    refuse: { code: 20429, status: 429, probability: 0.05 },
  },
};

const LEADS = 120;
let database: TestDatabase;
let sim: CarrierSim;
let dir: string;
let env: Environment;
let stop: () => Promise<void>;
let business: string;

beforeAll(async () => {
  console.log(`seed of the simulated carrier: ${SEED}`);
  database = await createTestDatabase();
  dir = await mkdtemp(path.join(os.tmpdir(), 'carillon-audit-'));
  sim = await startCarrierSim({ port: 0, seed: SEED, behaviour: TROUBLE });
  env = {
    DATABASE_URL: database.appUrl,
    CARILLON_SECRET: SECRET.toString('base64'),
    SIM_TOKEN: 'token',
    ...Object.fromEntries(
      Object.entries(QUICK).map(([name, value]) => [`CARILLON_${name.toUpperCase()}`, String(value)]),
    ),
  };
  const db = openDatabase({ app_url: database.appUrl });
  const limits = { ...defaultLimits, ...QUICK };
  const worker = startWorker({
    db,
    app_url: database.appUrl,
    drivers: createCarrierDrivers({
      effect_delay_ms: limits.carrier_effect_delay_ms,
      listing_delay_ms: limits.carrier_listing_delay_ms,
    }),
    secret: SECRET,
    // Where nobody is: whatever becomes of a call is learned by asking.
    public_url: 'http://127.0.0.1:9',
    limits,
    clock: systemClock,
    log: pino({ level: 'silent' }),
  });
  stop = async () => {
    await worker.stop();
    await db.close();
  };
  const made = (await carillon(['business', 'create', 'A business', '--json'], env)).json<{ business_id: number }>();
  business = String(made.business_id);
  const account = ['--sid', 'AC1', '--token-env', 'SIM_TOKEN', '--base-url', sim.url, '--from', '+97231110000'];
  await ask('account', 'create', ...account, '--lines', '30', '--rate', '100');
});
afterAll(async () => {
  await stop();
  await sim.close();
  await rm(dir, { recursive: true, force: true });
  await database.drop();
});

/** With --business and --json. */
async function ask<T = unknown>(...args: string[]): Promise<T> {
  const answer = await carillon([...args, '--business', business, '--json'], env);
  if (answer.code !== 0) throw new Error(`${args.join(' ')}: ${answer.stderr}`);
  return answer.json<T & Record<string, unknown>>();
}

async function start(list: string, ...options: string[]): Promise<number> {
  const csv = path.join(dir, `${list}.csv`);
  const first = 3_000_000 + Number(list) * LEADS;
  await writeFile(csv, ['phone', ...Array.from({ length: LEADS }, (_, i) => `+97252${first + i}`)].join('\n'));
  await ask('leads', 'import', csv, '--list', `List ${list}`);
  return (await ask<Run>('runs', 'start', '--list', `List ${list}`, ...options)).run_id;
}

async function show(run_id: number): Promise<Run> {
  return await ask<Run>('runs', 'show', String(run_id));
}

async function ended(run_id: number): Promise<Run> {
  return await until(
    async () => {
      const run = await show(run_id);
      return isFinalRun(run.status) ? run : null;
    },
    { deadline_ms: 60_000, every_ms: 200, what: `the end of run ${run_id}` },
  );
}

const audited = async (...args: string[]) => {
  const { code, stdout, stderr } = await carillon(['audit', '--json', ...args], env);
  if (code === 2) throw new Error(stderr);
  return { code, report: JSON.parse(stdout) as AuditReport };
};

const RETRY = '{"retry": {"busy": {"times": 2, "after_s": 0}, "no_answer": {"times": 1, "after_s": 1}}}';

describe('carillon audit', () => {
  let first: number;
  let stopped: number;

  it('finds an installation in order after retries, lost answers, refusals, a pause and a stop', async () => {
    first = await start('1', '--policy', RETRY);
    await until(async () => (await show(first)).cursor_position > 20, {
      deadline_ms: 30_000,
      what: 'some calls to end',
    });
    // In the middle of everything as well.
    const during = await audited('--ledger', sim.url);
    expect(during.report.violations).toEqual([]);
    await ask('runs', 'pause', String(first));
    stopped = await start('2', '--policy', RETRY);
    await until(async () => (await show(stopped)).cursor_position > 20, {
      deadline_ms: 30_000,
      what: 'some calls to end',
    });
    await ask<StoppedRun>('runs', 'stop', String(stopped), '--hang-up');
    await ask('runs', 'resume', String(first));
    expect(await ended(first)).toMatchObject({ status: 'completed', cursor_position: LEADS });
    expect(await ended(stopped)).toMatchObject({ status: 'cancelled', cursor_position: LEADS });

    const { code, report } = await audited('--ledger', sim.url);
    expect(report.violations).toEqual([]);
    expect(report.incomplete).toEqual([]);
    expect(code).toBe(0);
    expect(report).toMatchObject({ ok: true, checked: { businesses: 1, runs: 2, jobs: 2 * LEADS } });
    expect(report.checked.ledger_calls).toBe(sim.ledger().length);
    expect(report.checked.attempts).toBeGreaterThan(report.checked.ledger_calls);
    const outcomes = await withClient(database.superuserUrl, (client) =>
      client.query<{ outcome: string }>('SELECT DISTINCT outcome FROM carillon.attempts'),
    );
    // What the day was to hold did happen.
    expect(outcomes.rows.map(({ outcome }) => outcome)).toEqual(
      expect.arrayContaining(['completed', 'busy', 'no_answer', 'rejected', 'absent']),
    );
  });

  it('asks the carrier for its list where there is no ledger, within its bound', async () => {
    const whole = await audited();
    expect(whole.report.violations).toEqual([]);
    expect(whole).toMatchObject({ code: 0, report: { ok: true, incomplete: [] } });
    expect(whole.report.checked.carrier_numbers).toBeGreaterThan(LEADS);
    const part = await audited('--carrier-numbers', '5', String(first));
    expect(part).toMatchObject({
      code: 1,
      report: { ok: false, violations: [], checked: { runs: 1, carrier_numbers: 5 } },
    });
    expect(part.report.incomplete).toMatchObject([{ invariant: 2 }]);
    sim.behaviour = { ...TROUBLE, default: { ...TROUBLE.default, down: true } };
    const down = await audited(String(first));
    sim.behaviour = TROUBLE;
    expect(down).toMatchObject({ code: 1, report: { ok: false, violations: [] } });
    expect(down.report.incomplete).toHaveLength(LEADS);
  });

  it('says it to a person, line by line', async () => {
    const { code, stdout } = await carillon(['audit', '--ledger', sim.url], env);
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /^Audited 1 business, 2 runs, 240 jobs, \d+ attempts, \d+ changes of runs, \d+ calls of the ledger\.\n/,
    );
    expect(stdout.match(/^ {2}[1-8] {2}holds +\S/gm)).toHaveLength(8);
  });

  it('needs no secret for the rows alone, and says what is missing otherwise', async () => {
    const { CARILLON_SECRET: _, ...poor } = env;
    expect(await carillon(['audit', '--no-carrier'], poor)).toMatchObject({ code: 0 });
    const refused = await carillon(['audit'], poor);
    expect(refused).toMatchObject({ code: 2, stdout: '' });
    expect(refused.stderr).toMatch(/CARILLON_SECRET is not set: .*--no-carrier.* \[config_invalid\]/);
  });

  it('does not know a run or a business that is not there', async () => {
    expect(await carillon(['audit', '999999', '--no-carrier'], env)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/\[run_not_found\]/),
    });
    expect(await carillon(['audit', '--business', '999999', '--no-carrier'], env)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/\[business_not_found\]/),
    });
    expect(await carillon(['audit', 'first'], env)).toMatchObject({ code: 2 });
  });

  it('names what is broken, in both forms, and ends with 1', async () => {
    await withClient(database.superuserUrl, (client) =>
      client.query(
        `UPDATE carillon.outbound_call_runs SET completed = completed - 1, failed = failed + 1 WHERE run_id = $1`,
        [first],
      ),
    );
    const { code, report } = await audited('--no-carrier');
    expect(code).toBe(1);
    expect(report).toMatchObject({ ok: false, violated: { 1: 0, 3: 1 } });
    expect(report.violations).toMatchObject([{ invariant: 3, run_id: first, business_id: Number(business) }]);
    const told = await carillon(['audit', String(first), '--no-carrier'], env);
    expect(told.code).toBe(1);
    expect(told.stdout).toMatch(/^ {2}3 {2}1 fault /m);
    expect(told.stdout).toMatch(
      new RegExp(`^ {2}\\[3\\] business ${business}: Run ${first} counts \\d+ completed`, 'm'),
    );
    expect((await audited(String(stopped), '--no-carrier')).code).toBe(0);
  });
});
