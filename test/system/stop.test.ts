import type { Job, Run, StoppedRun } from '@carillon/contract';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { until } from '../support/wait.ts';
import { createInstallation, type Installation, type Tenant } from './support/installation.ts';
import { attemptsOf, databaseNow, expectAudited, expectOneCallEach, expectRightCounters } from './support/judge.ts';
import { watchCounters } from './support/watcher.ts';

let here: Installation;
beforeAll(async () => {
  here = await createInstallation();
  await here.worker();
  await here.worker();
});
let stopWatching: ReturnType<typeof watchCounters>;
beforeEach(() => void (stopWatching = watchCounters(here.superuserUrl)));
afterEach(async () => {
  await expectRightCounters(stopWatching);
  await expectAudited(here);
});
afterAll(async () => await here.close());

/** A run is told to stop or pause, and what is known of it at that very moment. */
interface Halt {
  answer: StoppedRun;
  took_ms: number;
  /** When the answer was there, by the database's clock; which the carrier shares, being on the same machine. */
  answered_us: number;
  /** What had been committed by then: everything that was ever to be committed. */
  committed: string[];
}

async function halt(tenant: Tenant, run_id: number, path: string, body: object): Promise<Halt> {
  const since_ms = performance.now();
  const answer = await here.ask<StoppedRun>(tenant.key, 'POST', path, body);
  const took_ms = performance.now() - since_ms;
  const answered_us = await databaseNow(here);
  const committed = (await attemptsOf(here, run_id)).map(nameOf);
  console.log(`${path}: answered in ${took_ms.toFixed(1)} ms with ${answer.in_flight} in flight`);
  return { answer, took_ms, answered_us, committed };
}

const stop = async (tenant: Tenant, run_id: number, live_calls: 'drain' | 'hang_up') =>
  await halt(tenant, run_id, '/api/outbound/stop-queue', { run_id, live_calls });

const nameOf = ({ seq, attempt_no }: { seq: number; attempt_no: number }) => `${seq}/${attempt_no}`;

/** Nothing was committed after the answer, and what the carrier began after it is what the answer counted. */
async function expectHalted(tenant: Tenant, run_id: number, { answer, answered_us, committed }: Halt): Promise<void> {
  const attempts = await attemptsOf(here, run_id);
  expect(attempts.map(nameOf)).toEqual(committed);
  expect(attempts.filter(({ intent_us }) => intent_us >= answered_us)).toEqual([]);
  const begun = (await here.ledger(tenant)).filter(({ created_us }) => created_us > answered_us);
  expect(begun.length).toBeLessThanOrEqual(answer.in_flight);
  console.log(`begun by the carrier after the answer: ${begun.length} of ${answer.in_flight} in flight`);
}

async function jobsIn(tenant: Tenant, run_id: number, status: Job['status']): Promise<Job[]> {
  const jobs: Job[] = [];
  for (let after: string | null = ''; after !== null; ) {
    const query = `status=${status}&limit=500${after && `&after=${after}`}`;
    const page: { items: Job[]; next: string | null } = await here.ask(
      tenant.key,
      'GET',
      `/api/outbound/runs/${run_id}/jobs?${query}`,
    );
    jobs.push(...page.items);
    after = page.next;
  }
  return jobs;
}

const sumOf = (run: Run) =>
  run.queued +
  run.waiting +
  run.in_progress +
  run.completed +
  run.failed +
  run.cancelled +
  run.skipped +
  run.needs_review;

describe('a stop in the middle of a run', () => {
  it('starts nothing more, cancels what waits at once, and drains the calls in flight', async () => {
    const tenant = await here.tenant({
      leads: 5_000,
      lines: 60,
      calls_per_second: 100,
      behaviour: { ring_ms: [50, 200], talk_ms: [100, 400], outcomes: { answered: 3, busy: 1 } },
    });
    // So that some jobs wait when the stop comes.
    const { run_id } = await here.start(tenant, { policy: { retry: { busy: { times: 2, after_s: 600 } } } as never });
    await here.calls(tenant, 150);
    const halted = await stop(tenant, run_id, 'drain');

    const { answer } = halted;
    expect(answer).toMatchObject({ status: 'cancelling', cancel_requested: true, queued: 0, waiting: 0 });
    expect(answer.in_flight).toBeGreaterThan(0);
    expect(answer.in_progress).toBe(answer.in_flight);
    expect(await jobsIn(tenant, run_id, 'queued')).toEqual([]);
    expect(await jobsIn(tenant, run_id, 'waiting')).toEqual([]);
    const cancelled = await jobsIn(tenant, run_id, 'cancelled');
    expect(cancelled.length).toBeGreaterThanOrEqual(answer.cancelled);
    expect(cancelled.filter(({ last_outcome }) => last_outcome === 'busy').length).toBeGreaterThan(0);

    const run = await here.ended(tenant, run_id, 15_000);
    expect(run).toMatchObject({ status: 'cancelled', in_progress: 0, needs_review: 0 });
    expect(sumOf(run)).toBe(5_000);
    await expectHalted(tenant, run_id, halted);
    // Drained: every call went to its own end.
    expect((await here.ledger(tenant)).filter(({ status }) => status === 'canceled')).toEqual([]);
    expect((await here.totals(tenant)).doubled).toBe(0);
  });

  it('hangs up the calls in flight when it is told to', async () => {
    const lines = 30;
    const talking = { ring_ms: 30, talk_ms: 600_000 } as const;
    const tenant = await here.tenant({ leads: 500, lines, calls_per_second: 100, behaviour: { ...talking } });
    const { run_id } = await here.start(tenant);
    await here.calls(tenant, lines);
    await until(async () => (await here.ledger(tenant)).every(({ status }) => status === 'in-progress'), {
      deadline_ms: 10_000,
      what: 'all lines to talk',
    });
    const since_ms = performance.now();
    const halted = await stop(tenant, run_id, 'hang_up');
    expect(halted.answer).toMatchObject({ status: 'cancelling', in_flight: lines, cancelled: 500 - lines });
    const run = await here.ended(tenant, run_id, 10_000);
    console.log(
      `all ${lines} calls hung up ${Math.round(performance.now() - since_ms)} ms after the stop was asked for`,
    );
    expect(run).toMatchObject({ status: 'cancelled', completed: lines, cancelled: 500 - lines });
    await expectHalted(tenant, run_id, halted);
    expect(await here.totals(tenant)).toMatchObject({ calls: lines, live: 0, doubled: 0 });
  });

  it('has nothing left to wait for where no call is live', async () => {
    const tenant = await here.tenant({ leads: 100, lines: 5, calls_per_second: 1 });
    const starts_at = new Date(Date.now() + 3_600_000).toISOString();
    const { run_id } = await here.start(tenant, { starts_at });
    const { answer } = await stop(tenant, run_id, 'drain');
    expect(answer).toMatchObject({ status: 'cancelled', in_flight: 0, cancelled: 100, can_cancel: false });
    expect(answer.ended_at).not.toBeNull();
    expect((await here.totals(tenant)).calls).toBe(0);
  });
});

describe('a pause in the middle of a run', () => {
  it.each(['drain', 'hang_up'] as const)(
    'starts nothing more (%s), and a resume goes on without a double',
    async (live_calls) => {
      const tenant = await here.tenant({
        leads: 400,
        lines: 40,
        calls_per_second: 80,
        behaviour: { ring_ms: [50, 100], talk_ms: [100, 400] },
      });
      const { run_id } = await here.start(tenant);
      await here.calls(tenant, 120);
      const halted = await halt(tenant, run_id, `/api/outbound/runs/${run_id}/pause`, { live_calls });
      expect(halted.answer.status).toBe('paused');
      expect(halted.answer.in_flight).toBeGreaterThan(0);
      await until(async () => (await here.run(tenant, run_id)).in_progress === 0, {
        deadline_ms: 10_000,
        what: 'the calls in flight to end',
      });
      await expectHalted(tenant, run_id, halted);
      const paused = await here.run(tenant, run_id);
      expect(paused).toMatchObject({ status: 'paused', ended_at: null });
      expect(paused.queued + paused.waiting).toBe(400 - paused.cursor_position);
      expect(paused.queued).toBeGreaterThan(0);

      await here.ask(tenant.key, 'POST', `/api/outbound/runs/${run_id}/resume`, {});
      expect(await here.ended(tenant, run_id)).toMatchObject({ status: 'completed', cursor_position: 400 });
      await expectOneCallEach(here, tenant);
    },
  );
});
