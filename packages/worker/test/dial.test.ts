import type { CarrierDriver } from '@carillon/contract';
import { systemClock } from '@carillon/engine';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { dial } from '../src/dial.ts';
import { createPacer } from '../src/pacer.ts';
import { createSignal } from '../src/waiting.ts';
import { createInstallation, type Installation } from './support/installation.ts';
import { claimed, contextOf, jobStatus, leased } from './support/tending.ts';

let here: Installation;
beforeEach(async () => (here = await createInstallation({ limits: { dial_deadline_ms: 60_000, gather_ms: 1 } })));
afterEach(async () => await here.close());

/** Dials one lead with a driver that throws before or after it asked for leave to send the body. */
async function dialWith(driver: 'throws before the gate' | 'throws behind the gate') {
  const mine = await leased(here, await here.business({ leads: 1 }));
  const [attempt] = await claimed(here, mine);
  let bodies = 0;
  const context = contextOf(here, {
    place: async (_request, gate) => {
      if (driver === 'throws before the gate') throw new TypeError('no URL');
      await gate.pace();
      if (gate.mayStart()) bodies++;
      throw new TypeError('reading the answer failed');
    },
  });
  await dial(context, createPacer(systemClock), createSignal(), attempt);
  return { run_id: mine.run_id, bodies };
}

describe('a driver that throws', () => {
  it('once the body may have gone leaves the attempt unknown: it is never sent again', async () => {
    const { run_id, bodies } = await dialWith('throws behind the gate');
    expect(bodies).toBe(1);
    expect(await here.rows('SELECT state FROM carillon.open_attempts')).toEqual([{ state: 'unknown' }]);
    expect(await jobStatus(here, run_id)).toBe('in_progress');
  });

  it('before that has certainly asked for nothing: the lead waits, and the lane pauses', async () => {
    const { run_id } = await dialWith('throws before the gate');
    expect(await here.rows('SELECT outcome FROM carillon.attempts')).toEqual([{ outcome: 'not_dialed' }]);
    expect(await jobStatus(here, run_id)).toBe('waiting');
    expect(await here.rows('SELECT refusals_in_a_row FROM carillon.lanes')).toEqual([{ refusals_in_a_row: 1 }]);
  });
});

describe('the gate in front of the body', () => {
  /** Dials with clocks that are so far ahead of those by which the attempt was claimed. */
  async function dialLater(ahead: { monotonic_ms: number; wall_ms: number }) {
    const mine = await leased(here, await here.business({ leads: 1 }));
    const [attempt] = await claimed(here, mine);
    const clock = {
      monotonicMs: () => systemClock.monotonicMs() + ahead.monotonic_ms,
      wallMs: () => systemClock.wallMs() + ahead.wall_ms,
    };
    const place: CarrierDriver['place'] = async (_request, gate) => {
      await gate.pace();
      return gate.mayStart() ? { kind: 'accepted', call_id: 'C1' } : { kind: 'not_dialed', cause: 'held' };
    };
    await dial(contextOf(here, { place }, clock), createPacer(clock), createSignal(), attempt);
  }

  const HOUR_MS = 3_600_000;

  it.each([
    ['monotonic', 'the wall clock was set back meanwhile', { monotonic_ms: HOUR_MS, wall_ms: -HOUR_MS }],
    ['wall', 'the monotonic one stood still in a suspended machine', { monotonic_ms: 0, wall_ms: HOUR_MS }],
  ])('is shut when the %s clock alone is past the deadline: %s', async (_, _why, ahead) => {
    await dialLater(ahead);
    expect(await here.rows('SELECT outcome, cause FROM carillon.attempts')).toEqual([
      { outcome: 'not_dialed', cause: 'the dial deadline is past' },
    ]);
  });

  it('is open while neither is', async () => {
    await dialLater({ monotonic_ms: 0, wall_ms: 0 });
    expect(await here.rows('SELECT state, call_id FROM carillon.open_attempts')).toEqual([
      { state: 'placed', call_id: 'C1' },
    ]);
  });
});
