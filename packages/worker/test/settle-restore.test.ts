import type { CarrierDriver, ListResult } from '@carillon/contract';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createSettleState, settleRestore } from '../src/restore.ts';
import { createInstallation, type Installation } from './support/installation.ts';
import { capabilities, contextOf, everyRound } from './support/tending.ts';

/** The carrier's list, by which an account is compared after a restore. */

let here: Installation;
beforeEach(async () => {
  here = await createInstallation({ limits: { ...everyRound, dial_deadline_ms: 60_000 } });
  await here.business({ leads: 1 });
});
afterEach(async () => await here.close());

/** A process that settles, with a clock that stands still until it is moved, and the pages that it asked for. */
function settler(pages: (page: string | null) => ListResult, driver: Partial<CarrierDriver> = {}) {
  let now_ms = 1_000;
  const asked: (string | null)[] = [];
  const list = async (_credentials: unknown, { page }: { page: string | null }) => {
    asked.push(page);
    return pages(page);
  };
  const context = contextOf(here, { name: 'fake', list, ...driver }, { monotonicMs: () => now_ms, wallMs: () => 0 });
  const state = createSettleState();
  return {
    asked,
    pass: (ms: number) => (now_ms += ms),
    settle: async (restores: number) => await settleRestore(context, state, { restores }),
  };
}

const graceMs = () =>
  here.limits.dial_deadline_ms +
  capabilities.effect_delay_ms +
  capabilities.listing_delay_ms +
  here.limits.reconcile_margin_ms;

const lane = async () => (await here.rows('SELECT restores_settled, restore_problem FROM carillon.lanes'))[0];

const NOTHING: ListResult = { kind: 'page', calls: [], next: null };

describe('the list of an account after a restore', () => {
  it('is asked for only when what was under way must be in it, after each restore anew', async () => {
    const { asked, pass, settle } = settler(() => NOTHING);
    await settle(1);
    pass(graceMs() - 1);
    await settle(1);
    expect(asked).toEqual([]);
    pass(1);
    await settle(1);
    expect(asked).toEqual([null]);
    expect(await lane()).toEqual({ restores_settled: 1, restore_problem: null });
    await settle(1);
    expect(asked).toEqual([null]);
    await settle(2);
    expect(asked).toEqual([null]);
    pass(graceMs());
    await settle(2);
    expect(await lane()).toEqual({ restores_settled: 2, restore_problem: null });
  });

  it('is asked for after the effect delay that is assumed, where the carrier bounds none', async () => {
    const driver = { capabilities: () => ({ ...capabilities, effect_delay_ms: null }) };
    const { asked, pass, settle } = settler(() => NOTHING, driver);
    await settle(1);
    pass(graceMs() - capabilities.effect_delay_ms + here.limits.carrier_effect_delay_ms - 1);
    await settle(1);
    expect(asked).toEqual([]);
    pass(1);
    await settle(1);
    expect(asked).toEqual([null]);
  });

  it('is read to its last page', async () => {
    const { asked, pass, settle } = settler((page) => ({ ...NOTHING, next: page === null ? 'second' : null }));
    await settle(1);
    pass(graceMs());
    await settle(1);
    expect(asked).toEqual([null, 'second']);
  });

  it('that can not be read settles nothing, and says why', async () => {
    const { pass, settle } = settler(() => ({ kind: 'error', cause: 'http_500' }));
    await settle(1);
    pass(graceMs());
    await settle(1);
    expect(await lane()).toEqual({
      restores_settled: 0,
      restore_problem: 'the carrier did not list its calls: http_500',
    });
  });
});
