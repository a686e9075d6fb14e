import type { Run } from '@carillon/contract';
import { describe, type ExpectStatic, it } from 'vitest';
import { until } from '../support/wait.ts';
import { createCase, type FaultCase } from './support/fault-case.ts';
import type { Running } from './support/processes.ts';

/**
 * A lead at which every worker dies that dials it, killed for that lead alone; and a run of nothing else. Somebody
 * starts a new worker each time that one dies, as a supervisor does.
 */

const DEADLINE_MS = 180_000;
const POISON = '+972523000002';

/** Keeps one worker alive until the run has ended. Returns the run, and how many died. */
async function supervise(here: FaultCase, run_id: number, fault: string): Promise<{ run: Run; deaths: number }> {
  let deaths = 0;
  let worker: Running | null = null;
  const run = await until(
    async () => {
      if (worker === null) {
        const started = here.worker(fault);
        worker = started;
        void started.ended.then((how) => {
          if (how === 'SIGKILL') deaths++;
          worker = null;
        });
      }
      const now = await here.run(run_id);
      return now.ended_at === null ? null : now;
    },
    { deadline_ms: DEADLINE_MS, every_ms: 50, what: `the end of the run; ${deaths} workers have died` },
  );
  return { run, deaths };
}

async function jobOf(here: FaultCase, run_id: number, phone: string) {
  const [job] = await here.rows<{ status: string; attempts: number; reason: string | null }>(
    `SELECT j.status, j.attempts, j.reason FROM carillon.outbound_call_jobs j
     JOIN carillon.leads l USING (business_id, lead_id) WHERE j.run_id = $1 AND l.phone = $2`,
    [run_id, phone],
  );
  return job;
}

const limits = { fruitless_leases: 5 };

describe('a lead at which every worker dies', () => {
  it.concurrent.for(['dial.before_connect'])(
    'that dials it, at %s: the others are called once each, and it is left to a person',
    { timeout: DEADLINE_MS },
    async (point, { expect }) => {
      await using here = await createCase({ leads: 9, lines: 3, limits });
      const run_id = await here.start();
      const { run, deaths } = await supervise(here, run_id, `${point}:kill@${POISON}`);
      expect(run).toMatchObject({ status: 'completed', completed: 8, needs_review: 1, last_error: null });
      expect(await jobOf(here, run_id, POISON)).toMatchObject({
        status: 'needs_review',
        attempts: here.limits.fruitless_attempts,
        reason: expect.stringMatching(/^given up/),
      });
      expect(deaths).toBe(here.limits.fruitless_attempts);
      await here.judge(expect, 8);
    },
  );

  it.concurrent('that reads its carrier’s answer: its call is found, and it was called once', {
    timeout: DEADLINE_MS,
  }, async ({ expect }) => {
    await using here = await createCase({ leads: 6, lines: 3, limits });
    const run_id = await here.start();
    const { run, deaths } = await supervise(here, run_id, `dial.answered:kill@${POISON}`);
    expect(run).toMatchObject({ status: 'completed', completed: 6, needs_review: 0 });
    expect(deaths).toBe(1);
    await here.judge(expect, 6);
  });
});

describe('a lead at which each dial fails in our own code', () => {
  it.concurrent('does not stop its run either, nor its lane', { timeout: DEADLINE_MS }, async ({ expect }) => {
    await using here = await createCase({ leads: 6, lines: 2, limits });
    const run_id = await here.start();
    const { run, deaths } = await supervise(here, run_id, `dial.before_connect:fail@${POISON}`);
    expect(run).toMatchObject({ status: 'completed', completed: 5, needs_review: 1 });
    expect(deaths).toBe(0);
    await here.judge(expect, 5);
  });
});

describe('a run at which every worker dies', () => {
  it.concurrent.for([3, 30])(
    'fails, of %i leads, and says why; nobody was called',
    { timeout: DEADLINE_MS },
    async (leads, { expect }) => {
      await using here = await createCase({ leads, lines: 3, limits: { fruitless_leases: 3 } });
      const run_id = await here.start();
      const { run, deaths } = await supervise(here, run_id, 'dial.before_connect:kill');
      await expectFailed(expect, run, leads);
      expect(deaths).toBeLessThanOrEqual(3 * here.limits.fruitless_attempts);
      await here.judge(expect, 0);
    },
  );
});

async function expectFailed(expect: ExpectStatic, run: Run, leads: number): Promise<void> {
  expect(run).toMatchObject({ status: 'failed', completed: 0, last_error: expect.stringMatching(/workers in a row/) });
  expect(run.cancelled + run.needs_review).toBe(leads);
}
