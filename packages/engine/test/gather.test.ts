import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createGatherer } from '../src/call/gather.ts';
import {
  actor,
  claimAll,
  createFixture,
  createTenant,
  ended,
  type Fixture,
  lease,
  startRun,
} from './support/fixture.ts';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture({ gather_ms: 1 });
});
afterAll(async () => await fixture.close());

describe('gathered evidence', () => {
  it('that can’t be stored is given back to whoever brought it, and does not hold up the rest of its batch', async () => {
    const tenant = await createTenant(fixture, { leads: 3, lines: 3 });
    const run_id = await startRun(fixture, tenant);
    const [first, broken, last] = await claimAll(fixture, await lease(fixture, tenant, run_id), 3);
    if (!first || !broken || !last) throw new Error('three are wanted');
    const woken: number[] = [];
    const waker = { wake: (business_id: number) => void woken.push(business_id), async close() {} };
    const errors: unknown[] = [];
    const gatherer = createGatherer(fixture.db, waker, fixture.limits, (error) => errors.push(error));
    const recorded = await Promise.allSettled([
      gatherer.record({ key: first, evidence: ended('C1', 'completed'), actor }),
      gatherer.record({ key: broken, evidence: ended('no text\0', 'completed'), actor }),
      gatherer.record({ key: last, evidence: ended('C3', 'completed'), actor }),
    ]);
    expect(recorded).toMatchObject([
      { status: 'fulfilled', value: 'applied' },
      // Not 25P02, which the statements behind it get: that one looks like a database to be waited for.
      { status: 'rejected', reason: { code: '22021' } },
      { status: 'fulfilled', value: 'applied' },
    ]);
    await gatherer.drained();
    // Once for the batch, once for the item alone: never again.
    expect(errors).toHaveLength(2);
    expect(woken).toContain(tenant.business_id);
  });
});
