import type { RunId } from '@carillon/contract';
import { getRun } from '@carillon/engine';
import { afterEach, describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { callsByNumber, createInstallation, type Installation } from './support/installation.ts';

/** The lane's breaker with a real worker: what opens it, how it probes, and that it closes by itself. */

let here: Installation;
afterEach(async () => await here.close());

const CALLS = { ring_ms: 20, talk_ms: 20, outcomes: { answered: 1 } } as const;
type Tenant = Awaited<ReturnType<Installation['business']>>;

const numberOf = ({ business_id }: Tenant, lead: number) => `+97252${3_000_000 + business_id * 20_000 + lead}`;

interface Made {
  seq: number;
  outcome: string;
  intent_us: number;
  ended_us: number;
}

async function attemptsOf(run_id: RunId): Promise<Made[]> {
  return await here.rows<Made>(
    `SELECT seq, outcome, intent_us::float8, ended_us::float8 FROM carillon.attempts WHERE run_id = $1 ORDER BY intent_us, seq`,
    [run_id],
  );
}

async function laneOf() {
  const [lane] = await here.rows<{ refusals: number; reason: string | null }>(
    'SELECT refusals_in_a_row AS refusals, halted_reason AS reason FROM carillon.lanes',
  );
  return lane;
}

describe('the breaker of a lane', { timeout: 120_000 }, () => {
  it.each([
    ['the account’s credentials are refused', { code: 20003, status: 401 }, '20003'],
    ['the account is suspended', { code: 20005, status: 403 }, '20005'],
    ['the account sends too much', { code: 20429, status: 429 }, '20429'],
  ])('opens when %s, says so in the run, probes with one call, and closes by itself', async (_, refuse, code) => {
    here = await createInstallation({ behaviour: { default: { ...CALLS, refuse } } });
    const tenant = await here.business({ leads: 12, lines: 4 });
    const run_id = await here.run(tenant);
    here.start();
    const reason = await until(
      async () => (await getRun(here.db, tenant.business_id, run_id)).waiting_reason?.match(/halted: (\S+)/)?.[1],
      { deadline_ms: 30_000, what: 'the reason in the run' },
    );
    expect(reason).toBe(code);
    await until(async () => ((await laneOf())?.refusals ?? 0) >= 8, { deadline_ms: 30_000, what: 'some probes' });
    // On a busy machine some are not dialled before their deadline: those are nobody's refusals.
    const refused = (await attemptsOf(run_id)).filter(({ outcome }) => outcome === 'rejected');
    // Nobody has failed for it.
    expect(await getRun(here.db, tenant.business_id, run_id)).toMatchObject({ status: 'running', failed: 0 });
    here.sim.behaviour = { default: CALLS };
    expect(await here.ended(tenant, run_id)).toMatchObject({
      status: 'completed',
      completed: 12,
      waiting_reason: null,
    });
    expect(await laneOf()).toEqual({ refusals: 0, reason: null });
    expect([...callsByNumber(here.sim).values()]).toEqual(Array.from({ length: 12 }, () => 1));

    const opened_us = Math.min(...refused.map(({ ended_us }) => ended_us));
    const probes = refused.filter(({ intent_us }) => intent_us > opened_us);
    expect(probes.length).toBeGreaterThan(2);
    const { lane_halt_first_ms, lane_halt_longest_ms } = here.limits;
    for (const [n, probe] of probes.entries()) {
      const before = refused.filter(({ intent_us }) => intent_us < probe.intent_us);
      const paused_ms = (probe.intent_us - Math.max(...before.map(({ ended_us }) => ended_us))) / 1_000;
      // One at a time: every one before it had ended, and each pause is as long as the refusals before it make it.
      expect(paused_ms).toBeGreaterThanOrEqual(Math.min(lane_halt_first_ms * 2 ** n, lane_halt_longest_ms) - 1);
    }
    // The leads take turns at being refused.
    expect(new Set(probes.map(({ seq }) => seq)).size).toBeGreaterThan(1);
  });

  it('stays shut where a number is refused: that lead has failed, and the others are called', async () => {
    here = await createInstallation({ behaviour: { default: CALLS } });
    const tenant = await here.business({ leads: 6, lines: 2 });
    here.sim.behaviour = { default: CALLS, numbers: { [numberOf(tenant, 1)]: { refuse: { code: 21211 } } } };
    const run_id = await here.run(tenant);
    here.start();
    expect(await here.ended(tenant, run_id)).toMatchObject({ status: 'completed', completed: 5, failed: 1 });
    expect(await here.rows("SELECT 1 FROM carillon.audit_events WHERE action = 'lane.halted'")).toEqual([]);
    expect((await attemptsOf(run_id)).filter(({ outcome }) => outcome === 'rejected')).toHaveLength(1);
  });

  it('stays shut at an error page of a gateway: nobody knows whether there is a call', async () => {
    here = await createInstallation({ behaviour: { default: { ...CALLS, http_error: { status: 503 } } } });
    const tenant = await here.business({ leads: 4, lines: 2 });
    const run_id = await here.run(tenant);
    here.start();
    await until(async () => (await attemptsOf(run_id)).filter(({ outcome }) => outcome === 'absent').length >= 4, {
      deadline_ms: 60_000,
      what: 'four attempts that were no calls',
    });
    expect(await laneOf()).toEqual({ refusals: 0, reason: null });
    here.sim.behaviour = { default: CALLS };
    expect(await here.ended(tenant, run_id)).toMatchObject({ status: 'completed', completed: 4, needs_review: 0 });
  });

  it('leaves the one lead to a person at which the account is refused each time, and the others are called', async () => {
    here = await createInstallation({ behaviour: { default: CALLS } });
    const tenant = await here.business({ leads: 24, lines: 2 });
    const poison = numberOf(tenant, 0);
    here.sim.behaviour = { default: CALLS, numbers: { [poison]: { refuse: { code: 20003, status: 401 } } } };
    const run_id = await here.run(tenant);
    here.start();
    expect(await here.ended(tenant, run_id)).toMatchObject({ status: 'completed', completed: 23, needs_review: 1 });
    expect([...callsByNumber(here.sim)].filter(([, times]) => times !== 1)).toEqual([]);
    expect(callsByNumber(here.sim).has(poison)).toBe(false);
    const [job] = await here.rows("SELECT reason FROM carillon.outbound_call_jobs WHERE status = 'needs_review'");
    expect(job).toEqual({ reason: 'given up: refused 4 times with 20003, while others were called' });
  });

  it('opens when everybody is refused with a code that nobody knows, and not all of them have failed', async () => {
    here = await createInstallation({ behaviour: { default: { ...CALLS, refuse: { code: 29999, status: 400 } } } });
    const tenant = await here.business({ leads: 20, lines: 1 });
    const run_id = await here.run(tenant);
    here.start();
    const reason = await until(
      async () => (await getRun(here.db, tenant.business_id, run_id)).waiting_reason?.match(/halted: (\S+)/)?.[1],
      { deadline_ms: 30_000, what: 'the reason in the run' },
    );
    expect(reason).toBe('29999');
    here.sim.behaviour = { default: CALLS };
    expect(await here.ended(tenant, run_id)).toMatchObject({ status: 'completed', completed: 15, failed: 5 });
  });
});
