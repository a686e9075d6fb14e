import { randomBytes } from 'node:crypto';
import { type BehaviourInput, type CarrierSim, startCarrierSim } from '@carillon/carrier-sim';
import { createCarrierDrivers } from '@carillon/carriers';
import { type CreateCarrierAccount, ListId, type Run, RunId, type StartRun } from '@carillon/contract';
import {
  type Clock,
  createBusiness,
  createCarrierAccount,
  createList,
  createRun,
  type Database,
  defaultLimits,
  getRun,
  importLeads,
  type Limits,
  openDatabase,
  systemClock,
} from '@carillon/engine';
import pg from 'pg';
import { pino } from 'pino';
import { createTestDatabase } from '../../../../test/support/database.ts';
import { guardStates } from '../../../../test/support/state-guard.ts';
import { guardTrail } from '../../../../test/support/trail-guard.ts';
import { until } from '../../../../test/support/wait.ts';
import { startWorker, type Worker } from '../../src/index.ts';

const actor = { name: 'test', user_id: null };

/** Short enough for a test, in the proportions of the real ones. */
export const quick: Partial<Limits> = {
  lease_ttl_ms: 2_000,
  dial_deadline_ms: 1_000,
  carrier_effect_delay_ms: 300,
  carrier_listing_delay_ms: 200,
  reconcile_margin_ms: 300,
  reconcile_every_ms: 200,
  poll_after_ms: 300,
  hang_up_every_ms: 200,
  dial_response_timeout_ms: 1_000,
  poll_work_ms: 100,
  ring_timeout_ms: 2_000,
  call_max_ms: 5_000,
  lane_halt_first_ms: 100,
  lane_halt_longest_ms: 500,
};

const FAST: BehaviourInput = {
  default: { ring_ms: [20, 60], talk_ms: [20, 60], response_delay_ms: [0, 5], outcomes: { answered: 1 } },
};

/**
 * A database, a simulated carrier and as many workers as a test starts. There is no API: every callback is lost, and
 * what calls end as is learned by asking the carrier.
 */
export async function createInstallation(options: { limits?: Partial<Limits>; behaviour?: BehaviourInput } = {}) {
  const database = await createTestDatabase();
  await guardTrail(database.superuserUrl);
  await guardStates(database.superuserUrl);
  const db: Database = openDatabase({ app_url: database.appUrl, discovery_url: database.discoveryUrl });
  const sim: CarrierSim = await startCarrierSim({ port: 0, behaviour: options.behaviour ?? FAST });
  const secret = randomBytes(32);
  const limits: Limits = { ...defaultLimits, ...quick, ...options.limits };
  const superuser = new pg.Pool({ connectionString: database.superuserUrl, max: 2 });
  superuser.on('error', () => {});
  const workers: Worker[] = [];
  const open: Database[] = [];

  return {
    db,
    sim,
    limits,
    superuserUrl: database.superuserUrl,
    rows: async <Row extends pg.QueryResultRow>(sql: string, params: unknown[] = []) =>
      (await superuser.query<Row>(sql, params)).rows,
    start(clock: Clock = systemClock): Worker {
      const own = openDatabase({ app_url: database.appUrl, discovery_url: database.discoveryUrl });
      open.push(own);
      const worker = startWorker({
        db: own,
        app_url: database.appUrl,
        drivers: createCarrierDrivers({
          dial_response_timeout_ms: limits.dial_response_timeout_ms,
          effect_delay_ms: limits.carrier_effect_delay_ms,
          listing_delay_ms: limits.carrier_listing_delay_ms,
        }),
        secret,
        public_url: 'http://127.0.0.1:9',
        limits,
        clock,
        log: pino({ level: 'silent' }),
      });
      workers.push(worker);
      return worker;
    },
    async business(
      wanted: Pick<Partial<CreateCarrierAccount>, 'base_url' | 'client_validation' | 'calls_per_second'> & {
        leads: number;
        lines?: number;
      },
    ) {
      const { business_id } = await createBusiness(db, { name: 'A business' }, actor);
      const account = await createCarrierAccount(
        db,
        business_id,
        {
          name: 'main',
          driver: 'twilio',
          base_url: wanted.base_url ?? sim.url,
          account_sid: `AC${business_id}`.padEnd(34, '0'),
          auth_token: 'token',
          from_numbers: ['+97231110000'],
          concurrency_limit: wanted.lines ?? 50,
          calls_per_second: wanted.calls_per_second ?? 200,
          client_validation: wanted.client_validation,
        },
        secret,
        actor,
      );
      const list = await createList(db, business_id, { name: 'A list' }, actor);
      const csv = [
        'phone',
        ...Array.from({ length: wanted.leads }, (_, i) => `+97252${3_000_000 + business_id * 20_000 + i}`),
      ];
      await importLeads(db, business_id, ListId.parse(list.list_id), chunks(csv.join('\n')), { actor, country: 'IL' });
      return { business_id, list_id: ListId.parse(list.list_id), account };
    },
    async run(
      tenant: { business_id: Run['run_id']; list_id: ListId },
      request: Partial<StartRun> = {},
    ): Promise<RunId> {
      const { run } = await createRun(
        db,
        tenant.business_id as never,
        { list_id: tenant.list_id, ...request },
        { actor, limits },
      );
      return RunId.parse(run.run_id);
    },
    async ended(tenant: { business_id: number }, run_id: RunId, deadline_ms = 60_000): Promise<Run> {
      return await until(
        async () => {
          const run = await getRun(db, tenant.business_id as never, run_id);
          return run.ended_at ? run : null;
        },
        { deadline_ms, what: 'the end of the run' },
      );
    },
    async close() {
      await Promise.all(workers.map((worker) => worker.stop()));
      await Promise.all([db.close(), ...open.map((own) => own.close())]);
      await superuser.end();
      await sim.close();
      await database.drop();
    },
  };
}
export type Installation = Awaited<ReturnType<typeof createInstallation>>;

async function* chunks(text: string): AsyncGenerator<Buffer> {
  yield Buffer.from(text);
}

/** How often each number was called, by the carrier's own ledger. */
export function callsByNumber(sim: CarrierSim): Map<string, number> {
  const calls = new Map<string, number>();
  for (const { to } of sim.ledger()) calls.set(to, (calls.get(to) ?? 0) + 1);
  return calls;
}
