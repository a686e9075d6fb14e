import { type BusinessId, LeadId } from '@carillon/contract';
import { eraseLead, importLeads, localActor, updateLead } from '@carillon/engine';
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

const person = localActor('a person');

/** What a person may do after which a number is another lead's. */
const MOVES: [string, (business_id: BusinessId, lead_id: LeadId) => Promise<unknown>][] = [
  [
    'was erased and entered again',
    (business_id, lead_id) => eraseLead(here.db, business_id, lead_id, { actor: person, limits: here.limits }),
  ],
  [
    'is another lead’s since an edit',
    (business_id, lead_id) => updateLead(here.db, business_id, lead_id, { phone: '+972541230000' }, person),
  ],
];

async function* listOf(phone: string) {
  yield Buffer.from(`phone\n${phone}`);
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
    const [open] = await here.rows<{ made_s: number }>(
      'SELECT (intent_us / 1000000)::int AS made_s FROM carillon.open_attempts',
    );
    const context = contextOf(here, {
      // Late on its way, and made when the newer one's could be.
      find: async () => ({ kind: 'listed', calls: [liveCall('C-old', open?.made_s)] }),
      hangUp: async () => ({ kind: 'asked' }),
    });
    await round(context, createTendState());
    expect(await here.rows('SELECT attempt_no, state, call_id FROM carillon.open_attempts')).toEqual([
      { attempt_no: 2, state: 'unknown', call_id: null },
    ]);
  });

  it.each(MOVES)('a call that was to the same number, which %s, is not taken for this one’s', async (_, move) => {
    const tenant = await here.business({ leads: 1 });
    const [first] = await claimed(here, await leased(here, tenant));
    await record(here, first, { kind: 'call', call: { ...liveCall('C-old'), phase: 'ended', outcome: 'busy' } });
    const [lead] = await here.rows<{ lead_id: string }>('SELECT lead_id FROM carillon.leads');
    await move(tenant.business_id, LeadId.parse(Number(lead?.lead_id)));
    await importLeads(here.db, tenant.business_id, tenant.list_id, listOf(first.to), { actor: person });
    const attempts = await claimed(here, await leased(here, tenant));
    const again = attempts.find(({ to }) => to === first.to);
    if (!again) throw new Error('the number was not called again');
    await record(here, again, { kind: 'unknown', cause: 'reset' });
    await here.rows('DELETE FROM carillon.open_attempts WHERE to_number <> $1', [first.to]);
    const clock = handClock();
    const context = contextOf(here, { find: async () => ({ kind: 'listed', calls: [liveCall('C-old')] }) }, clock);
    const state = createTendState();
    await round(context, state);
    await age(100);
    clock.pass(100_000);
    await round(context, state);
    // Nothing else is in the list, which is whole by now: no call was made.
    expect(await here.rows("SELECT call_id FROM carillon.attempts WHERE outcome = 'absent'")).toEqual([
      { call_id: null },
    ]);
  });

  it.each([
    ['older than its intent', -3_600],
    ['younger than its request may take effect', 60],
    ['of which the carrier does not say when it was made', null],
  ])('a call %s is not taken for its own before the list must show that one too', async (_, after_s) => {
    const { mine } = await unknownAttempt();
    const [open] = await here.rows<{ made_s: number }>(
      'SELECT (intent_us / 1000000)::int AS made_s FROM carillon.open_attempts',
    );
    const made_s = open?.made_s ?? NaN;
    const calls = [liveCall('C-other', after_s === null ? null : made_s + after_s)];
    const clock = handClock();
    const context = contextOf(here, { find: async () => ({ kind: 'listed', calls: [...calls] }) }, clock);
    const [state, later] = [createTendState(), createTendState()];
    const found = async () => (await here.rows('SELECT call_id FROM carillon.open_attempts'))[0]?.call_id;
    await round(context, state);
    // By one clock it must, by the other it need not yet.
    clock.pass(86_400_000);
    await round(context, state);
    await age(86_400);
    await round(context, later);
    expect(await found()).toBeNull();
    // Nobody can say which of two it is.
    calls.push(liveCall('C-own', made_s));
    await round(context, state);
    expect(await jobStatus(here, mine.run_id)).toBe('needs_review');
  });

  it('is found at once where its call was made when it could be, and later where the clocks do not agree', async () => {
    for (const [made_s, at_once] of [
      [0, true],
      [-3_600, false],
    ] as const) {
      const { mine } = await unknownAttempt();
      // The carrier tells whole seconds.
      const [open] = await here.rows<{ intent_s: number }>(
        `UPDATE carillon.open_attempts SET intent_us = intent_us / 1000000 * 1000000 + 900000 WHERE run_id = $1
         RETURNING (intent_us / 1000000)::int AS intent_s`,
        [mine.run_id],
      );
      const call = liveCall(`C${mine.run_id}`, (open?.intent_s ?? NaN) + made_s);
      const clock = handClock();
      const context = contextOf(
        here,
        {
          find: async () => ({ kind: 'listed', calls: [call] }),
          fetchCall: async () => ({ kind: 'call', call }),
        },
        clock,
      );
      const state = createTendState();
      const found = async () =>
        await here.rows('SELECT call_id FROM carillon.open_attempts WHERE run_id = $1', [mine.run_id]);
      await round(context, state);
      expect(await found()).toEqual([{ call_id: at_once ? call.call_id : null }]);
      await age(100);
      clock.pass(100_000);
      await round(context, state);
      expect(await found()).toEqual([{ call_id: call.call_id }]);
    }
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
    // By the database's clock it is over. A process that has only just heard of it waits for its own, as long.
    await age(86_400);
    await round(context, later);
    clock.pass(100_000);
    await round(context, later);
    expect(await jobStatus(here, mine.run_id)).toBe('in_progress');
    await round(context, state);
    expect(await jobStatus(here, mine.run_id)).toBe('needs_review');
  });

  it('is asked about for one more grace where, when it can no longer be live, its carrier does not answer', async () => {
    const { mine } = await unknownAttempt();
    const clock = handClock();
    const failed = { kind: 'error', cause: 'timeout' } as const;
    const listed = { kind: 'listed' as const, calls: [liveCall('C1'), liveCall('C2')] };
    const answers = [failed, listed];
    const context = contextOf(here, { find: async () => answers.shift() ?? failed }, clock);
    const state = createTendState();
    await round(context, state);
    await round(context, state);
    await age(86_400);
    clock.pass(86_400_000);
    // What failed a day ago was answered since.
    await round(context, state);
    expect(await jobStatus(here, mine.run_id)).toBe('in_progress');
    clock.pass(100_000);
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
    // Accepted long ago, and answered only now.
    await round(context, state);
    expect(await jobStatus(here, mine.run_id)).toBe('in_progress');
    await here.rows('UPDATE carillon.open_attempts SET heard_us = heard_us - 86400000000::bigint');
    // What was heard begins the waiting anew, by the worker's own clock too.
    await round(context, state);
    expect(await jobStatus(here, mine.run_id)).toBe('in_progress');
    clock.pass(601_400);
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

describe('a call that the carrier shows live for ever', () => {
  it('is hung up long after its longest, and then left to a person, by the worker’s own clock', async () => {
    const mine = await leased(here, await here.business({ leads: 1 }));
    const [attempt] = await claimed(here, mine);
    await record(here, attempt, { kind: 'accepted', call_id: 'C1' });
    const clock = handClock();
    let ordered = 0;
    const context = contextOf(
      here,
      {
        fetchCall: async () => ({ kind: 'call', call: liveCall('C1') }),
        hangUp: async () => {
          ordered++;
          return { kind: 'asked' };
        },
      },
      clock,
    );
    const state = createTendState();
    const afterLongest = async (times: number) => {
      clock.pass(times * 601_400);
      await round(context, state);
      return { ordered, status: await jobStatus(here, mine.run_id) };
    };
    for (let n = 0; n < 2; n++) expect(await afterLongest(10)).toEqual({ ordered: 0, status: 'in_progress' });
    // The database's clock says so first, and may have jumped.
    await here.rows('UPDATE carillon.open_attempts SET placed_us = placed_us - 86400000000::bigint');
    expect(await afterLongest(0)).toEqual({ ordered: 0, status: 'in_progress' });
    expect(await afterLongest(1.9)).toEqual({ ordered: 0, status: 'in_progress' });
    expect(await afterLongest(0.2)).toEqual({ ordered: 1, status: 'in_progress' });
    expect(await afterLongest(2.8)).toEqual({ ordered: 2, status: 'in_progress' });
    expect(await afterLongest(0.2)).toEqual({ ordered: 3, status: 'needs_review' });
  });
});
