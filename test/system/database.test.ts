import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../support/wait.ts';
import { createInstallation, type Installation } from './support/installation.ts';
import { attemptsOf, expectAudited, expectOneCallEach } from './support/judge.ts';
import { type OwnServer, startOwnServer } from './support/server.ts';

let server: OwnServer;
let here: Installation;
beforeAll(async () => {
  server = await startOwnServer();
  here = await createInstallation(server);
});
afterEach(async () => {
  await here.killWorkers();
  await expectAudited(here);
});
afterAll(async () => await here.close());

describe('a database that breaks under load', () => {
  it('is survived by workers and API: they go on by themselves, and nothing is doubled or lost', async () => {
    const tenant = await here.tenant({ leads: 700, lines: 40, calls_per_second: 50 });
    const workers = [await here.worker(), await here.worker()];
    const { run_id } = await here.start(tenant);

    await here.calls(tenant, 100);
    let cuts = 0;
    await until(
      async () => {
        await server.cutConnections();
        cuts += 1;
        return cuts === 15;
      },
      { deadline_ms: 20_000, every_ms: 100, what: 'all connections to be cut 15 times' },
    );
    const after = async (what: string, more: number) => {
      const { calls } = await here.totals(tenant);
      console.log(`${what} at ${calls} calls`);
      await here.calls(tenant, calls + more, 30_000);
    };
    await after('connections cut', 80);
    await server.crash();
    await after('the server crashed', 80);
    await server.restart();
    await after('the server was stopped and started', 80);

    const run = await here.ended(tenant, run_id);
    expect(run).toMatchObject({ status: 'completed', completed: 700, cursor_position: 700, needs_review: 0 });
    await expectOneCallEach(here, tenant);
    expect(await here.rows('SELECT 1 FROM carillon.open_attempts')).toEqual([]);
    const alive = await Promise.all([here.api, ...workers].map(({ ended }) => Promise.race([ended, 'alive'])));
    expect(alive).toEqual(['alive', 'alive', 'alive']);
    const attempts = await attemptsOf(here, run_id);
    const redialled = attempts.filter(({ attempt_no }) => attempt_no > 1).length;
    console.log(`${attempts.length} attempts for 700 calls, ${redialled} of them after one that was no call`);
  }, 120_000);
});
