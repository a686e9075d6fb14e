import { describe, type ExpectStatic, it } from 'vitest';
import { type HoldingRelay, startHoldingRelay } from '../support/holding-relay.ts';
import { until } from '../support/wait.ts';
import { createCase, type FaultCase } from './support/fault-case.ts';
import type { Running } from './support/processes.ts';

/**
 * A request that the way to the carrier holds up, for longer than the operator has said that it can: its lead is called
 * again, and then the old request makes a call too. Nobody may get to hear it.
 */

const DEADLINE_MS = 120_000;

interface Superseded {
  here: FaultCase;
  relay: HoldingRelay;
  worker: Running;
  [Symbol.asyncDispose](): Promise<void>;
}

/** The lead was called and its run is over; the old request is still under way. */
async function callAgain(expect: ExpectStatic): Promise<Superseded> {
  await using cleanup = new AsyncDisposableStack();
  let relay: HoldingRelay | undefined;
  const here = cleanup.use(
    await createCase({
      leads: 1,
      async wayTo(url) {
        relay = await startHoldingRelay(url);
        return relay.url;
      },
    }),
  );
  if (!relay) throw new Error('nobody asked for the way');
  const way = relay;
  cleanup.defer(async () => await way.close());
  way.holdNextCreate();
  const run_id = await here.start();
  const worker = here.worker();
  await until(() => way.held() === 1, { deadline_ms: DEADLINE_MS, what: 'a create that is held up' });
  expect(await here.ended(run_id)).toMatchObject({ status: 'completed', completed: 1 });
  const kept = cleanup.move();
  return { here, relay: way, worker, [Symbol.asyncDispose]: async () => await kept.disposeAsync() };
}

const SLOW = { response_delay_ms: 0, outcomes: { answered: 1 } } as const;

describe('a call whose lead was called again meanwhile', () => {
  it.concurrent('is hung up as soon as its first callback tells of it', { timeout: DEADLINE_MS }, async ({
    expect,
  }) => {
    await using late = await callAgain(expect);
    const { here, relay } = late;
    // It would ring for a minute.
    here.sim.behaviour = { default: { ...SLOW, ring_ms: 60_000 } };
    expect(await relay.letArrive()).toMatch(/ 201 /);
    const call = await until(() => here.sim.ledger().find(({ status }, n) => n === 1 && status === 'canceled'), {
      deadline_ms: 45_000,
      what: 'the second call to be cancelled',
    });
    expect(call.statuses.map(({ status }) => status)).not.toContain('in-progress');
    const unwanted = 'SELECT reason FROM carillon.unwanted_calls WHERE over_at IS NOT NULL';
    await until(async () => (await here.rows(unwanted)).length === 1, { deadline_ms: 30_000, what: 'the end of it' });
    expect(await here.rows(unwanted)).toEqual([{ reason: 'superseded' }]);
  });

  it.concurrent('is hung up by its answer, though every callback is lost and no worker lives', {
    timeout: DEADLINE_MS,
  }, async ({ expect }) => {
    await using late = await callAgain(expect);
    const { here, relay, worker } = late;
    await worker.kill();
    // It would talk for a minute.
    here.sim.behaviour = { default: { ...SLOW, ring_ms: 20, talk_ms: 60_000, callback: { drop: 1 } } };
    expect(await relay.letArrive()).toMatch(/ 201 /);
    const call = await until(() => here.sim.ledger().find(({ status }, n) => n === 1 && status === 'completed'), {
      deadline_ms: 45_000,
      what: 'the second call to end',
    });
    expect(call.warning).toBeNull();
  });
});
