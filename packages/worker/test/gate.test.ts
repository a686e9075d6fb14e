import type { CarrierDriver } from '@carillon/contract';
import { systemClock } from '@carillon/engine';
import { escapeIdentifier } from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { dial } from '../src/dial.ts';
import { createPacer } from '../src/pacer.ts';
import { createSignal } from '../src/waiting.ts';
import { createInstallation, type Installation } from './support/installation.ts';
import { claimed, contextOf, leased } from './support/tending.ts';

let here: Installation;
beforeEach(async () => (here = await createInstallation({ limits: { dial_deadline_ms: 60_000, gather_ms: 1 } })));
afterEach(async () => await here.close());

const place: CarrierDriver['place'] = async (_request, gate) => {
  await gate.pace();
  return gate.mayStart() ? { kind: 'accepted', call_id: 'C1' } : { kind: 'not_dialed', cause: 'held' };
};

describe('the gate in front of the body', () => {
  it('is shut while the worker stops, which says nothing against the lane', async () => {
    const mine = await leased(here, await here.business({ leads: 1 }));
    const [attempt] = await claimed(here, mine);
    const context = { ...contextOf(here, { place }), stopping: () => true };
    await dial(context, createPacer(systemClock), createSignal(), attempt);
    expect(await here.rows('SELECT outcome, cause FROM carillon.attempts')).toEqual([
      { outcome: 'not_dialed', cause: 'the worker is stopping' },
    ]);
    expect(await here.rows('SELECT refusals_in_a_row FROM carillon.lanes')).toEqual([{ refusals_in_a_row: 0 }]);
  });

  it('opens at the planned start, and not before', async () => {
    const mine = await leased(here, await here.business({ leads: 1 }));
    const [attempt] = await claimed(here, mine);
    let now_ms = attempt.start_monotonic_ms - 500;
    const clock = { monotonicMs: () => now_ms, wallMs: systemClock.wallMs };
    const waits = { wait: async (ms: number) => void (now_ms += ms), notify() {} };
    const asked_ms: number[] = [];
    const driver: CarrierDriver['place'] = async (_request, gate) => {
      await gate.pace();
      asked_ms.push(now_ms);
      return { kind: 'accepted', call_id: 'C1' };
    };
    await dial(contextOf(here, { place: driver }, clock), createPacer(clock), waits, attempt);
    expect(asked_ms).toEqual([attempt.start_monotonic_ms]);
  });
});

it('a create expires with the earlier of two clocks: the database’s, on which absence is counted, and the worker’s own', async () => {
  const mine = await leased(here, await here.business({ leads: 1 }));
  const [attempt] = await claimed(here, mine);
  const expiries_ms: number[] = [];
  const driver: CarrierDriver['place'] = async ({ expires_at_ms }) => {
    expiries_ms.push(expires_at_ms);
    return { kind: 'not_dialed', cause: 'test' };
  };
  for (const [database_ms, wall_ms] of [
    [5_000, 9_000],
    [9_000, 5_000],
  ] as const)
    await dial(contextOf(here, { place: driver }), createPacer(systemClock), createSignal(), {
      ...attempt,
      deadline_us: database_ms * 1_000,
      deadline_wall_ms: wall_ms,
    });
  expect(expiries_ms).toEqual([5_000, 5_000]);
});

describe('a worker that can not write down that it was there', () => {
  it('claims nothing before it knows its database, and goes on then', { timeout: 120_000 }, async () => {
    const [login] = await here.rows<{ name: string }>(
      "SELECT grantee AS name FROM information_schema.role_table_grants WHERE table_name = 'witnesses' AND privilege_type = 'INSERT' AND grantee LIKE '%app'",
    );
    const app = escapeIdentifier(login?.name ?? '');
    await here.rows(`REVOKE INSERT, UPDATE ON carillon.witnesses FROM ${app}`);
    const tenant = await here.business({ leads: 1 });
    const run_id = await here.run(tenant);
    here.start();
    const beats = new Set<string>();
    await until(
      async () => {
        const [run] = await here.rows<{ lock_ts: string | null }>(
          'SELECT lock_ts::text FROM carillon.outbound_call_runs WHERE run_id = $1',
          [run_id],
        );
        if (run?.lock_ts) beats.add(run.lock_ts);
        return beats.size >= 3;
      },
      { deadline_ms: 60_000, what: 'a lease and two heartbeats' },
    );
    expect(await here.rows('SELECT outcome FROM carillon.attempts')).toEqual([]);
    expect(here.sim.ledger()).toEqual([]);
    await here.rows(`GRANT INSERT, UPDATE ON carillon.witnesses TO ${app}`);
    expect(await here.ended(tenant, run_id)).toMatchObject({ completed: 1 });
  });
});
