import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Run } from '@carillon/contract';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type Client, createClient } from '../chaos/client.ts';
import { type Post, watchEnd } from '../chaos/installation.ts';
import { LIMITS } from '../chaos/limits.ts';
import { FAULT_KINDS } from '../chaos/plan.ts';
import type { Running } from '../chaos/processes.ts';
import { createRandom } from '../chaos/random.ts';
import { drawUp, type Figures, inWords } from '../chaos/report.ts';
import { describeVersion, ROOT } from '../chaos/version.ts';
import { createWorkload } from '../chaos/workload.ts';
import { CALM, healthy } from './support/chaos-books.ts';

describe('what the trial notes', () => {
  it('has processes that ended while they should have been at work, and no others', async () => {
    const post = (name: string): Post => ({
      name,
      kind: 'worker',
      process: null,
      stopped: false,
      identity: 'a',
      metrics_url: '',
    });
    const running = { ended: Promise.resolve('SIGSEGV' as const) } as Partial<Running> as Running;
    const unplanned: string[] = [];
    const [own, emptied] = [{ ...post('worker-1'), process: running }, post('worker-2')];
    for (const one of [own, emptied]) watchEnd(one, running, unplanned);
    await running.ended;
    expect(unplanned).toEqual(['worker-1 (a) ended by itself with SIGSEGV']);
    expect(own.process).toBeNull();
  });

  it('has answers that are neither success nor a conflict of states, and counters that do not add up', async () => {
    const { businesses } = healthy();
    const now = '2026-01-01T00:00:00.000Z';
    const run = Run.parse({
      run_id: 1,
      name: 'one',
      status: 'paused',
      total_leads: 2,
      queued: 0,
      waiting: 1,
      in_progress: 0,
      completed: 1,
      failed: 0,
      cancelled: 0,
      skipped: 0,
      needs_review: 0,
      cursor_position: 1,
      concurrency: 2,
      list_id: 1,
      from_run_id: null,
      carrier_account_id: 1,
      last_error: null,
      waiting_reason: null,
      created_at: now,
      created_by_user_id: null,
      created_by: 'key:1',
      starts_at: null,
      ends_at: null,
      started_at: null,
      updated_at: now,
      ended_at: null,
      cancel_requested: false,
      can_cancel: true,
      locked_by_worker: null,
      lock_ts: null,
      reclaim_count: 0,
    });
    /** Starts and looks once; a conflict answers whoever resumes. */
    const wrongOf = async (started: [number, object], read: [number, object]) => {
      const answers: Record<string, [number, object]> = { start: started, resume: [409, {}], 1: read };
      const client = {
        ask: async (_key: string, _method: string, asked: string) => {
          const [status, body] = answers[asked.split('/').at(-1) ?? ''] ?? [404, {}];
          return { status, body, sent_us: 1, answered_us: 2, silent: false };
        },
      } as Partial<Client> as Client;
      const workload = createWorkload(client, businesses, createRandom(1));
      await workload.work(AbortSignal.abort());
      await workload.letGoOn();
      return workload.wrong;
    };
    expect(await wrongOf([201, run], [200, run])).toEqual([]);
    expect(await wrongOf([422, { code: 'x' }], [200, run])).toEqual(['start: HTTP 422 {"code":"x"}']);
    expect(await wrongOf([201, { ...run, total_leads: 3 }], [200, run])).toEqual(['run 1 has 3 leads of 2']);
    expect(await wrongOf([201, run], [404, {}])).toEqual(['read: HTTP 404 {}']);
    expect(await wrongOf([201, run], [200, { ...run, completed: 0 }])).toEqual(['the counters of run 1 add up to 1']);
  });
});

const CHECKED = { businesses: 1, runs: 1, jobs: 2, attempts: 2, events: 3, ledger_calls: 2, carrier_numbers: 0 };
const PLAIN: Figures = {
  version: null,
  seed: 1,
  minutes: 1,
  patience: 1,
  injected: new Map(),
  rest: { took_ms: 1, within_ms: 2 },
  client: { requests: 1, silent: 0, put_off: { database_unavailable: 2, outcome_unknown: 1 }, longest_wait_ms: 1 },
  transactions: { retried: 0, deadlocks: 0 },
  audited: CHECKED,
};

describe('the client', () => {
  it('counts by its code what it was answered while it could not be done', async () => {
    const answers: [number, string][] = [
      [503, '{"error":"Busy","code":"database_unavailable"}'],
      [503, '{"error":"Busy","code":"database_unavailable"}'],
      [502, 'Bad Gateway'],
      [200, '{"fine":true}'],
    ];
    const server = createServer((_, response) => {
      const [status, body] = answers.shift() ?? [500, ''];
      response.writeHead(status).end(body);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    const { ask, totals } = createClient(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    expect(await ask('key', 'GET', '/')).toMatchObject({ status: 200, body: { fine: true }, silent: true });
    expect(totals).toMatchObject({ requests: 4, silent: 0, put_off: { database_unavailable: 2, 'HTTP 502': 1 } });
  });
});

describe('the report', () => {
  it('has each figure, also where there is nothing to count', () => {
    const report = drawUp(healthy(), CALM, PLAIN);
    expect(report).toMatchObject({
      ok: true,
      version: null,
      leads: 2,
      calls: 2,
      doubles: 0,
      losses: 0,
      limits_exceeded: 0,
      overlaps: 0,
      disobeyed: 0,
      reviews: { total: 0, by_policy: 0 },
      rest: { took_ms: 1 },
      recovery: { orphaned: 0, take_overs: 0, undisturbed: 0, longest_ms: 0, longest_undisturbed_ms: 0 },
    });
    expect(report.faults_by_kind).toEqual(Object.fromEntries(FAULT_KINDS.map((kind) => [kind, 0])));
    const words = inWords(report);
    for (const said of [
      '0  a worker killed with SIGKILL',
      '0 leads called twice, 0 lost, 0 numbers on the line twice',
      'limits exceeded: 0',
      'disobeyed: 0, of 0 stops',
      '0 reviews (none); 0 more because the policy asks',
      '0 times a run lost its worker, 0 times another took it, 0 of them with nothing in its way',
      'at rest 1 ms after the last fault',
      '1 API requests, answered with 5xx: 2 database_unavailable, 1 outcome_unknown, not answered: 0',
    ])
      expect(words).toContain(said);
  });

  it('tells take-overs apart by whether anything stood in the way', () => {
    const wait = (taken_over: boolean, undisturbed: boolean, whole_ms: number, undisturbed_ms = whole_ms) => ({
      run_id: 1,
      worker_id: 'a',
      taken_over,
      undisturbed,
      whole_ms,
      undisturbed_ms,
    });
    const recoveries = [wait(true, true, 3_000), wait(true, false, 9_000, 3_500), wait(false, true, 4_000)];
    const { ok, recovery } = drawUp(healthy(), { ...CALM, recoveries }, { ...PLAIN, version: '1a2b3c4-dirty' });
    expect(ok).toBe(true);
    expect(recovery).toEqual({
      orphaned: 3,
      take_overs: 2,
      undisturbed: 1,
      longest_undisturbed_ms: 3_000,
      longest_ms: 9_000,
      longest_stretch_ms: 4_000,
      within_ms: LIMITS.lease_ttl_ms + 2_000,
    });
    const report = drawUp({ ...healthy(), calls: [] }, CALM, { ...PLAIN, version: '1a2b3c4-dirty' });
    expect(report).toMatchObject({ ok: false, losses: 2 });
    expect(inWords(report)).toMatch(/VIOLATED\n {2}version: 1a2b3c4-dirty\n[^]*losses: 2\n/);
  });

  it('names the commit in a checkout, and nothing outside of one', async () => {
    const dir = await mkdtemp(path.join(tmpdir(), 'carillon-version-'));
    expect(await describeVersion(dir)).toBeNull();
    await rm(dir, { recursive: true });
    expect((await describeVersion(ROOT)) ?? 'none').toMatch(/^(none|.*[0-9a-f]{4,}(-dirty)?)$/);
  });
});
