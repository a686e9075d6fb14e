import type { CarrierDriver } from '@carillon/contract';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { createTendState, tend } from '../src/tend.ts';
import { createInstallation, type Installation } from './support/installation.ts';
import {
  capabilities,
  claimed,
  contextOf,
  everyRound,
  jobStatus,
  leased,
  liveCall,
  record,
  round,
} from './support/tending.ts';

let here: Installation;
beforeEach(async () => (here = await createInstallation({ limits: everyRound })));
afterEach(async () => await here.close());

/** Makes every open attempt look as old as if it had been committed that much earlier. */
async function age(seconds: number): Promise<void> {
  await here.rows(
    `UPDATE carillon.open_attempts SET intent_us = intent_us - $1::bigint, deadline_us = deadline_us - $1::bigint,
       placed_us = placed_us - $1::bigint, heard_us = heard_us - $1::bigint`,
    [seconds * 1_000_000],
  );
}

/** A monotonic clock that stands still until it is moved. */
function handClock() {
  let now_ms = 1_000;
  return { monotonicMs: () => now_ms, wallMs: () => 0, pass: (ms: number) => (now_ms += ms) };
}

async function oneAttempt() {
  const mine = await leased(here, await here.business({ leads: 1 }));
  const [attempt] = await claimed(here, mine);
  return { run_id: mine.run_id, attempt };
}

describe('a live call that the carrier can’t be asked about', () => {
  it('keeps its line while it may be live, and goes to review after that', async () => {
    const { run_id, attempt } = await oneAttempt();
    await record(here, attempt, { kind: 'accepted', call_id: 'C1' });
    const clock = handClock();
    const context = contextOf(here, { fetchCall: async () => ({ kind: 'error', cause: 'http_401' }) }, clock);
    const state = createTendState();
    await round(context, state);
    expect(await jobStatus(here, run_id)).toBe('in_progress');
    await age(86_400);
    // The database's clock may have jumped.
    await round(context, state);
    expect(await jobStatus(here, run_id)).toBe('in_progress');
    clock.pass(86_400_000);
    await round(context, state);
    expect(await jobStatus(here, run_id)).toBe('needs_review');
    expect(await here.rows('SELECT seq FROM carillon.open_attempts')).toEqual([]);
  });
});

describe('a carrier that does not answer', () => {
  it('delays only its own account: another business’s calls are hung up meanwhile', async () => {
    const slow = await leased(here, await here.business({ leads: 20, lines: 20 }));
    for (const attempt of await claimed(here, slow)) await record(here, attempt, { kind: 'unknown', cause: 'reset' });
    const other = await leased(here, await here.business({ leads: 1 }));
    const [attempt] = await claimed(here, other);
    await record(here, attempt, { kind: 'accepted', call_id: 'C1' });
    await record(here, attempt, { kind: 'call', call: liveCall('C2') });
    // The slow one's errands come first.
    await here.rows("UPDATE carillon.open_attempts SET hang_up = 'run', asked_us = 1 WHERE run_id = $1", [
      other.run_id,
    ]);
    const { promise: held, resolve: release } = Promise.withResolvers<void>();
    const hungUp: string[] = [];
    const context = contextOf(here, {
      find: async () => {
        await held;
        return { kind: 'error', cause: 'timeout' };
      },
      hangUp: async (_credentials, call_id) => {
        hungUp.push(call_id);
        return { kind: 'asked' };
      },
      fetchCall: async () => ({ kind: 'error', cause: 'timeout' }),
    });
    const state = createTendState();
    await tend(context, state);
    await until(() => hungUp.length === 2, { deadline_ms: 5_000, what: 'the call and the unwanted call hung up' });
    expect(hungUp.toSorted()).toEqual(['C1', 'C2']);
    // Nor is it asked more at once because the next round comes by.
    expect([...state.busy.keys()]).toContain(`${slow.business_id}/${slow.carrier_account_id}`);
    release();
    await Promise.all(state.busy.values());
    expect(state.busy.size).toBe(0);
  });
});

describe('a call that is to end', () => {
  it('is ordered to, again and again, until the carrier shows that it has', async () => {
    const { run_id, attempt } = await oneAttempt();
    await record(here, attempt, { kind: 'accepted', call_id: 'C1' });
    // A second one under the same token belongs to nobody.
    await record(here, attempt, { kind: 'call', call: liveCall('C2') });
    await here.rows("UPDATE carillon.open_attempts SET hang_up = 'run'");
    const ordered: string[] = [];
    let over = false;
    const context = contextOf(here, {
      hangUp: async (_credentials, call_id) => {
        ordered.push(call_id);
        if (over) return { kind: 'over' };
        return ordered.length > 2 ? { kind: 'asked' } : { kind: 'error', cause: 'http_500' };
      },
      fetchCall: async (_credentials, call_id) => ({
        kind: 'call',
        call: over ? { ...liveCall(call_id), phase: 'ended', outcome: 'cancelled' } : liveCall(call_id),
      }),
    });
    const state = createTendState();
    const each = ['C1', 'C2'];
    for (const rounds of [each, [...each, ...each], [...each, ...each, ...each]]) {
      over = rounds.length > 4;
      await round(context, state);
      expect(ordered.toSorted()).toEqual(rounds.toSorted());
    }
    await round(context, state);
    expect(ordered).toHaveLength(6);
    expect(await here.rows('SELECT call_id FROM carillon.unwanted_calls WHERE over_at IS NULL')).toEqual([]);
    expect(await jobStatus(here, run_id)).not.toBe('in_progress');
  });
});

describe('a call that nobody wants, of which its carrier', () => {
  it.each<[string, Partial<CarrierDriver>]>([
    ['says that it knows none', { hangUp: async () => ({ kind: 'error', cause: 'http_404_code_20404' }) }],
    ['says nothing', { hangUp: async () => ({ kind: 'error', cause: 'response_timeout' }) }],
  ])('%s is over once it can no longer be live, by both clocks', async (_, driver) => {
    const { attempt } = await oneAttempt();
    await record(here, attempt, { kind: 'accepted', call_id: 'C1' });
    await record(here, attempt, { kind: 'call', call: liveCall('C2') });
    const clock = handClock();
    const context = contextOf(
      here,
      { ...driver, fetchCall: async () => ({ kind: 'error', cause: 'http_500' }) },
      clock,
    );
    const [state, later] = [createTendState(), createTendState()];
    const over = async () =>
      (await here.rows('SELECT 1 FROM carillon.unwanted_calls WHERE over_at IS NOT NULL')).length;
    await round(context, state);
    clock.pass(86_400_000);
    await round(context, state);
    expect(await over()).toBe(0);
    await here.rows("UPDATE carillon.unwanted_calls SET seen_at = seen_at - interval '1 day'");
    await round(context, later);
    expect(await over()).toBe(0);
    await round(context, state);
    expect(await over()).toBe(1);
  });
});

describe('an unknown attempt', () => {
  it('finds its call though the database’s clock is some seconds ahead of the carrier’s', async () => {
    const { run_id, attempt } = await oneAttempt();
    await record(here, attempt, { kind: 'unknown', cause: 'reset' });
    await age(60);
    const [open] = await here.rows<{ intent_us: string }>('SELECT intent_us FROM carillon.open_attempts');
    // Created 0.3 s after the intent, by a clock that is 6.5 s behind; the list keeps whole seconds.
    const created_s = Math.floor((Number(open?.intent_us) / 1_000 + 300 - 6_500) / 1_000);
    const clock = handClock();
    const context = contextOf(
      here,
      {
        find: async (_credentials, { created_from_ms }) => ({
          kind: 'listed',
          calls: created_s < Math.floor(created_from_ms / 1_000) ? [] : [liveCall('C1', created_s)],
        }),
      },
      clock,
    );
    const state = createTendState();
    await round(context, state);
    clock.pass(100_000);
    await round(context, state);
    expect(await jobStatus(here, run_id)).toBe('in_progress');
    expect(await here.rows('SELECT call_id FROM carillon.open_attempts')).toEqual([{ call_id: 'C1' }]);
  });

  it('is absent only when its worker, by its own clock, may no longer dial it: the database’s may have jumped', async () => {
    await here.close();
    const limits = { ...everyRound, dial_deadline_ms: 60_000, reconcile_margin_ms: 5_000 };
    here = await createInstallation({ limits });
    const { run_id } = await oneAttempt();
    // As the row looks to a database whose clock has gone ahead by two minutes.
    await age(120);
    const clock = handClock();
    const context = contextOf(here, { find: async () => ({ kind: 'listed', calls: [] }) }, clock);
    const state = createTendState();
    await round(context, state); // dialing → unknown
    await round(context, state); // seen unknown for the first time
    const grace_ms = capabilities.effect_delay_ms + capabilities.listing_delay_ms + limits.reconcile_margin_ms;
    clock.pass(limits.dial_deadline_ms + grace_ms);
    await round(context, state);
    expect(await jobStatus(here, run_id)).toBe('in_progress');
    clock.pass(1);
    await round(context, state);
    expect(await jobStatus(here, run_id)).toBe('waiting');
  });

  it('that the database’s clock was set back behind is absent once its worker has waited by its own', async () => {
    const { run_id, attempt } = await oneAttempt();
    await record(here, attempt, { kind: 'unknown', cause: 'reset' });
    await age(-3_600);
    const clock = handClock();
    const context = contextOf(here, { find: async () => ({ kind: 'listed', calls: [] }) }, clock);
    const state = createTendState();
    await round(context, state);
    clock.pass(capabilities.effect_delay_ms + capabilities.listing_delay_ms + here.limits.reconcile_margin_ms);
    await round(context, state);
    expect(await jobStatus(here, run_id)).toBe('in_progress');
    clock.pass(2);
    await round(context, state);
    expect(await jobStatus(here, run_id)).toBe('waiting');
  });

  it('is not absent before its grace is over by the database’s clock too', async () => {
    const { run_id, attempt } = await oneAttempt();
    await record(here, attempt, { kind: 'unknown', cause: 'reset' });
    // By that clock it may be dialled for another minute.
    await here.rows('UPDATE carillon.open_attempts SET deadline_us = deadline_us + 60000000');
    const clock = handClock();
    const context = contextOf(here, { find: async () => ({ kind: 'listed', calls: [] }) }, clock);
    const state = createTendState();
    await round(context, state);
    clock.pass(86_400_000);
    await round(context, state);
    expect(await jobStatus(here, run_id)).toBe('in_progress');
    await age(86_400);
    await round(context, state);
    expect(await jobStatus(here, run_id)).toBe('waiting');
  });

  it.each<[string, Partial<CarrierDriver>]>([
    ['the carrier does not list its calls', { find: async () => ({ kind: 'error', cause: 'http_500' }) }],
    [
      'two calls of the list fit it',
      { find: async () => ({ kind: 'listed', calls: [liveCall('C1'), liveCall('C2')] }) },
    ],
    [
      'nobody says how late a request may take effect',
      {
        find: async () => ({ kind: 'listed', calls: [] }),
        capabilities: () => ({ ...capabilities, effect_delay_ms: null }),
      },
    ],
  ])('is never believed absent, nor found, where %s: a person decides once it can’t be live', async (_, driver) => {
    const { run_id, attempt } = await oneAttempt();
    await record(here, attempt, { kind: 'unknown', cause: 'reset' });
    const clock = handClock();
    const context = contextOf(here, driver, clock);
    const state = createTendState();
    await round(context, state);
    expect(await jobStatus(here, run_id)).toBe('in_progress');
    await age(86_400);
    clock.pass(86_400_000);
    await round(context, state);
    expect(await jobStatus(here, run_id)).toBe('needs_review');
    expect(await here.rows('SELECT outcome, call_id FROM carillon.attempts')).toEqual([
      { outcome: 'unknown', call_id: null },
    ]);
  });

  it('is settled beside very many, which are forgotten when nobody asks about them any more', async () => {
    const { run_id, attempt } = await oneAttempt();
    await record(here, attempt, { kind: 'unknown', cause: 'reset' });
    await age(60);
    const clock = handClock();
    const context = contextOf(here, { find: async () => ({ kind: 'listed', calls: [] }) }, clock);
    const state = createTendState();
    for (let n = 0; n < 3; n++) {
      await round(context, state);
      for (let other = 0; other < 10_005; other++) state.seen.since_ms(`another ${other}`, clock.monotonicMs());
      clock.pass(300);
    }
    await round(context, state);
    expect(await jobStatus(here, run_id)).toBe('waiting');
    for (let n = 0; n < 2; n++) {
      expect(state.seen.size).toBe(10_005);
      clock.pass(3_600_000);
      await tend(context, state);
    }
    expect(state.seen.size).toBe(0);
  });
});
