import type { CarrierCall, CarrierDriver, ListId, RunId } from '@carillon/contract';
import {
  type ClaimedAttempt,
  type Clock,
  claim,
  createGatherer,
  type Evidence,
  type Lease,
  leaseRuns,
  type Limits,
  localActor,
  recordEvidence,
  systemClock,
} from '@carillon/engine';
import { pino } from 'pino';
import type { WorkerContext } from '../../src/context.ts';
import { tend, type TendState } from '../../src/tend.ts';
import type { Installation } from './installation.ts';

const WORKER = localActor('worker:worker-1');

/** Every errand is due in every round: no test waits for a turn. */
export const everyRound: Partial<Limits> = {
  gather_ms: 1,
  dial_deadline_ms: 1,
  reconcile_every_ms: 0,
  poll_after_ms: 0,
  hang_up_every_ms: 0,
};

export const capabilities = {
  effect_delay_ms: 100,
  listing_delay_ms: 100,
  expiring_create: false,
  hang_up_while_queued: true,
  created_at_resolution_ms: 1_000,
};

/** What a stage of the worker works with, its carrier played by `driver`. The account's sid tells the business. */
export function contextOf(
  here: Installation,
  driver: Partial<CarrierDriver>,
  clock: Clock = systemClock,
): WorkerContext {
  return {
    db: here.db,
    worker_id: 'worker-1',
    actor: WORKER,
    clock,
    limits: here.limits,
    log: pino({ level: 'silent' }),
    public_url: 'http://127.0.0.1:9',
    stopping: () => false,
    gatherer: createGatherer(here.db, { wake() {}, async close() {} }, here.limits, () => {}),
    account: async (business_id) => ({
      credentials: { driver: 'fake', base_url: 'http://127.0.0.1:9', account_sid: `${business_id}`, auth_token: '' },
      driver: { capabilities: () => capabilities, ...driver } as CarrierDriver,
    }),
  };
}

/** One round of tending, its errands done. */
export async function round(context: WorkerContext, state: TendState): Promise<void> {
  await tend(context, state);
  await Promise.all(state.busy.values());
}

type Tenant = Awaited<ReturnType<Installation['business']>>;

/** A new run of a business's list, leased by worker-1. */
export async function leased(here: Installation, tenant: Tenant): Promise<Lease> {
  const run_id = await here.run({ business_id: tenant.business_id as never, list_id: tenant.list_id as ListId });
  const { taken } = await leaseRuns(here.db, 'worker-1', 0, here.limits, (error) => {
    throw error;
  });
  const mine = taken.find((lease) => lease.run_id === run_id);
  if (!mine) throw new Error('the run was not leased');
  return mine;
}

/** What a claim of a run takes at once; at least one attempt. */
export async function claimed(here: Installation, mine: Lease): Promise<[ClaimedAttempt, ...ClaimedAttempt[]]> {
  const { attempts } = await claim(here.db, mine, 'worker-1', systemClock, here.limits);
  const [first, ...others] = attempts;
  if (!first) throw new Error('nothing was claimed');
  return [first, ...others];
}

export async function record(here: Installation, key: ClaimedAttempt, evidence: Evidence) {
  const items = [{ key, evidence, actor: WORKER }];
  const [recorded] = await recordEvidence(here.db, key.business_id, key.run_id, items, here.limits);
  return recorded;
}

/** That nobody can say, by whoever has read the attempt as it is now. */
export async function review(here: Installation, { run_id, seq }: ClaimedAttempt): Promise<Evidence> {
  const [open] = await here.rows<{ heard_us: string }>(
    'SELECT heard_us FROM carillon.open_attempts WHERE run_id = $1 AND seq = $2',
    [run_id, seq],
  );
  return { kind: 'review', cause: 'nobody can say', heard_us: Number(open?.heard_us) };
}

/** A live call as the carrier lists it. */
export function liveCall(call_id: string, created_at_s: number | null = null): CarrierCall {
  return { call_id, phase: 'in_call', outcome: null, duration_s: null, created_at_s, cause: null };
}

/** The state of a run's first job. */
export async function jobStatus(here: Installation, run_id: RunId): Promise<string | undefined> {
  const jobs = await here.rows<{ status: string }>(
    'SELECT status FROM carillon.outbound_call_jobs WHERE run_id = $1 AND seq = 1',
    [run_id],
  );
  return jobs[0]?.status;
}
