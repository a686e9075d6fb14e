import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../support/wait.ts';
import { createInstallation, type Installation, type Tenant } from './support/installation.ts';
import { expectAudited, expectOneCallEach } from './support/judge.ts';
import { type Going, type Outage, takeAway } from './support/outage.ts';
import {
  type Asked,
  follow,
  interrupting,
  LEADS_UPLOADED,
  type People,
  reading,
  startPeople,
  steering,
  uploading,
} from './support/people.ts';
import { startCarillon } from './support/processes.ts';
import { type OwnServer, startOwnServer } from './support/server.ts';

/** A server of its own, and four processes, on a machine that has other things to do. */
const START_MS = 180_000;
let server: OwnServer;
let here: Installation;
beforeAll(async () => {
  server = await startOwnServer();
  here = await createInstallation(server);
}, START_MS);
afterEach(async () => {
  await here.killWorkers();
  await expectAudited(here);
}, START_MS);
afterAll(async () => await here.close(), START_MS);

const OUTAGES: readonly [Going, number][] = [
  ['restart', 1_000],
  ['crash', 2_000],
  ['restart', 3_000],
  ['crash', 1_000],
];

/** Answers that nobody should get. */
const wrong = (asked: readonly Asked[]) => asked.filter(({ status }) => status !== 200 && status !== 201);

function tellWaits(asked: readonly Asked[]): number {
  for (const [what, all] of Map.groupBy(asked, (one) => one.what)) {
    const longest_ms = Math.max(...all.map(({ waited_ms }) => waited_ms));
    console.log(`${what}: ${all.length} times, the longest wait ${Math.round(longest_ms)} ms`);
  }
  return Math.max(...asked.map(({ waited_ms }) => waited_ms));
}

/** How long after the database was there again the next call began, by the carrier's clock. */
async function nextCallAfter(tenant: Tenant, { back_us }: Outage): Promise<number> {
  const next = async () => (await here.ledger(tenant)).find(({ created_us }) => created_us > back_us);
  const { created_us } = await until(next, { deadline_ms: 60_000, what: 'a call after the outage' });
  return (created_us - back_us) / 1_000;
}

async function leadsOf(tenant: Tenant): Promise<number[]> {
  const page = await here.ask<{ items: { lead_id: number }[] }>(
    tenant.key,
    'GET',
    `/api/lists/${tenant.list_id}/leads`,
  );
  return page.items.map(({ lead_id }) => lead_id);
}

/** What people were told is so, and nothing was done twice. */
async function expectTrue(office: Tenant, steered: ReturnType<typeof steering>, lists: ReadonlyMap<number, number>) {
  const runs = await here.rows<{ run_id: number; idempotency_key: string; status: string; created: number }>(
    `SELECT run_id, idempotency_key, status,
            (SELECT count(*) FROM carillon.audit_events e WHERE e.business_id = r.business_id
              AND e.action = 'run.created' AND e.subject_id = r.run_id::text) AS created
     FROM carillon.outbound_call_runs r WHERE business_id = $1`,
    [office.business_id],
  );
  expect(new Map(runs.map(({ run_id, idempotency_key }) => [run_id, idempotency_key]))).toEqual(steered.starts);
  expect(new Map(runs.map(({ run_id, status }) => [run_id, status]))).toEqual(steered.told);
  expect(runs.filter(({ created }) => created !== 1)).toEqual([]);
  const members = await here.rows<{ list_id: number; leads: number }>(
    'SELECT list_id, leads FROM carillon.lists WHERE business_id = $1 AND list_id = ANY ($2)',
    [office.business_id, [...lists.keys()]],
  );
  expect(new Map(members.map(({ list_id, leads }) => [list_id, leads]))).toEqual(lists);
  expect([...lists.values()].filter((leads) => leads !== LEADS_UPLOADED)).toEqual([]);
  const made = await here.rows<{ name: string }>(
    "SELECT name FROM carillon.lists WHERE business_id = $1 AND name LIKE 'List %' GROUP BY 1 HAVING count(*) > 1",
    [office.business_id],
  );
  expect(made).toEqual([]);
  console.log(`${runs.length} runs were started, paused, resumed and stopped; ${lists.size} lists were uploaded`);
}

describe('PostgreSQL that is restarted, and that crashes, under load', () => {
  it('costs people a short wait and no error; workers and live pages go on by themselves', async () => {
    const tenant = await here.tenant({ leads: 2_400, lines: 60, calls_per_second: 60 });
    const office = await here.tenant({ leads: 3, lines: 1, calls_per_second: 1 });
    const workers = [await here.worker(), await here.worker()];
    const { run_id } = await here.start(tenant);
    const page = follow(here.apiUrl, tenant.key, run_id);
    const steered = steering(await leadsOf(office));
    const uploads = uploading();
    const everybody: People[] = [
      startPeople(here.apiUrl, tenant.key, [...reading(run_id), interrupting(run_id)]),
      startPeople(here.apiUrl, office.key, [steered.habit, steered.habit, uploads.habit]),
    ];
    const outages: Outage[] = [];
    for (const [how, away_ms] of OUTAGES) {
      const { calls } = await here.totals(tenant);
      await here.calls(tenant, calls + 60, 60_000);
      const outage = await takeAway(server, how, away_ms);
      outages.push(outage);
      const told = page.told.length;
      const next_ms = await nextCallAfter(tenant, outage);
      await until(() => page.told.length > told + 1, { deadline_ms: 60_000, what: 'the live page to go on' });
      const lasted = `${how}: away for ${Math.round(outage.lasted_ms)} ms`;
      console.log(`${lasted}; the next call began ${Math.round(next_ms)} ms after it was back`);
    }
    await Promise.all(everybody.map((people) => people.stop()));
    // All of it was under load.
    expect((await here.run(tenant, run_id)).ended_at).toBeNull();

    const asked = everybody.flatMap((people) => people.asked);
    expect(wrong(asked)).toEqual([]);
    const longest_ms = tellWaits(asked);
    const outage_ms = Math.max(...outages.map(({ lasted_ms }) => lasted_ms));
    expect(longest_ms).toBeGreaterThan(900);
    expect(longest_ms).toBeLessThan(outage_ms + 20_000);
    await expectTrue(office, steered, uploads.lists);

    expect(await here.ended(tenant, run_id, 120_000)).toMatchObject({ status: 'completed', completed: 2_400 });
    await until(page.ended, { deadline_ms: 30_000, what: 'the end of the live page' });
    expect({ broken: page.broken(), last: page.told.at(-1)?.status }).toEqual({ broken: null, last: 'completed' });
    await expectOneCallEach(here, tenant);
    const alive = await Promise.all([here.api, ...workers].map(({ ended }) => Promise.race([ended, 'alive'])));
    expect(alive).toEqual(['alive', 'alive', 'alive']);
  }, 300_000);

  it('keeps no API from ending while it is away: who waits is told, and comes again elsewhere', async () => {
    const tenant = await here.tenant({ leads: 1, lines: 1, calls_per_second: 1 });
    const api = startCarillon(['api', '--port', '0'], here.env);
    const [, url = ''] = await api.says(/listens at (\S+)/, 60_000);
    await server.stopped(async () => {
      const waiting = fetch(`${url}/api/lists`, { headers: { authorization: `Bearer ${tenant.key}` } });
      let over = false;
      waiting.finally(() => (over = true)).catch(() => {});
      await expect(until(() => over, { deadline_ms: 1_000, what: 'an answer' })).rejects.toThrow('an answer');
      const since_ms = performance.now();
      expect(await api.stop(12_000)).toBe(0);
      console.log(`an API with a request that waited ended in ${Math.round(performance.now() - since_ms)} ms`);
      expect((await waiting).status).toBe(503);
    });
  }, 180_000);
});
