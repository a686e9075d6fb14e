import { availableParallelism } from 'node:os';
import { FAULT_POINT_NAMES, type FaultPlace } from '@carillon/contract';
import { describe, type ExpectStatic, it } from 'vitest';
import { until } from '../support/wait.ts';
import { createCase } from './support/fault-case.ts';
import { CALLED_BACK, ELSEWHERE, type Recipe, RECIPES } from './support/fault-recipes.ts';

/** All tests are begun at once and most wait here for their turn. */
const AT_ONCE = Math.max(3, availableParallelism());
const ALL_MS = 900_000;
const DEADLINE_MS = 60_000;
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

async function walk(point: string, recipe: Recipe, expect: ExpectStatic): Promise<void> {
  await inTurn(async () => {
    await using here = await createCase(recipe);
    await recipe.play(here, point, recipe, expect);
    await here.judge(expect, recipe.called ?? here.leads, recipe.violations);
  });
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

describe('a worker that is stopped for three TTLs', () => {
  it.concurrent.for(TO_THE_LAST_BYTE)(
    'at %s, and woken, makes no second call',
    { timeout: ALL_MS },
    async (point, { expect }) =>
      await inTurn(async () => {
        await using here = await createCase();
        const run_id = await here.start();
        const sleeper = here.worker(`${point}:stop`);
        await here.stopsAt(sleeper, point);
        const stopped_ms = performance.now();
        here.worker();
        expect(await here.ended(run_id)).toMatchObject({ status: 'completed', completed: here.leads });
        await until(() => performance.now() - stopped_ms > 3 * here.limits.lease_ttl_ms, {
          deadline_ms: DEADLINE_MS,
          what: 'three TTLs to pass',
        });
        sleeper.signal('SIGCONT');
        // Not ended before it has gone on with what it had in hand: one that is told to end dials nothing.
        await here.worksOn(sleeper);
        expect(await sleeper.stop(DEADLINE_MS)).toBe(0);
        await here.judge(expect, here.leads);
      }),
  );

  it.concurrent.for(['lease', 'claim', 'settle', 'heartbeat'])(
    'inside %s, its locks held, blocks nobody for longer than the TTL',
    { timeout: ALL_MS },
    async (place, { expect }) =>
      await inTurn(async () => {
        const lease_ttl_ms = 6_000;
        const recipe = RECIPES[place as FaultPlace];
        await using here = await createCase({
          ...recipe,
          behaviour: { ...recipe.behaviour, talk_ms: 3_000 },
          limits: { lease_ttl_ms },
        });
        const run_id = await here.start();
        const sleeper = here.worker(`${place}.before_commit:stop`);
        await here.stopsAt(sleeper, `${place}.before_commit`);
        const locked = 'SELECT 1 FROM carillon.outbound_call_runs WHERE run_id = $1 FOR UPDATE SKIP LOCKED';
        expect(await here.rows(locked, [run_id])).toEqual([]);
        const stopped_ms = performance.now();
        expect(await here.rows(locked.replace(' SKIP LOCKED', ''), [run_id])).toHaveLength(1);
        const blocked_ms = performance.now() - stopped_ms;
        console.log(`stopped inside ${place}: its locks were held for ${Math.round(blocked_ms)} ms`);
        expect(blocked_ms).toBeLessThan(lease_ttl_ms);
      }),
  );
});

describe('kill -9 at a fault point, and others go on: nobody is called twice and nobody is lost', () => {
  it.concurrent.for(FAULT_POINT_NAMES.map((point) => ({ point })))(
    'at $point',
    { timeout: ALL_MS },
    async ({ point }, { expect }) => {
      const place = point.slice(0, point.indexOf('.')) as FaultPlace;
      await walk(point, RECIPES[place], expect);
    },
  );

  it.concurrent.for(CALLED_BACK)(
    'at $point, of the API that the carrier calls back',
    { timeout: ALL_MS },
    async ({ point, recipe }, { expect }) => await walk(point, recipe, expect),
  );

  it.concurrent.for(ELSEWHERE)(
    'at $point, passed by $whom',
    { timeout: ALL_MS },
    async ({ point, recipe }, { expect }) => await walk(point, recipe, expect),
  );
});
