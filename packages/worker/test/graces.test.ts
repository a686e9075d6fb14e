import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createTendState, tend } from '../src/tend.ts';
import { createInstallation, type Installation } from './support/installation.ts';
import { claimed, contextOf, everyRound, jobStatus, leased, liveCall, record, round } from './support/tending.ts';

/** What an unknown attempt is not believed to be, and for how long. */

let here: Installation;
beforeEach(async () => {
  here = await createInstallation({ limits: { ...everyRound, ring_timeout_ms: 1_000, call_max_ms: 600_000 } });
});
afterEach(async () => await here.close());

/** A monotonic clock that stands still until it is moved. */
function handClock() {
  let now_ms = 1_000;
  return { monotonicMs: () => now_ms, wallMs: () => 0, pass: (ms: number) => (now_ms += ms) };
}

/** Makes every open attempt look as old as if it had been committed that much earlier. */
async function age(seconds: number): Promise<void> {
  await here.rows(
    'UPDATE carillon.open_attempts SET intent_us = intent_us - $1::bigint, deadline_us = deadline_us - $1::bigint',
    [seconds * 1_000_000],
  );
}

async function unknownAttempt() {
  const mine = await leased(here, await here.business({ leads: 1 }));
  const [attempt] = await claimed(here, mine);
  await record(here, attempt, { kind: 'unknown', cause: 'reset' });
  return { mine, attempt };
}

describe('an unknown attempt', () => {
  it('a call of an earlier attempt is not taken for this one’s', async () => {
    const { mine, attempt } = await unknownAttempt();
    await record(here, attempt, { kind: 'absent' });
    const [again] = await claimed(here, mine);
    expect(await record(here, attempt, { kind: 'call', call: liveCall('C-old') })).toBe('unwanted');
    await record(here, again, { kind: 'unknown', cause: 'reset' });
    const context = contextOf(here, {
      find: async () => ({ kind: 'listed', calls: [liveCall('C-old')] }),
      hangUp: async () => ({ kind: 'asked' }),
    });
    await round(context, createTendState());
    expect(await here.rows('SELECT attempt_no, state, call_id FROM carillon.open_attempts')).toEqual([
      { attempt_no: 2, state: 'unknown', call_id: null },
    ]);
  });

  it('goes to review only when its call can no longer be live, by both clocks', async () => {
    const { mine } = await unknownAttempt();
    const clock = handClock();
    const context = contextOf(here, { find: async () => ({ kind: 'error', cause: 'http_500' }) }, clock);
    const [state, later] = [createTendState(), createTendState()];
    await round(context, state);
    // Past every grace; but a call that was answered may go on for ten minutes.
    await age(100);
    clock.pass(86_400_000);
    await round(context, state);
    expect(await jobStatus(here, mine.run_id)).toBe('in_progress');
    // By the database's clock it is over. A process that has only just heard of it waits for its own.
    await age(86_400);
    await round(context, later);
    expect(await jobStatus(here, mine.run_id)).toBe('in_progress');
    await round(context, state);
    expect(await jobStatus(here, mine.run_id)).toBe('needs_review');
  });

  it('that the database’s clock was set back behind goes to review only when its call can’t be live by the worker’s own', async () => {
    const { mine } = await unknownAttempt();
    await age(-3_600);
    const clock = handClock();
    const context = contextOf(here, { find: async () => ({ kind: 'error', cause: 'http_500' }) }, clock);
    const state = createTendState();
    await round(context, state);
    clock.pass(100_000);
    await round(context, state);
    expect(await jobStatus(here, mine.run_id)).toBe('in_progress');
    clock.pass(86_400_000);
    await round(context, state);
    expect(await jobStatus(here, mine.run_id)).toBe('needs_review');
  });

  it('of an account that does not answer is not asked about again meanwhile', async () => {
    await unknownAttempt();
    const { promise: held, resolve: release } = Promise.withResolvers<void>();
    let asked = 0;
    const context = contextOf(here, {
      find: async () => {
        asked++;
        await held;
        return { kind: 'error', cause: 'timeout' };
      },
    });
    const state = createTendState();
    await tend(context, state);
    const first = [...state.busy.values()];
    await tend(context, state);
    release();
    await Promise.all([...first, ...state.busy.values()]);
    expect(asked).toBe(1);
  });
});

describe('a live call that the carrier can not tell of', () => {
  it('is left to a person only when it can no longer be live, by both clocks', async () => {
    const mine = await leased(here, await here.business({ leads: 1 }));
    const [attempt] = await claimed(here, mine);
    await record(here, attempt, { kind: 'accepted', call_id: 'C1' });
    const clock = handClock();
    const context = contextOf(here, { fetchCall: async () => ({ kind: 'error', cause: 'http_500' }) }, clock);
    const state = createTendState();
    await round(context, state);
    clock.pass(86_400_000);
    await round(context, state);
    expect(await jobStatus(here, mine.run_id)).toBe('in_progress');
    await here.rows('UPDATE carillon.open_attempts SET placed_us = placed_us - 86400000000::bigint');
    await round(context, createTendState());
    expect(await jobStatus(here, mine.run_id)).toBe('in_progress');
    await round(context, state);
    expect(await jobStatus(here, mine.run_id)).toBe('needs_review');
  });

  it('and that the database’s clock was set back behind is left to a person by the worker’s own', async () => {
    const mine = await leased(here, await here.business({ leads: 1 }));
    const [attempt] = await claimed(here, mine);
    await record(here, attempt, { kind: 'accepted', call_id: 'C1' });
    await here.rows('UPDATE carillon.open_attempts SET placed_us = placed_us + 3600000000');
    const clock = handClock();
    const context = contextOf(here, { fetchCall: async () => ({ kind: 'error', cause: 'http_500' }) }, clock);
    const state = createTendState();
    await round(context, state);
    clock.pass(600_000);
    await round(context, state);
    expect(await jobStatus(here, mine.run_id)).toBe('in_progress');
    clock.pass(600_000);
    await round(context, state);
    expect(await jobStatus(here, mine.run_id)).toBe('needs_review');
  });
});
