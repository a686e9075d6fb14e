import { randomBytes } from 'node:crypto';
import type { BehaviourInput, LedgerEntry, Totals } from '@carillon/carrier-sim';
import type { ImportReport, Run, StartRun } from '@carillon/contract';
import { createBusiness, localActor, openDatabase } from '@carillon/engine';
import pg from 'pg';
import { createTestDatabase, type TestDatabase } from '../../support/database.ts';
import { until } from '../../support/wait.ts';
import { type Environment, killAll, type Running, startCarillon } from './processes.ts';

export const LEASE_TTL_MS = 2_000;

/** Short enough for a test, in the proportions of the real ones. */
const QUICK: Environment = {
  CARILLON_LEASE_TTL_MS: String(LEASE_TTL_MS),
  CARILLON_DIAL_DEADLINE_MS: '1000',
  CARILLON_CARRIER_EFFECT_DELAY_MS: '1000',
  CARILLON_CARRIER_LISTING_DELAY_MS: '300',
  CARILLON_RECONCILE_MARGIN_MS: '700',
  CARILLON_RECONCILE_EVERY_MS: '300',
  CARILLON_POLL_AFTER_MS: '1000',
  CARILLON_HANG_UP_EVERY_MS: '300',
  CARILLON_DIAL_RESPONSE_TIMEOUT_MS: '2000',
  CARILLON_POLL_WORK_MS: '100',
  CARILLON_RING_TIMEOUT_MS: '5000',
  CARILLON_CALL_MAX_MS: '60000',
  CARILLON_LANE_HALT_FIRST_MS: '100',
  CARILLON_LANE_HALT_LONGEST_MS: '500',
  CARILLON_REQUESTS_PER_MINUTE: '1000000',
  CARILLON_LOG_LEVEL: 'warn',
};

type AccountBehaviour = NonNullable<BehaviourInput['accounts']>[string];

/** Calls of some hundredths of a second, all answered. */
const BRISK: AccountBehaviour = {
  ring_ms: [20, 60],
  talk_ms: [20, 120],
  response_delay_ms: [0, 5],
  outcomes: { answered: 1 },
};

/** Decides the fate of each call in the simulator; another one makes other calls ring, talk and fail. */
const SEED = 1;

/** Of what a process wrote to standard error, where something goes wrong. */
const WORDS_SHOWN = 2_000;

export interface Worker extends Running {
  worker_id: string;
}

/** A business with a carrier account and a list of its own: what one test calls nobody else's calls touch. */
export interface Tenant {
  business_id: number;
  key: string;
  account_sid: string;
  carrier_account_id: number;
  list_id: number;
  leads: number;
}

/** The database that the processes work on, where a test brings its own. */
export type Server = Pick<TestDatabase, 'appUrl' | 'superuserUrl' | 'drop'>;

/** A database, a simulated carrier, an API and as many workers as a test starts, each a process of its own. */
export async function createInstallation(given?: Server) {
  const database = given ?? (await createTestDatabase());
  // For what no process is asked to do: making a business.
  const db = openDatabase({ app_url: database.appUrl });
  const superuser = createPool(database.superuserUrl);
  const sim = startCarillon(['carrier-sim', '--port', '0', '--seed', String(SEED)]);
  const [, simUrl = ''] = await sim.says(/listens at (\S+)/);
  const env: Environment = {
    ...QUICK,
    DATABASE_URL: database.appUrl,
    CARILLON_SECRET: randomBytes(32).toString('base64'),
  };
  const api = startCarillon(['api', '--port', '0'], env);
  const [, apiUrl = ''] = await api.says(/listens at (\S+)/);
  console.log(`seed ${SEED}, carrier ${simUrl}, API ${apiUrl}`);

  const accounts: Record<string, AccountBehaviour> = {};
  const workers: Worker[] = [];

  async function rows<Row extends pg.QueryResultRow>(sql: string, params: unknown[] = []): Promise<Row[]> {
    return (await superuser.query<Row>(sql, params)).rows;
  }

  async function ask<Answer>(key: string, method: string, path: string, body?: object | string): Promise<Answer> {
    const isText = typeof body === 'string';
    const headers: Record<string, string> = { authorization: `Bearer ${key}` };
    if (body !== undefined) headers['content-type'] = isText ? 'text/csv' : 'application/json';
    const response = await fetch(apiUrl + path, { method, headers, body: isText ? body : JSON.stringify(body) });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return JSON.parse(text) as Answer;
  }

  async function behave(account_sid: string, behaviour: AccountBehaviour): Promise<void> {
    accounts[account_sid] = behaviour;
    const body: BehaviourInput = { default: BRISK, accounts };
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${simUrl}/_sim/behaviour`, { method: 'PUT', headers, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`the simulator refuses this behaviour: ${await response.text()}`);
  }

  return {
    env,
    simUrl,
    apiUrl,
    api,
    sim,
    rows,
    ask,
    behave,
    superuserUrl: database.superuserUrl,
    /** Of the simulated carrier. */
    carrierUrl: simUrl,

    async worker(more: Environment = {}): Promise<Worker> {
      const worker = startCarillon(['worker'], { ...env, CARILLON_PUBLIC_URL: apiUrl, ...more });
      const [, worker_id = ''] = await worker.says(/worker (\S+) looks/);
      const named = { ...worker, worker_id };
      workers.push(named);
      return named;
    },

    /** What one test leaves running must not work on the next one's runs. */
    async killWorkers(): Promise<void> {
      await Promise.all(workers.splice(0).map((worker) => worker.kill()));
    },

    async tenant(wanted: {
      leads: number;
      lines: number;
      calls_per_second: number;
      behaviour?: AccountBehaviour;
    }): Promise<Tenant> {
      const { business_id, key } = await createBusiness(db, { name: 'A business' }, localActor('test'));
      const account_sid = `AC${business_id}`;
      await behave(account_sid, { ...BRISK, ...wanted.behaviour });
      const { carrier_account_id } = await ask<{ carrier_account_id: number }>(key, 'POST', '/api/carrier_accounts', {
        name: 'main',
        driver: 'twilio',
        base_url: simUrl,
        account_sid,
        auth_token: 'token',
        from_numbers: ['+97231110000'],
        concurrency_limit: wanted.lines,
        calls_per_second: wanted.calls_per_second,
      });
      const tenant = { business_id, key, account_sid, carrier_account_id, leads: wanted.leads, list_id: 0 };
      return { ...tenant, list_id: await this.list(tenant, wanted.leads) };
    },

    /** A list of `leads` numbers, from the `first` on. */
    async list({ key }: Pick<Tenant, 'key'>, leads: number, first = 0): Promise<number> {
      const { list_id } = await ask<{ list_id: number }>(key, 'POST', '/api/lists', { name: `From ${first}` });
      const numbers = Array.from({ length: leads }, (_, i) => `+97252${3_000_000 + first + i}`);
      const csv = ['phone', ...numbers].join('\n');
      const report = await ask<ImportReport>(key, 'POST', `/api/lists/${list_id}/import`, csv);
      if (report.accepted !== leads) throw new Error(`the import took ${report.accepted} of ${leads} leads`);
      return list_id;
    },

    async start(tenant: Tenant, request: Partial<StartRun> = {}): Promise<Run> {
      return await ask<Run>(tenant.key, 'POST', '/api/outbound_calls/start', { list_id: tenant.list_id, ...request });
    },

    run: async (tenant: Tenant, run_id: number) => await ask<Run>(tenant.key, 'GET', `/api/outbound/runs/${run_id}`),

    async ended(tenant: Tenant, run_id: number, deadline_ms = 60_000): Promise<Run> {
      const ended = async () => {
        const run = await this.run(tenant, run_id);
        return run.ended_at === null ? null : run;
      };
      return await until(ended, { deadline_ms, every_ms: 100, what: `the end of run ${run_id}` }).catch(
        (cause: unknown) => {
          const words = [api, ...workers].map((process) => process.stderr().slice(-WORDS_SHOWN));
          throw new Error(`run ${run_id} does not end; API and workers said last: ${words.join('\n')}`, { cause });
        },
      );
    },

    /** Every call that the carrier accepted for the tenant, by the carrier's own books. */
    async ledger({ account_sid }: Tenant): Promise<LedgerEntry[]> {
      const text = await (await fetch(`${simUrl}/_sim/ledger`)).text();
      const entries = text.trim() === '' ? [] : text.trim().split('\n');
      return entries.map((line) => JSON.parse(line) as LedgerEntry).filter(({ account }) => account === account_sid);
    },

    /** The same in figures. */
    async totals({ account_sid }: Tenant): Promise<Totals> {
      const all = (await (await fetch(`${simUrl}/_sim/totals`)).json()) as { accounts: Record<string, Totals> };
      const none = { calls: 0, numbers: 0, doubled: 0, live: 0, max_live: 0, max_starts_per_second: 0 };
      return all.accounts[account_sid] ?? none;
    },

    async calls(tenant: Tenant, at_least: number, deadline_ms = 20_000): Promise<void> {
      const what = `${at_least} calls at the carrier`;
      await until(async () => (await this.totals(tenant)).calls >= at_least, { deadline_ms, what });
    },

    async close() {
      await killAll();
      await Promise.all([db.close(), superuser.end()]);
      await database.drop();
    },
  };
}
export type Installation = Awaited<ReturnType<typeof createInstallation>>;

const INT8 = 20;

function createPool(connectionString: string): pg.Pool {
  const types: pg.CustomTypesConfig = {
    // Ids, counts and microseconds, all below 2^53.
    getTypeParser: ((oid: number, format?: 'text') =>
      oid === INT8 ? Number : pg.types.getTypeParser(oid, format)) as pg.CustomTypesConfig['getTypeParser'],
  };
  const pool = new pg.Pool({ connectionString, max: 3, types });
  pool.on('error', () => {});
  return pool;
}
