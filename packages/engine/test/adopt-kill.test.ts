import path from 'node:path';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { type Child, startChild } from '../../../test/support/child.ts';
import type { TestDatabase } from '../../../test/support/database.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { until } from '../../../test/support/wait.ts';
import { adopt } from '../src/adopt/adopt.ts';
import type { AdoptReport } from '../src/adopt/report.ts';
import type { ChildOrder } from './adopt-child.ts';
import { adoptActor, adoptOptions, comparableDump } from './support/adoption.ts';
import { createFixture, type Fixture } from './support/fixture.ts';
import { createOldDatabase, crowdedInstallation } from '../../../test/support/old-database.ts';

const CHILD = path.join(import.meta.dirname, 'adopt-child.ts');
const limits = { adopt_batch_rows: 250, adopt_copy_rows: 40 };

let old: TestDatabase;
let whole: { report: AdoptReport; dump: Record<string, string[]> };
beforeAll(async () => {
  old = await createOldDatabase(crowdedInstallation({ jobs: 2_000, runs: 8 }));
  const fixture = await createFixture();
  const report = await adopt(fixture.db, adoptOptions(fixture, old));
  whole = { report, dump: await comparableDump(fixture) };
  await fixture.close();
}, 120_000);
afterAll(() => old.drop());

async function fresh(): Promise<Fixture> {
  const fixture = await createFixture();
  onTestFinished(() => fixture.close());
  return fixture;
}

function start(fixture: Fixture): Child {
  const child = startChild(CHILD);
  onTestFinished(() => child.kill());
  const order: ChildOrder = {
    from: old.ownerUrl,
    app_url: fixture.appUrl,
    discovery_url: fixture.discoveryUrl,
    actor: adoptActor,
    limits,
  };
  child.send(order);
  return child;
}

/** Adopts in one go what is left, and holds it to an adoption that was never disturbed. */
async function expectSameInTheEnd(fixture: Fixture): Promise<void> {
  const rehearsed = await adopt(fixture.db, adoptOptions(fixture, old, { limits, dry_run: true }));
  const report = await adopt(fixture.db, adoptOptions(fixture, old, { limits }));
  expect(report).toEqual({ ...whole.report, nothing_new: report.nothing_new });
  // What was begun is rehearsed to its end.
  expect(rehearsed).toEqual({ ...report, dry_run: true, nothing_new: false, businesses: expect.anything() });
  expect(await comparableDump(fixture)).toEqual(whole.dump);
}

it('is the same in small batches as in one', async () => {
  const fixture = await fresh();
  await expectSameInTheEnd(fixture);
}, 120_000);

it('killed again and again while it runs, and begun again each time, gives the same as undisturbed', async () => {
  const fixture = await fresh();
  let kills = 0;
  const seen = new Set<string>();
  for (let ended = false; !ended; ) {
    const child = start(fixture);
    // Further each time: a step that is not reached any more ends it.
    for (let step = 0; ; step++) {
      const said = await child.next<{ at?: number; doing?: string; done?: number | object; failed?: string }>();
      expect(said.failed).toBeUndefined();
      ended = said.at === undefined;
      if (ended) break;
      seen.add(`${said.doing} ${JSON.stringify(said.done)}`);
      if (step === 2 + (kills % 3)) break;
    }
    if (!ended) kills++;
    await child.kill('SIGKILL');
    expect(kills).toBeLessThan(60);
  }
  expect(kills).toBeGreaterThan(3);
  await expectSameInTheEnd(fixture);
}, 300_000);

/** A table into which nobody can write stops a child inside the transaction that does. */
async function stoppedAt(fixture: Fixture, table: string, work: (child: Child) => Promise<void>) {
  await withClient(fixture.superuserUrl, async (client) => {
    await client.query(`BEGIN; LOCK TABLE carillon.${table} IN SHARE MODE`);
    const child = start(fixture);
    const waiting = () =>
      fixture.rows(
        `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
           AND query ~ ('INSERT INTO carillon.' || $1 || '\\M')`,
        [table],
      );
    await until(async () => (await waiting()).length > 0, {
      deadline_ms: 60_000,
      what: `the child waits to write into ${table}`,
    });
    await work(child);
    await client.query('ROLLBACK');
  });
}

it.each(['adopted_runs', 'adopted_rows', 'adopted_jobs', 'lanes', 'outbound_call_jobs'])(
  'killed inside the transaction that writes %s, and begun again, gives the same as undisturbed',
  async (table) => {
    const fixture = await fresh();
    await stoppedAt(fixture, table, async (child) => {
      await child.kill('SIGKILL');
      expect(await child.ended).toBe('SIGKILL');
    });
    await expectSameInTheEnd(fixture);
  },
  120_000,
);

it('is refused while another one is under way, and stands in nobody’s way in the old database', async () => {
  const fixture = await fresh();
  const busy = await createOldDatabase(crowdedInstallation({ jobs: 100, runs: 4 }));
  onTestFinished(() => busy.drop());
  await stoppedAt(fixture, 'adopted_rows', async (child) => {
    // Also from another installation.
    for (const from of [old, busy])
      await expect(adopt(fixture.db, adoptOptions(fixture, from))).rejects.toMatchObject({
        code: 'adopt_in_progress',
        message: expect.stringContaining('under way'),
      });
    await withClient(old.ownerUrl, async (client) => {
      await client.query("SET lock_timeout = '1s'; BEGIN");
      for (const write of [
        "INSERT INTO outbound_call_jobs (run_id, lead_id, status) VALUES (1, 1, 'queued')",
        "UPDATE outbound_call_jobs SET status = 'completed'",
        'DELETE FROM outbound_call_jobs WHERE id % 2 = 0',
        "UPDATE outbound_call_runs SET status = 'running'",
      ])
        expect((await client.query(write)).rowCount).toBeGreaterThan(0);
      const { rows } = await client.query(
        `SELECT DISTINCT mode FROM pg_locks l JOIN pg_stat_activity a USING (pid)
         WHERE a.application_name = 'carillon adopt' AND l.locktype = 'relation'`,
      );
      expect(rows).toEqual([{ mode: 'AccessShareLock' }]);
      await client.query('ROLLBACK');
    });
    await child.kill('SIGKILL');
  });
  await expectSameInTheEnd(fixture);
}, 120_000);

it('does nothing twice where the lock is lost: each batch checks where the adoption stands', async () => {
  const fixture = await fresh();
  let second: Promise<unknown> | undefined;
  let first: Promise<unknown> | undefined;
  await stoppedAt(fixture, 'adopted_rows', async (child) => {
    await fixture.rows(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'carillon adopt lock' AND datname = $1",
      [fixture.name],
    );
    second = adopt(fixture.db, adoptOptions(fixture, old, { limits })).catch((error: unknown) => error);
    await until(
      async () => {
        const [row] = await fixture.rows<{ waiting: number }>(
          `SELECT count(*)::int AS waiting FROM pg_stat_activity
           WHERE datname = current_database() AND wait_event_type = 'Lock'`,
        );
        return row?.waiting === 2;
      },
      { deadline_ms: 60_000, what: 'both wait' },
    );
    first = endOf(child);
  });
  expect(await second).toMatchObject({
    code: 'adopt_in_progress',
    message: expect.stringMatching(/gone on meanwhile/),
  });
  expect(await first).toMatchObject({ done: { ok: true } });
  await expectSameInTheEnd(fixture);
}, 120_000);

async function endOf(child: Child): Promise<{ at?: number; done?: object; failed?: string }> {
  for (;;) {
    const said = await child.next<{ at?: number; done?: object; failed?: string }>();
    if (said.at === undefined) return said;
  }
}

it('stops where it is told to, and goes on later', async () => {
  const fixture = await fresh();
  const stop = new AbortController();
  const stopped = adopt(fixture.db, {
    ...adoptOptions(fixture, old, { limits }),
    stop: stop.signal,
    onProgress: ({ doing }) => void (doing === 'jobs' && stop.abort()),
  });
  await expect(stopped).rejects.toMatchObject({ code: 'adopt_stopped' });
  const [begun] = await fixture.rows<{ jobs: number }>('SELECT count(*)::int AS jobs FROM carillon.adopted_jobs');
  expect(begun?.jobs).toBeGreaterThan(0);
  await expectSameInTheEnd(fixture);
}, 120_000);
