import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { CallbackPath } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AttemptRow, Call, JobRow, RunRow } from '../chaos/books.ts';
import type { Business } from '../chaos/businesses.ts';
import {
  countReviews,
  type Evidence,
  findDisobedience,
  findDoubles,
  findLosses,
  judgeLimits,
  mostLive,
} from '../chaos/judge.ts';
import { LIMITS } from '../chaos/limits.ts';
import { FAULT_KINDS, planFaults } from '../chaos/plan.ts';
import type { Postgres } from '../chaos/postgres.ts';
import { type Proxy, startProxy } from '../chaos/proxy.ts';
import { createRandom } from '../chaos/random.ts';
import { measureRecovery, type RecoveryWatch, watchRecovery } from '../chaos/recovery.ts';
import { until } from './support/wait.ts';

describe('the plan of faults', () => {
  it('is the same for the same seed, and another for another', () => {
    const told = (seed: number) => planFaults(seed, 2).map(({ at_ms, kind, lasts_ms }) => ({ at_ms, kind, lasts_ms }));
    expect(told(1)).toEqual(told(1));
    expect(told(1)).not.toEqual(told(2));
  });

  it('has at least 300 faults in ten minutes, of every kind, for any seed', () => {
    for (let seed = 1; seed <= 50; seed++) {
      const faults = planFaults(seed, 10);
      expect(faults.length).toBeGreaterThanOrEqual(300);
      expect(new Set(faults.map(({ kind }) => kind))).toEqual(new Set(FAULT_KINDS));
    }
  });

  it('stops workers for longer than their lease', () => {
    const stops = planFaults(3, 10).filter(({ kind }) => kind === 'worker_stopped');
    expect(Math.min(...stops.map(({ lasts_ms }) => lasts_ms))).toBeGreaterThan(LIMITS.lease_ttl_ms);
  });
});

const SECOND_US = 1_000_000;
const TOKEN = 'A'.repeat(22);

function attemptOf(seq: number, attempt_no = 1): CallbackPath {
  const texts = { driver: 'twilio', business_id: '1', carrier_account_id: '1', run_id: '1', token: TOKEN };
  return CallbackPath.parse({ ...texts, seq: String(seq), attempt_no: String(attempt_no) });
}

/** A call of two seconds, from `at_s` on. */
function call(seq: number, at_s: number, more: Partial<Call> & { attempt_no?: number } = {}): Call {
  const { attempt_no = 1, ...rest } = more;
  return {
    sid: `CA${seq}.${attempt_no}`,
    account: 'AC1',
    to: `+9725230000${seq}`,
    created_us: at_s * SECOND_US,
    ended_us: (at_s + 2) * SECOND_US,
    status: 'completed',
    attempt: attemptOf(seq, attempt_no),
    ...rest,
  };
}

function attempt(seq: number, at_s: number, more: Partial<AttemptRow> = {}): AttemptRow {
  const key = { business_id: 1, run_id: 1, seq, attempt_no: 1, carrier_account_id: 1 };
  return { ...key, intent_us: at_s * SECOND_US, outcome: 'completed', cause: null, ...more };
}

const job = (seq: number, more: Partial<JobRow> = {}): JobRow => ({
  business_id: 1,
  run_id: 1,
  seq,
  phone: `+9725230000${seq}`,
  status: 'completed',
  last_outcome: 'completed',
  reason: null,
  ...more,
});

const RUN: RunRow = {
  business_id: 1,
  run_id: 1,
  status: 'completed',
  total_leads: 2,
  concurrency: 2,
  reclaim_count: 0,
  last_error: null,
};

/** Two leads of one run, called once each, one second apart. */
function healthy(): Evidence {
  const business: Business = {
    business_id: 1,
    name: 'one',
    key: '',
    account_sid: 'AC1',
    carrier_account_id: 1,
    policy: {},
    lines: 2,
    calls_per_second: 1,
    campaigns: [],
  };
  const campaign = { list_id: 1, leads: 2, concurrency: 2, starts_at_ms: 0 };
  return {
    businesses: [business],
    workload: {
      started: [{ business, campaign, run_id: 1, uncertain: false }],
      promised: [],
      asked: { stops: new Set(), job_cancels: new Set(), resolved: new Map() },
    },
    rows: { runs: [RUN], jobs: [job(1), job(2)], attempts: [attempt(1, 10), attempt(2, 11)] },
    calls: [call(1, 10), call(2, 11)],
  };
}

const withCalls = (...calls: Call[]): Evidence => ({ ...healthy(), calls });
const withRetry = (times: number, ...calls: Call[]): Evidence => {
  const evidence = withCalls(...calls);
  const policy = { retry: { busy: { times, after_s: 1 } } };
  return { ...evidence, businesses: evidence.businesses.map((business) => ({ ...business, policy })) };
};

describe('the judge', () => {
  it('finds nothing where all is well', () => {
    const evidence = healthy();
    expect(findDoubles(evidence)).toEqual([]);
    expect(findLosses(evidence)).toEqual([]);
    expect(findDisobedience(evidence)).toEqual([]);
    expect(judgeLimits(evidence)).toMatchObject({ broken: [], most_live: 2, most_live_limit: 2 });
    expect(countReviews(evidence)).toEqual({ total: 0, causes: {}, by_policy: 0 });
  });

  it('sees a second call that nobody asked for, and not one that the policy did', () => {
    const again = call(1, 20, { attempt_no: 2 });
    expect(findDoubles(withCalls(call(1, 10), again))).toHaveLength(1);
    const busy = call(1, 10, { status: 'busy' });
    expect(findDoubles(withCalls(busy, again))).toHaveLength(1);
    expect(findDoubles(withRetry(1, busy, again))).toEqual([]);
    // One more than the policy allows, and one before the first has ended.
    const busyAgain = call(1, 20, { attempt_no: 2, status: 'busy' });
    expect(findDoubles(withRetry(1, busy, busyAgain, call(1, 30, { attempt_no: 3 })))).toHaveLength(1);
    expect(findDoubles(withRetry(1, busy, call(1, 11, { attempt_no: 2 })))).toHaveLength(1);
  });

  it('lets a person who resolves a review have one more call, and no second', () => {
    const evidence = withCalls(call(1, 10), call(1, 20, { attempt_no: 2 }));
    evidence.workload.asked.resolved.set('1/1-1', 'call_again');
    expect(findDoubles(evidence)).toEqual([]);
    expect(findDoubles({ ...evidence, calls: [...evidence.calls, call(1, 30, { attempt_no: 3 })] })).toHaveLength(1);
  });

  it('sees leads that are lost', () => {
    const lost = (jobs: JobRow[], run: Partial<RunRow> = {}, calls = healthy().calls) =>
      findLosses({ ...healthy(), calls, rows: { ...healthy().rows, runs: [{ ...RUN, ...run }], jobs } }).length;
    expect(lost([job(1), job(2)])).toBe(0);
    expect(lost([job(1)])).toBe(1);
    expect(lost([job(1), job(2, { status: 'waiting' })])).toBe(1);
    expect(lost([job(1), job(2, { status: 'cancelled' })])).toBe(1);
    expect(lost([job(1), job(2)], {}, [call(1, 10)])).toBe(1);
    expect(lost([job(1), job(2, { status: 'failed', last_outcome: 'absent' })], {}, [call(1, 10)])).toBe(1);
    expect(lost([job(1), job(2, { status: 'failed', last_outcome: 'rejected' })], {}, [call(1, 10)])).toBe(0);
    expect(lost([job(1), job(2)], { status: 'cancelled' })).toBe(1);
    expect(lost([job(1), job(2)], { status: 'failed' })).toBe(1);
    expect(lost([job(1), job(2)], { run_id: 2 })).toBeGreaterThan(0);
  });

  it('sees what was begun after a stop had been answered', () => {
    const promised = { kind: 'pause', business_id: 1, run_id: 1, seq: null, until_us: 30 * SECOND_US } as const;
    const disobeyed = (answered_s: number, evidence: Evidence, seq: number | null = null) =>
      findDisobedience({
        ...evidence,
        workload: { ...evidence.workload, promised: [{ ...promised, seq, answered_us: answered_s * SECOND_US }] },
      }).length;
    expect(disobeyed(10.5, healthy())).toBe(1);
    expect(disobeyed(11.5, healthy())).toBe(0);
    expect(disobeyed(10.5, healthy(), 1)).toBe(0);
    expect(disobeyed(10.5, healthy(), 2)).toBe(1);
    // A call may follow its attempt as late as the deadline and the carrier allow, and not later; a resume ends it.
    expect(disobeyed(11.5, withCalls(call(2, 15)))).toBe(0);
    expect(disobeyed(11.5, withCalls(call(2, 16)))).toBe(1);
    expect(disobeyed(11.5, withCalls(call(2, 31)))).toBe(0);
  });

  it('sees limits that are exceeded, and calls before their time or of nobody', () => {
    const three = [call(1, 10), call(2, 11), call(3, 11)];
    const attempts = [attempt(1, 10), attempt(2, 11), attempt(3, 11)];
    const broken = (calls: Call[]) =>
      judgeLimits({ ...healthy(), calls, rows: { ...healthy().rows, attempts } }).broken.length;
    // Of the lane, and of the run.
    expect(broken(three)).toBe(2);
    expect(broken([call(1, 10), call(2, 11)])).toBe(0);
    expect(broken([call(1, 9.9), call(2, 11)])).toBe(1);
    expect(broken([call(1, 10), call(2, 11, { attempt: null })])).toBe(1);
    // The lane's rate has no start for these two before its third second.
    const late = [attempt(1, 10), attempt(2, 10), attempt(3, 10.1)];
    expect(judgeLimits({ ...withCalls(call(3, 11.5)), rows: { ...healthy().rows, attempts: late } }).broken).toEqual([
      'call CA3.1 began 500 ms before its time',
    ]);
  });

  it('counts a call that ends where another begins as one', () => {
    expect(mostLive([call(1, 10), call(2, 12)])).toBe(1);
    expect(mostLive([call(1, 10), call(2, 11.9)])).toBe(2);
    expect(mostLive([call(1, 10, { ended_us: null }), call(2, 100)])).toBe(2);
  });
});

describe('how long a run waited for its next worker', () => {
  const lease = (at_s: number, worker_id: string | null, action = 'run.leased', status = 'running') => ({
    business_id: 1,
    run_id: 1,
    action,
    status,
    worker_id,
    lease_epoch: 1,
    at_us: at_s * SECOND_US,
  });
  const measure = async (events: object[], gones: object[], disturbances: object[] = []) => {
    const postgres = { rows: async () => events } as Partial<Postgres> as Postgres;
    const watch = { ...watchRecovery(), gones, disturbances };
    return await measureRecovery(postgres, watch as RecoveryWatch);
  };
  const gone = (worker_id: string, at_s: number, back_s = Number.POSITIVE_INFINITY) => ({
    worker_id,
    at_us: at_s * SECOND_US,
    back_us: back_s * SECOND_US,
  });

  it('is measured from the end of its worker, of which nothing is left out but what stood in the way', async () => {
    const events = [lease(1, 'a'), lease(9, 'b', 'run.reclaimed')];
    expect(await measure(events, [gone('a', 2)])).toMatchObject([
      { reclaimed: true, whole_ms: 7_000, undisturbed_ms: 7_000 },
    ]);
    const away = { from_us: 3 * SECOND_US, to_us: 5 * SECOND_US };
    expect(await measure(events, [gone('a', 2)], [away])).toMatchObject([{ whole_ms: 7_000, undisturbed_ms: 4_000 }]);
    expect(await measure(events, [gone('a', 2), gone('c', 6)])).toMatchObject([{ undisturbed_ms: 4_000 }]);
  });

  it('ends also when the worker wakes, or somebody pauses the run', async () => {
    expect(await measure([lease(1, 'a')], [gone('a', 2, 6)])).toMatchObject([{ reclaimed: false, whole_ms: 4_000 }]);
    const paused = [lease(1, 'a'), lease(5, null, 'run.paused', 'paused')];
    expect(await measure(paused, [gone('a', 2)])).toMatchObject([{ reclaimed: false, whole_ms: 3_000 }]);
    expect(await measure(paused, [gone('a', 6), gone('b', 2)])).toEqual([]);
  });
});

describe('the proxy', () => {
  let proxy: Proxy;
  const heard: string[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      heard.push(String(chunk));
      socket.write(`answer to ${chunk}`);
    });
  });
  beforeAll(async () => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    proxy = await startProxy(() => [
      // Nobody listens there: the next one is tried.
      { host: '127.0.0.1', port: 1 },
      { host: '127.0.0.1', port },
    ]);
  });
  afterAll(async () => {
    await proxy.close();
    server.close();
  });

  async function join(): Promise<{ socket: Socket; said: string[]; closed: () => boolean }> {
    const socket = connect(proxy.port, '127.0.0.1');
    const said: string[] = [];
    socket.on('error', () => {});
    socket.on('data', (chunk) => said.push(String(chunk)));
    await once(socket, 'connect');
    return { socket, said, closed: () => socket.destroyed };
  }
  const soon = (what: string, ask: () => boolean) => until(ask, { deadline_ms: 20_000, what });

  it('passes on, holds back while it is stalled, and loses nothing of that', async () => {
    const { socket, said } = await join();
    socket.write('one');
    await soon('the first answer', () => said.join('') === 'answer to one');
    proxy.stall(true);
    const other = await join();
    socket.write('two');
    other.socket.write('three');
    await expect(until(() => said.length > 1, { deadline_ms: 200 })).rejects.toThrow('not within');
    proxy.stall(false);
    await soon('what was held back', () => said.join('') === 'answer to oneanswer to two');
    await soon('what the other one sent', () => other.said.join('') === 'answer to three');
    for (const one of [socket, other.socket]) one.destroy();
  });

  it('cuts in the middle: before the request, within it, or before its answer', async () => {
    for (const [pick, arrives] of [
      [0, ''],
      [1, 'requ'],
      [2, 'request'],
    ] as const) {
      const { socket, said, closed } = await join();
      socket.write('hello');
      await soon('an answer', () => said.length > 0);
      heard.length = 0;
      said.length = 0;
      const random = createRandom(1);
      expect(proxy.cut(1, { ...random, chance: () => true, pick: (items) => items[pick] as never })).toBeGreaterThan(0);
      socket.write('request');
      await soon('the end of the connection', closed);
      if (arrives !== '') await soon(`"${arrives}" at the server`, () => heard.join('') === arrives);
      expect([heard.join(''), said]).toEqual([arrives, []]);
    }
  });

  it('refuses connections, and takes them again', async () => {
    const { closed } = await join();
    await proxy.refuse(true);
    await soon('the reset of what stood', closed);
    await expect(join()).rejects.toThrow('ECONNREFUSED');
    await proxy.refuse(false);
    const { socket, said } = await join();
    socket.write('back');
    await soon('an answer', () => said.join('') === 'answer to back');
    socket.destroy();
  });
});
