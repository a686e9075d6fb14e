import { localActor, reconcileNow } from '@carillon/engine';
import { afterEach, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { createInstallation, type Installation } from './support/installation.ts';

let here: Installation;
afterEach(async () => await here.close());

it('reconciling now has a worker ask at once, where nobody would have asked for an hour', {
  timeout: 60_000,
}, async () => {
  // Every callback is lost here, so that nothing is known that is not asked for.
  here = await createInstallation({
    limits: { poll_after_ms: 3_600_000, reconcile_every_ms: 3_600_000 },
    behaviour: { default: { ring_ms: 20, talk_ms: 20, outcomes: { answered: 1 } } },
  });
  const tenant = await here.business({ leads: 3 });
  const run_id = await here.run(tenant);
  here.start();
  await until(() => here.sim.ledger().filter(({ status }) => status === 'completed').length === 3, {
    deadline_ms: 30_000,
    what: 'three calls to end at the carrier',
  });
  const placed = async () => {
    const rows = await here.rows("SELECT 1 FROM carillon.open_attempts WHERE state = 'placed'");
    return rows.length === 3;
  };
  await until(placed, { deadline_ms: 30_000, what: 'three calls of which nothing more is heard' });
  expect(await reconcileNow(here.db, tenant.business_id, { run_id, actor: localActor('test') })).toMatchObject({
    live: 3,
  });
  expect(await here.ended(tenant, run_id, 30_000)).toMatchObject({ status: 'completed', completed: 3 });
});
