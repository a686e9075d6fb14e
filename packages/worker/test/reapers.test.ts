import {
  ATTEMPT_STATES,
  type AttemptState,
  type CarrierCall,
  JOB_STATES,
  type JobStatus,
  RUN_STATES,
  type RunStatus,
  type StartRun,
} from '@carillon/contract';
import {
  claim,
  endOverdueRuns,
  leaseRuns,
  pauseRun,
  resolveJob,
  resumeRun,
  stopRun,
  sweepOnce,
  systemClock,
} from '@carillon/engine';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createTendState } from '../src/tend.ts';
import { createInstallation, type Installation } from './support/installation.ts';
import {
  claimed,
  contextOf,
  everyRound,
  jobStatus,
  leased,
  liveCall,
  record,
  review,
  round,
} from './support/tending.ts';

/**
 * Each state of the tables in packages/contract/src/states.ts: something is put into it, whoever would move it on is
 * dead, and only its reaper acts. A state that is added there is missed here by the type checker.
 */

let here: Installation;
beforeEach(async () => (here = await createInstallation({ limits: everyRound })));
afterEach(async () => await here.close());

const person = { name: 'a person', user_id: null };
const fail = (error: unknown): never => {
  throw error;
};
const ENDED: CarrierCall = { ...liveCall('C1'), phase: 'ended', outcome: 'completed', duration_s: 1 };

/** A run of one lead, with its worker dead. */
async function orphan(request: Partial<StartRun> = {}) {
  const tenant = await here.business({ leads: 1, lines: 1 });
  return { business_id: tenant.business_id, run_id: await here.run(tenant, request) };
}

/** The same, with an attempt that the dead worker committed. */
async function orphanAttempt(state: AttemptState = 'placed') {
  const mine = await leased(here, await here.business({ leads: 1, lines: 1 }));
  const [attempt] = await claimed(here, mine);
  if (state === 'unknown') await record(here, attempt, { kind: 'unknown', cause: 'response_timeout' });
  else if (state !== 'dialing') await record(here, attempt, { kind: 'accepted', call_id: 'C1' });
  if (state === 'ringing' || state === 'in_call')
    await record(here, attempt, { kind: 'call', call: { ...liveCall('C1'), phase: state } });
  expect(await attemptStates()).toEqual([state]);
  await die();
  return { ...mine, attempt };
}

/** Its heartbeats are an hour old. */
async function die(): Promise<void> {
  await here.rows(
    `UPDATE carillon.outbound_call_runs SET lock_ts = now() - interval '1 hour' WHERE lock_ts IS NOT NULL`,
  );
  await here.rows('DELETE FROM carillon.workers');
}

/** Another worker looks for runs, once. */
async function reclaim() {
  return (await leaseRuns(here.db, 'worker-2', 0, here.limits, fail)).taken;
}

async function reclaimAndClaim(): Promise<void> {
  for (const lease of await reclaim()) await claim(here.db, lease, 'worker-2', systemClock, here.limits);
}

/** One round of the reapers of attempts, at a carrier where the call has ended. */
async function reapAttempts(): Promise<void> {
  const [open] = await here.rows<{ intent_s: number }>(
    'SELECT (intent_us / 1000000)::int AS intent_s FROM carillon.open_attempts',
  );
  const driver = {
    fetchCall: async () => ({ kind: 'call', call: ENDED }) as const,
    find: async () => ({ kind: 'listed' as const, calls: [{ ...ENDED, created_at_s: open?.intent_s ?? null }] }),
    hangUp: async () => ({ kind: 'over' }) as const,
  };
  await round(contextOf(here, driver), createTendState());
}

async function attemptStates(): Promise<string[]> {
  const rows = await here.rows<{ state: string }>('SELECT state FROM carillon.open_attempts');
  return rows.map(({ state }) => state);
}

async function scheduled(): Promise<number> {
  return (await here.rows('SELECT FROM carillon.job_schedule')).length;
}

async function runOf(run_id: number) {
  const [run] = await here.rows<{ status: RunStatus; locked_by_worker: string | null; lease_epoch: number }>(
    'SELECT status, locked_by_worker, lease_epoch FROM carillon.outbound_call_runs WHERE run_id = $1',
    [run_id],
  );
  return run;
}

type Drive = () => Promise<void>;
type NotFinal<Table extends Record<string, { final: boolean }>> = {
  [State in keyof Table]: Table[State]['final'] extends true ? never : State;
}[keyof Table];

describe('the reaper of a run', () => {
  const drives: Record<NotFinal<typeof RUN_STATES>, Drive> = {
    async draft() {
      const { business_id, run_id } = await orphan({ draft: true });
      expect(await runOf(run_id)).toMatchObject({ status: 'draft' });
      expect(await reclaim()).toEqual([]);
      await resumeRun(here.db, business_id, run_id, here.limits, person);
      expect(await runOf(run_id)).toMatchObject({ status: 'pending' });
    },
    async pending() {
      const { run_id } = await orphan();
      expect(await runOf(run_id)).toMatchObject({ status: 'pending' });
      await reclaim();
      expect(await runOf(run_id)).toMatchObject({ status: 'running', locked_by_worker: 'worker-2' });
    },
    async running() {
      const { run_id, lease_epoch } = await leased(here, await here.business({ leads: 1 }));
      expect(await reclaim()).toEqual([]);
      await die();
      const [lease] = await reclaim();
      expect(lease).toMatchObject({ run_id, lease_epoch: lease_epoch + 1 });
      expect(await runOf(run_id)).toMatchObject({ locked_by_worker: 'worker-2' });
    },
    async paused() {
      const { business_id, run_id } = await orphanAttempt();
      await pauseRun(here.db, business_id, run_id, 'drain', person);
      expect(await runOf(run_id)).toMatchObject({ status: 'paused' });
      expect(await reclaim()).toEqual([]);
      await reapAttempts();
      expect(await runOf(run_id)).toMatchObject({ status: 'completed' });
    },
    async cancelling() {
      const { business_id, run_id } = await orphanAttempt();
      await stopRun(here.db, business_id, run_id, 'drain', person);
      expect(await runOf(run_id)).toMatchObject({ status: 'cancelling' });
      await reapAttempts();
      expect(await runOf(run_id)).toMatchObject({ status: 'cancelled' });
    },
  };

  it.each(Object.entries(drives))('that is %s moves it on', async (_, drive) => {
    expect.hasAssertions();
    await drive();
  });

  it('that is pending leaves it until starts_at has come, and takes it then', async () => {
    const { run_id } = await orphan({ starts_at: '2100-01-01T00:00:00Z' });
    expect(await reclaim()).toEqual([]);
    expect(await runOf(run_id)).toMatchObject({ status: 'pending', locked_by_worker: null });
    await here.rows('UPDATE carillon.outbound_call_runs SET starts_at = now() WHERE run_id = $1', [run_id]);
    await reclaim();
    expect(await runOf(run_id)).toMatchObject({ status: 'running', locked_by_worker: 'worker-2' });
  });

  it('that is past its ends_at calls nobody, and stops it', async () => {
    const { run_id } = await orphan({ ends_at: '2000-01-01T00:00:00Z' });
    await reclaimAndClaim();
    expect(await jobStatus(here, run_id)).toBe('queued');
    await endOverdueRuns(here.db, person, fail);
    expect(await runOf(run_id)).toMatchObject({ status: 'cancelled', locked_by_worker: null });
  });
});

describe('the reaper of a job', () => {
  const drives: Record<NotFinal<typeof JOB_STATES> | 'needs_review', Drive> = {
    async queued() {
      const { run_id } = await leased(here, await here.business({ leads: 1 }));
      await die();
      expect(await jobStatus(here, run_id)).toBe('queued');
      await reclaimAndClaim();
      expect(await jobStatus(here, run_id)).toBe('in_progress');
    },
    async waiting() {
      const { run_id, attempt } = await orphanAttempt('dialing');
      await record(here, attempt, { kind: 'not_dialed', cause: 'the worker is stopping', unreachable: false });
      expect(await jobStatus(here, run_id)).toBe('waiting');
      await reclaimAndClaim();
      expect(await jobStatus(here, run_id)).toBe('in_progress');
    },
    async in_progress() {
      const { run_id } = await orphanAttempt();
      expect(await jobStatus(here, run_id)).toBe('in_progress');
      await reapAttempts();
      expect(await jobStatus(here, run_id)).toBe('completed');
    },
    async needs_review() {
      const { business_id, run_id, attempt } = await orphanAttempt('unknown');
      await record(here, attempt, await review(here, attempt));
      expect(await jobStatus(here, run_id)).toBe('needs_review');
      await reclaimAndClaim();
      await reapAttempts();
      expect(await jobStatus(here, run_id)).toBe('needs_review');
      const key = { run_id, seq: attempt.seq };
      await resolveJob(here.db, business_id, key, 'called', { actor: person, limits: here.limits });
      expect(await jobStatus(here, run_id)).toBe('completed');
    },
  };

  it.each(Object.entries(drives))('that is %s moves it on', async (_, drive) => {
    expect.hasAssertions();
    await drive();
  });

  it('of a stopped run that is still queued gives its row the state that it has', async () => {
    const { business_id, run_id } = await orphan();
    await stopRun(here.db, business_id, run_id, 'drain', person);
    expect(await jobStatus(here, run_id)).toBe('queued');
    await sweepOnce(here.db, here.limits, fail);
    expect(await jobStatus(here, run_id)).toBe('cancelled');
  });

  it('of a stopped run that still waits gives its row the state that it has, and nobody waits for it', async () => {
    const { business_id, run_id, attempt } = await orphanAttempt('dialing');
    await record(here, attempt, { kind: 'not_dialed', cause: 'the worker is stopping', unreachable: false });
    await stopRun(here.db, business_id, run_id, 'drain', person);
    expect(await jobStatus(here, run_id)).toBe('waiting');
    expect(await scheduled()).toBe(1);
    await sweepOnce(here.db, here.limits, fail);
    expect(await jobStatus(here, run_id)).toBe('cancelled');
    expect(await scheduled()).toBe(0);
  });
});

describe('the reaper of an attempt', () => {
  /** What it makes of it in its first round. */
  const becomes: Record<AttemptState, AttemptState[]> = {
    dialing: ['unknown'],
    unknown: [],
    placed: [],
    ringing: [],
    in_call: [],
  };

  it.each(Object.keys(ATTEMPT_STATES) as AttemptState[])(
    'that is %s moves it on, whoever holds the run',
    async (state) => {
      await orphanAttempt(state);
      await reapAttempts();
      expect(await attemptStates()).toEqual(becomes[state]);
    },
  );
});

describe('a final state', () => {
  const finals = (table: Record<string, { final: boolean; reaper: string }>) =>
    Object.entries(table).flatMap(([state, row]) => (row.final ? [[state, row.reaper]] : []));

  it('has no reaper, but for what a person decides, and every other state has one', () => {
    const none = (reaper: string) => reaper === 'none: final';
    for (const [state, reaper] of [...finals(RUN_STATES), ...finals(JOB_STATES)])
      expect(none(reaper ?? ''), state).toBe(state !== ('needs_review' satisfies JobStatus));
    for (const row of [RUN_STATES, JOB_STATES, ATTEMPT_STATES].flatMap((table) => Object.values(table)))
      if (!row.final) expect(none(row.reaper)).toBe(false);
  });

  it('is left by no reaper', async () => {
    const { run_id } = await orphanAttempt();
    await reapAttempts();
    expect(await runOf(run_id)).toMatchObject({ status: 'completed' });
    await reclaimAndClaim();
    await reapAttempts();
    await sweepOnce(here.db, here.limits, fail);
    expect(await runOf(run_id)).toMatchObject({ status: 'completed', locked_by_worker: null });
    expect(await jobStatus(here, run_id)).toBe('completed');
  });
});
