import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { startApi } from '@carillon/api';
import { audit } from '@carillon/auditor';
import { type BehaviourInput, startCarrierSim } from '@carillon/carrier-sim';
import { createCarrierDrivers } from '@carillon/carriers';
import type { ImportReport, Run, StartRun } from '@carillon/contract';
import {
  acknowledgeRestore,
  createBusiness,
  defaultLimits,
  discoveryUrl,
  type Limits,
  localActor,
  openDatabase,
} from '@carillon/engine';
import pg from 'pg';
import { pino } from 'pino';
import type { ExpectStatic } from 'vitest';
import { createTestDatabase } from '../../support/database.ts';
import { until } from '../../support/wait.ts';
import { type Environment, type Running, startCarillon } from './processes.ts';

/** The same for the processes and for the API in this one. */
export const LIMITS = {
  lease_ttl_ms: 1_500,
  dial_deadline_ms: 1_000,
  carrier_effect_delay_ms: 300,
  carrier_listing_delay_ms: 100,
  reconcile_margin_ms: 300,
  reconcile_every_ms: 200,
  poll_after_ms: 400,
  hang_up_every_ms: 200,
  dial_response_timeout_ms: 2_000,
  poll_work_ms: 100,
  ring_timeout_ms: 5_000,
  call_max_ms: 60_000,
  lane_halt_first_ms: 100,
  lane_halt_longest_ms: 500,
  // Small batches, so that a few leads take several.
  fill_batch_jobs: 2,
  fill_ahead_jobs: 2,
  sweep_batch_jobs: 2,
  // Whoever is killed on purpose again and again has not been a fruitless worker.
  fruitless_leases: 1_000,
} as const satisfies Partial<Limits>;

const BRISK = { ring_ms: [10, 30], talk_ms: [100, 200], response_delay_ms: 0, outcomes: { answered: 1 } } as const;
const DEADLINE_MS = 60_000;

export interface CaseOptions {
  leads?: number;
  lines?: number;
  behaviour?: BehaviourInput['default'];
  /** Of calls to these numbers. */
  numbers?: BehaviourInput['numbers'];
  limits?: Partial<Limits>;
  /** Where the carrier is reached, if not at its own address. */
  wayTo?(url: string): Promise<string>;
}

/**
 * A database, a carrier and an API for one fault alone, the latter two in this process; workers, and APIs that are to
 * die, are processes of their own.
 */
export async function createCase(options: CaseOptions = {}) {
  const leads = options.leads ?? 3;
  const limits: Limits = { ...defaultLimits, ...LIMITS, ...options.limits };
  const database = await createTestDatabase();
  const secret = randomBytes(32);
  const db = openDatabase({ app_url: database.appUrl });
  const superuser = new pg.Pool({ connectionString: database.superuserUrl, max: 2 });
  superuser.on('error', () => {});
  const sim = await startCarrierSim({
    port: 0,
    // A request whose body does not follow is dropped, as carriers do.
    behaviour: {
      body_timeout_ms: 1_000,
      default: { ...BRISK, ...options.behaviour } as BehaviourInput['default'],
      numbers: options.numbers,
    },
  });
  const drivers = createCarrierDrivers({
    connect_timeout_ms: 2_000,
    dial_response_timeout_ms: limits.dial_response_timeout_ms,
    request_timeout_ms: 5_000,
    effect_delay_ms: limits.carrier_effect_delay_ms,
    listing_delay_ms: limits.carrier_listing_delay_ms,
  });
  const api = await startApi({
    db,
    app_url: database.appUrl,
    drivers,
    secret,
    limits,
    host: '127.0.0.1',
    port: 0,
    log: pino({ level: 'silent' }),
  });
  const env: Environment = {
    ...Object.fromEntries(
      Object.entries({ ...LIMITS, ...options.limits }).map(([name, value]) => [
        `CARILLON_${name.toUpperCase()}`,
        String(value),
      ]),
    ),
    DATABASE_URL: database.appUrl,
    CARILLON_SECRET: secret.toString('base64'),
    CARILLON_LOG_LEVEL: 'warn',
    CARILLON_POOL_CONNECTIONS: '3',
  };
  const processes: Running[] = [];
  const { business_id, key } = await createBusiness(db, { name: 'A business' }, localActor('test'));

  async function send(url: string, method: string, path: string, body?: object | string, more = {}): Promise<Response> {
    const text = typeof body === 'object' ? JSON.stringify(body) : body;
    const headers: Record<string, string> = { authorization: `Bearer ${key}`, ...more };
    if (body !== undefined) headers['content-type'] = typeof body === 'string' ? 'text/csv' : 'application/json';
    return await fetch(url + path, { method, headers, body: text });
  }

  async function ask<Answer>(method: string, path: string, body?: object | string, more = {}): Promise<Answer> {
    const response = await send(api.url, method, path, body, more);
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return JSON.parse(text) as Answer;
  }

  async function rows<Row extends pg.QueryResultRow>(sql: string, params: unknown[] = []): Promise<Row[]> {
    return (await superuser.query<Row>(sql, params)).rows;
  }

  const { carrier_account_id } = await ask<{ carrier_account_id: number }>('POST', '/api/carrier_accounts', {
    name: 'main',
    driver: 'twilio',
    base_url: (await options.wayTo?.(sim.url)) ?? sim.url,
    account_sid: 'AC1',
    auth_token: 'token',
    from_numbers: ['+97231110000'],
    concurrency_limit: options.lines ?? 3,
    calls_per_second: 100,
  });
  const { list_id } = await ask<{ list_id: number }>('POST', '/api/lists', { name: 'A list' });
  const numbers = Array.from({ length: leads }, (_, i) => `+97252${3_000_000 + i}`);
  await ask<ImportReport>('POST', `/api/lists/${list_id}/import`, ['phone', ...numbers].join('\n'));

  function track(process: Running): Running {
    processes.push(process);
    return process;
  }

  return {
    business_id,
    carrier_account_id,
    leads,
    numbers,
    list_id,
    limits,
    api,
    sim,
    rows,
    send,
    ask,
    superuserUrl: database.superuserUrl,

    /** A worker; with a fault, one that meets it. Its callbacks go to `public_url`. */
    worker: (fault?: string, public_url = api.url, more: Environment = {}): Running =>
      track(
        startCarillon(['worker'], {
          ...env,
          CARILLON_PUBLIC_URL: public_url,
          ...(fault && { CARILLON_FAULT: fault }),
          ...more,
        }),
      ),

    /** An API process that meets a fault, and its address. */
    async doomedApi(fault: string): Promise<{ process: Running; url: string }> {
      const process = track(startCarillon(['api', '--port', '0'], { ...env, CARILLON_FAULT: fault }));
      const [, url = ''] = await process.says(/listens at (\S+)/, DEADLINE_MS);
      return { process, url };
    },

    /** Another API at the address of one that died. */
    async successor(url: string): Promise<void> {
      const process = track(startCarillon(['api', '--port', new URL(url).port], env));
      await process.says(/listens at (\S+)/, DEADLINE_MS);
    },

    async start(request: Partial<StartRun> = {}): Promise<number> {
      return (await ask<Run>('POST', '/api/outbound_calls/start', { list_id, ...request })).run_id;
    },

    /** A person lets the installation go on after a restore, and its runs with it. */
    async acknowledge(): Promise<void> {
      const report = await acknowledgeRestore(db, { force: false, resume: true, actor: localActor('test'), limits });
      if (!report.acknowledged) throw new Error(`the restore can not be acknowledged: ${JSON.stringify(report)}`);
    },

    /**
     * The API in this process is kept waiting where it says that it lives, so that another is the one to notice a restore.
     * Returns how to let it go.
     */
    async holdWatch(): Promise<() => Promise<void>> {
      const client = new pg.Client({ connectionString: database.superuserUrl });
      client.on('error', () => {});
      await client.connect();
      await client.query('BEGIN');
      const held = async () => (await client.query('SELECT FROM carillon.witnesses FOR UPDATE')).rowCount === 1;
      await until(held, { deadline_ms: DEADLINE_MS, what: 'the first sign of life of the API' });
      const waits = `SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%carillon.witnesses%'`;
      const what = 'the API to be kept waiting';
      await until(async () => (await rows(waits)).length > 0, { deadline_ms: DEADLINE_MS, what });
      return async () => await client.end();
    },

    run: async (run_id: number) => await ask<Run>('GET', `/api/outbound/runs/${run_id}`),

    async calls(at_least: number): Promise<void> {
      const what = `${at_least} calls at the carrier`;
      await until(() => sim.ledger().length >= at_least, { deadline_ms: DEADLINE_MS, what });
    },

    async ended(run_id: number): Promise<Run> {
      const ended = async () => {
        const run = await this.run(run_id);
        return run.ended_at === null ? null : run;
      };
      return await until(ended, { deadline_ms: DEADLINE_MS, every_ms: 50, what: 'the end of the run' }).catch(
        (cause: unknown) => {
          const words = processes.map((process) => process.stderr().slice(-1_000));
          throw new Error(`the run does not end; the processes said last: ${words.join('\n')}`, { cause });
        },
      );
    },

    /** The process died at the point, by SIGKILL and by nothing else. */
    async diedAt(process: Running, point: string, expect: ExpectStatic): Promise<void> {
      const reached = () => process.stderr().includes(`fault point ${point}, passing`);
      await until(reached, { deadline_ms: DEADLINE_MS, what: `a process at ${point}` }).catch((cause: unknown) => {
        throw new Error(`it does not come to ${point}; it said: ${process.stdout()}${process.stderr()}`, { cause });
      });
      expect(await process.ended).toBe('SIGKILL');
    },

    /** The process stands still there, by SIGSTOP. */
    async stopsAt(process: Running, point: string): Promise<void> {
      const stopped = async () =>
        process.stderr().includes(`fault point ${point}, passing`) &&
        /^\d+ \(.*\) T/.test(await readFile(`/proc/${process.pid}/stat`, 'utf8'));
      await until(stopped, { deadline_ms: DEADLINE_MS, what: `a process stopped at ${point}: ${process.stderr()}` });
    },

    /** A woken worker's loops go round again: it has shown three times that it lives. */
    async worksOn(process: Running): Promise<void> {
      const [, worker_id = ''] = await process.says(/worker (\S+) looks/);
      const seen = new Set<string>();
      const thrice = async () => {
        const [row] = await rows<{ seen_at: string }>(
          'SELECT seen_at::text FROM carillon.workers WHERE worker_id = $1',
          [worker_id],
        );
        if (row) seen.add(row.seen_at);
        return seen.size > 3;
      };
      await until(thrice, { deadline_ms: DEADLINE_MS, what: `signs of life of ${worker_id}` });
    },

    /**
     * By the carrier's books nobody was called twice and `called` leads were called; by the auditor all is in order, but
     * for what is told of in `violations`.
     */
    async judge(expect: ExpectStatic, called: number, violations: readonly RegExp[] = []): Promise<void> {
      const byNumber = Map.groupBy(sim.ledger(), ({ to }) => to);
      expect([...byNumber].filter(([, calls]) => calls.length > 1)).toEqual([]);
      expect(byNumber.size).toBe(called);
      const { appUrl: app_url } = database;
      const report = await audit({ app_url, discovery_url: discoveryUrl(app_url), limits, ledger: sim.url });
      const found = violations.map((what) => ({ what: expect.stringMatching(what) as string }));
      expect(report).toMatchObject({ ok: found.length === 0, violations: found, incomplete: [] });
    },

    async [Symbol.asyncDispose](): Promise<void> {
      await Promise.all(processes.map((process) => process.kill()));
      await api.close();
      await sim.close();
      await Promise.all([db.close(), superuser.end()]);
      await database.drop();
    },
  };
}
export type FaultCase = Awaited<ReturnType<typeof createCase>>;
