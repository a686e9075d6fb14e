import { localActor, stopRun, systemClock } from '@carillon/engine';
import { afterEach, describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { callsByNumber, createInstallation, type Installation } from './support/installation.ts';

let here: Installation;
afterEach(async () => await here.close());

function expectOneCallEach(leads: number): void {
  const calls = callsByNumber(here.sim);
  expect(calls.size).toBe(leads);
  expect([...calls.values()].filter((times) => times > 1)).toEqual([]);
}

describe('a worker', { timeout: 90_000 }, () => {
  it('calls every lead once and learns every end, though every callback is lost', async () => {
    here = await createInstallation();
    const tenant = await here.business({ leads: 60, lines: 20 });
    const run_id = await here.run(tenant);
    here.start();
    expect(await here.ended(tenant, run_id)).toMatchObject({ status: 'completed', completed: 60, cursor_position: 60 });
    expectOneCallEach(60);
  });

  it('never calls twice when the carrier’s answers are lost: it finds the calls in the carrier’s list', async () => {
    here = await createInstallation({
      behaviour: {
        default: {
          ring_ms: [20, 400],
          talk_ms: [20, 400],
          outcomes: { answered: 3, busy: 1 },
          lose_response: 0.4,
          listing_lag_ms: 100,
        },
      },
    });
    const tenant = await here.business({ leads: 50, lines: 25 });
    const run_id = await here.run(tenant);
    here.start();
    const run = await here.ended(tenant, run_id);
    expect(run.completed + run.failed).toBe(50);
    expectOneCallEach(50);
    expect(here.sim.ledger().some(({ response }) => response === 'lost')).toBe(true);
  });

  it('calls again what certainly was not called: the answer was an error page and no call was made', async () => {
    here = await createInstallation({
      behaviour: {
        default: { ring_ms: 20, talk_ms: 20, outcomes: { answered: 1 }, http_error: { status: 503, probability: 0.4 } },
      },
    });
    const tenant = await here.business({ leads: 30, lines: 30 });
    const run_id = await here.run(tenant);
    here.start();
    expect(await here.ended(tenant, run_id)).toMatchObject({ status: 'completed', completed: 30 });
    expectOneCallEach(30);
    const [absent] = await here.rows<{ n: string }>(
      "SELECT count(*) AS n FROM carillon.attempts WHERE run_id = $1 AND outcome = 'absent'",
      [run_id],
    );
    expect(Number(absent?.n)).toBeGreaterThan(0);
  });

  it('waits while the carrier is down, and goes on by itself when it is back', async () => {
    here = await createInstallation();
    const tenant = await here.business({ leads: 20, lines: 5 });
    here.sim.behaviour = { default: { down: true } };
    const run_id = await here.run(tenant);
    here.start();
    // A connection that is reset before the body opens the breaker. After the body nobody knows, and the line is held:
    // where all are, nothing more is tried until somebody may ask the carrier.
    await until(
      async () => {
        const [lane] = await here.rows<{ refusals: number; unknown: number }>(
          `SELECT refusals_in_a_row AS refusals,
             (SELECT count(*)::int FROM carillon.open_attempts WHERE state = 'unknown') AS unknown FROM carillon.lanes`,
        );
        return (lane?.refusals ?? 0) >= 2 || lane?.unknown === 5;
      },
      { deadline_ms: 25_000, what: 'the breaker to open twice, or every line to be held' },
    );
    expect(here.sim.ledger()).toHaveLength(0);
    here.sim.behaviour = { default: { ring_ms: 20, talk_ms: 20, outcomes: { answered: 1 } } };
    expect(await here.ended(tenant, run_id)).toMatchObject({ status: 'completed', completed: 20 });
    expectOneCallEach(20);
  });

  it('gives its runs back when it stops, and the next goes on at once without a double call', async () => {
    here = await createInstallation({ limits: { lease_ttl_ms: 60_000 } });
    const tenant = await here.business({ leads: 80, lines: 10, calls_per_second: 60 });
    const run_id = await here.run(tenant);
    const first = here.start();
    await until(() => here.sim.ledger().length >= 15, { deadline_ms: 25_000, what: 'fifteen calls' });
    const started = systemClock.monotonicMs();
    await first.stop();
    expect(systemClock.monotonicMs() - started).toBeLessThan(6_000);
    const [run] = await here.rows('SELECT locked_by_worker FROM carillon.outbound_call_runs WHERE run_id = $1', [
      run_id,
    ]);
    expect(run).toEqual({ locked_by_worker: null });
    here.start();
    expect(await here.ended(tenant, run_id)).toMatchObject({ status: 'completed', completed: 80 });
    expectOneCallEach(80);
  });

  it('keeps no place for a run whose next call is far off: another business’s run is called, and that one when it is time', async () => {
    here = await createInstallation({
      limits: { worker_runs: 2 },
      behaviour: { default: { ring_ms: 20, talk_ms: 20, outcomes: { busy: 1 } } },
    });
    const waiting = await here.business({ leads: 2 });
    const policy = { retry: { busy: { times: 1, after_s: 30 * 86_400 } }, review_always: false };
    const runs = [await here.run(waiting, { policy }), await here.run(waiting, { policy })];
    here.start();
    const waits = async () =>
      await here.rows(
        `SELECT run_id FROM carillon.outbound_call_runs
         WHERE run_id = ANY ($1) AND waiting = 2 AND status = 'running' AND locked_by_worker IS NULL`,
        [runs],
      );
    const tried = "SELECT 1 FROM carillon.job_schedule WHERE reason = 'retry'";
    await until(async () => (await here.rows(tried)).length === 4, {
      deadline_ms: 60_000,
      what: 'every lead to wait for its next try',
    });
    here.sim.behaviour = { default: { ring_ms: 20, talk_ms: 20, outcomes: { answered: 1 } } };
    const other = await here.business({ leads: 3 });
    expect(await here.ended(other, await here.run(other), 20_000)).toMatchObject({ completed: 3 });
    expect(await waits()).toHaveLength(2);
    await here.rows('UPDATE carillon.job_schedule SET due_us = 1');
    for (const run_id of runs) expect(await here.ended(waiting, run_id, 20_000)).toMatchObject({ completed: 2 });
  });

  it('dials nothing past the deadline, on either clock', async () => {
    // A wall clock that jumps an hour ahead whenever it is read, so also between the claim and the dial, as after a
    // suspended machine wakes.
    let readings = 0;
    const clock = {
      monotonicMs: systemClock.monotonicMs,
      wallMs: () => systemClock.wallMs() + 3_600_000 * readings++,
    };
    here = await createInstallation();
    const tenant = await here.business({ leads: 1 });
    const run_id = await here.run(tenant);
    here.start(clock);
    await until(
      async () => {
        const rows = await here.rows(
          "SELECT 1 FROM carillon.attempts WHERE run_id = $1 AND outcome = 'not_dialed' AND cause LIKE '%deadline%'",
          [run_id],
        );
        return rows.length > 0;
      },
      { deadline_ms: 25_000, what: 'an attempt that was not dialled' },
    );
    const [first] = await here.rows<{ intent_us: string }>(
      'SELECT min(intent_us) AS intent_us FROM carillon.attempts WHERE run_id = $1',
      [run_id],
    );
    expect(here.sim.ledger().filter(({ created_us }) => created_us < Number(first?.intent_us))).toEqual([]);
  });

  it('hangs up what is live when a stop says so', async () => {
    here = await createInstallation({
      behaviour: { default: { ring_ms: 20, talk_ms: 60_000, outcomes: { answered: 1 } } },
      limits: { call_max_ms: 120_000 },
    });
    const tenant = await here.business({ leads: 40, lines: 6 });
    const run_id = await here.run(tenant);
    here.start();
    await until(() => here.sim.ledger().filter(({ status }) => status === 'in-progress').length === 6, {
      deadline_ms: 10_000,
      what: 'six calls that talk',
    });
    const stopped = await stopRun(here.db, tenant.business_id, run_id, 'hang_up', localActor('test'));
    expect(stopped).toMatchObject({ status: 'cancelling', in_flight: 6, cancelled: 34 });
    expect(await here.ended(tenant, run_id)).toMatchObject({ status: 'cancelled', completed: 6, cancelled: 34 });
    expect(here.sim.ledger()).toHaveLength(6);
  });

  it('shares the runs with others, and each places its part of the calls', async () => {
    here = await createInstallation();
    const tenants = await Promise.all([here.business({ leads: 40 }), here.business({ leads: 40 })]);
    here.start();
    here.start();
    await until(async () => (await here.rows('SELECT 1 FROM carillon.workers')).length === 2, {
      deadline_ms: 5_000,
      what: 'both workers',
    });
    const runs = await Promise.all(tenants.map(async (tenant) => ({ tenant, run_id: await here.run(tenant) })));
    for (const { tenant, run_id } of runs)
      expect(await here.ended(tenant, run_id)).toMatchObject({ status: 'completed', completed: 40 });
    expectOneCallEach(80);
    const shares = await here.rows('SELECT DISTINCT worker_id FROM carillon.attempts');
    expect(shares).toHaveLength(2);
  });
});
