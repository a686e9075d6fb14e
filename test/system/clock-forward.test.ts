import { availableParallelism } from 'node:os';
import { describe, type ExpectStatic, it } from 'vitest';
import { until } from '../support/wait.ts';
import { type Clocks, createClocks, type Lie } from './support/clocks.ts';
import { createCase, type FaultCase } from './support/fault-case.ts';
import type { Running } from './support/processes.ts';

const AT_ONCE = Math.max(3, availableParallelism());
const ALL_MS = 900_000;
const DEADLINE_MS = 60_000;
const HOUR_MS = 3_600_000;
let free = AT_ONCE;
const waiting: (() => void)[] = [];

async function inTurn(work: () => Promise<void>): Promise<void> {
  if (free > 0) free -= 1;
  else await new Promise<void>((resolve) => waiting.push(resolve));
  try {
    await work();
  } finally {
    const next = waiting.shift();
    if (next) next();
    else free += 1;
  }
}

/** From the claim to the last byte of the request. */
const TO_THE_LAST_BYTE = [
  'claim.before_commit',
  'claim.committed',
  'dial.before_connect',
  'dial.headers_out',
  'dial.before_body',
  'dial.body_out',
];

/** What the clocks of a process tell that was stopped for so long; the one that is left true says that it was. */
const LIES: Record<string, (stopped_ms: number) => Lie> = {
  'its wall clock set forward by an hour': () => ({ wall_ms: HOUR_MS, monotonic_ms: 0 }),
  'its wall clock set back by an hour': () => ({ wall_ms: -HOUR_MS, monotonic_ms: 0 }),
  'its monotonic clock standing still, as on a machine that is suspended': (stopped_ms) => ({
    wall_ms: 0,
    monotonic_ms: -stopped_ms,
  }),
  'its wall clock set back by as long as it stood': (stopped_ms) => ({ wall_ms: -stopped_ms, monotonic_ms: 0 }),
};

/** Both clocks lie at once: no look at either can tell that any time has passed. */
const BOTH = (stopped_ms: number): Lie => ({ wall_ms: -HOUR_MS, monotonic_ms: -stopped_ms });

/**
 * A worker is stopped at the point for three TTLs while another one works on; then its clocks lie, and it is woken.
 * Returns when it has gone round again, and done what is waited for, and has ended.
 */
async function sleepAndLie(
  here: FaultCase,
  point: string,
  lie: (stopped_ms: number) => Lie,
  expect: ExpectStatic,
  done: () => boolean = () => true,
): Promise<void> {
  const clocks: Clocks = createClocks();
  try {
    const run_id = await here.start();
    const sleeper: Running = here.worker(`${point}:stop`, undefined, clocks.env);
    await here.stopsAt(sleeper, point);
    const stopped_ms = performance.now();
    here.worker();
    expect(await here.ended(run_id)).toMatchObject({ status: 'completed', completed: here.leads });
    await until(() => performance.now() - stopped_ms > 3 * here.limits.lease_ttl_ms, {
      deadline_ms: DEADLINE_MS,
      what: 'three TTLs to pass',
    });
    clocks.tell(lie(performance.now() - stopped_ms));
    sleeper.signal('SIGCONT');
    // Not ended before it has gone on with what it had in hand: one that is told to end dials nothing.
    await here.worksOn(sleeper);
    await until(done, { deadline_ms: DEADLINE_MS, what: 'what the woken worker does' });
    expect(await sleeper.stop(DEADLINE_MS)).toBe(0);
  } finally {
    clocks.dispose();
  }
}

describe('a process whose clocks lie', () => {
  it('is told what the test says, from the next reading on', { timeout: ALL_MS }, async ({ expect }) => {
    const clocks = createClocks();
    await using here = await createCase({ leads: 1 });
    try {
      const worker = here.worker(undefined, undefined, clocks.env);
      const [, worker_id = ''] = await worker.says(/worker (\S+) looks/, DEADLINE_MS);
      const skew = async () => {
        const rows = await here.rows<{ skew_ms: string | null }>(
          'SELECT skew_ms FROM carillon.workers WHERE worker_id = $1',
          [worker_id],
        );
        return Number(rows[0]?.skew_ms ?? Number.NaN);
      };
      for (const wall_ms of [HOUR_MS, -HOUR_MS]) {
        clocks.tell({ wall_ms, monotonic_ms: 0 });
        const told = await until(async () => Math.abs((await skew()) - wall_ms) < 60_000, {
          deadline_ms: DEADLINE_MS,
          what: 'the worker to tell its time',
        });
        expect(told).toBe(true);
      }
    } finally {
      clocks.dispose();
    }
  });
});

describe.for(Object.entries(LIES))('a worker that is stopped for three TTLs and woken with %s', ([, lie]) => {
  it.concurrent.for(TO_THE_LAST_BYTE)(
    'at %s makes no second call',
    { timeout: ALL_MS },
    async (point, { expect }) =>
      await inTurn(async () => {
        await using here = await createCase();
        await sleepAndLie(here, point, lie, expect);
        await here.judge(expect, here.leads);
      }),
  );
});

describe('a worker that is stopped for three TTLs and woken with both its clocks telling that no time has passed', () => {
  it.concurrent.for(['claim.before_commit', 'dial.headers_out', 'dial.before_body', 'dial.body_out'])(
    'at %s makes no second call: the database or the carrier has dropped what it left unfinished',
    { timeout: ALL_MS },
    async (point, { expect }) =>
      await inTurn(async () => {
        await using here = await createCase();
        await sleepAndLie(here, point, BOTH, expect);
        await here.judge(expect, here.leads);
      }),
  );

  it.concurrent.for(['claim.committed', 'dial.before_connect'])(
    'at %s is past every check: nothing but the carrier could tell, which takes creates that expire',
    { timeout: ALL_MS },
    async (point, { expect }) =>
      await inTurn(async () => {
        await using here = await createCase();
        const doubled = () =>
          [...Map.groupBy(here.sim.ledger(), ({ to }) => to).values()].filter((calls) => calls.length > 1);
        await sleepAndLie(here, point, BOTH, expect, () => doubled().length > 0);
        console.log(`with both clocks lying at ${point}: ${doubled().length} of ${here.leads} leads were called twice`);
        expect(doubled().every((calls) => calls.length === 2)).toBe(true);
      }),
  );
});
