import { describe, expect, it } from 'vitest';
import type { Call, JobRow, RunRow } from '../chaos/books.ts';
import {
  type Evidence,
  findDisobedience,
  findDoubles,
  findLosses,
  findOverlaps,
  judgeLimits,
  mostLive,
} from '../chaos/judge.ts';
import { LIMITS } from '../chaos/limits.ts';
import type { Postgres } from '../chaos/postgres.ts';
import { measureRecovery, type Recovery, type RecoveryWatch, watchRecovery } from '../chaos/recovery.ts';
import { countReviews } from '../chaos/reviews.ts';
import { findViolations, type Observed } from '../chaos/verdict.ts';
import { attempt, CALM, call, healthy, job, RUN, SECOND_US } from './support/chaos-books.ts';

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
    expect(findOverlaps(evidence)).toEqual([]);
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

  it('sees a number on the line twice at once, whichever account and run it is called through', () => {
    const { businesses, ...rest } = healthy();
    const other = { account_sid: 'AC2', carrier_account_id: 2, lines: 2, calls_per_second: 1 };
    const both = businesses.map((business) => ({ ...business, accounts: [...business.accounts, other] }));
    const overlaps = (...calls: Call[]) => findOverlaps({ ...rest, businesses: both, calls });
    const through = (account: string, at_s: number, more: Partial<Call> = {}) =>
      call(1, at_s, { account, sid: `${account} at ${at_s}`, ...more });
    expect(overlaps(through('AC1', 10), through('AC2', 11))).toEqual([
      'call AC2 at 11 of 1/1-1 began 1000 ms after call AC1 at 10 of 1/1-1, which was live',
    ]);
    expect(overlaps(through('AC1', 10), through('AC1', 11))).toHaveLength(1);
    expect(overlaps(through('AC1', 10), through('AC2', 12))).toEqual([]);
    expect(overlaps(through('AC1', 10, { ended_us: null }), through('AC2', 99))).toHaveLength(1);
    // A long one that began before a short one, and lives on behind it.
    const long = through('AC1', 10, { ended_us: 20 * SECOND_US });
    expect(overlaps(long, through('AC2', 11), through('AC2', 15))).toHaveLength(2);
    // Another number, and another business that calls the same one.
    expect(overlaps(through('AC1', 10), call(2, 10, { account: 'AC2' }))).toEqual([]);
    expect(overlaps(through('AC1', 10), through('AC9', 10))).toEqual([]);
  });

  it('counts a call that ends where another begins as one', () => {
    expect(mostLive([call(1, 10), call(2, 12)])).toBe(1);
    expect(mostLive([call(1, 10), call(2, 11.9)])).toBe(2);
    expect(mostLive([call(1, 10, { ended_us: null }), call(2, 100)])).toBe(2);
  });
});

describe('reviews', () => {
  const POLICY = 'the policy asks for a review';
  const NOBODY_SAID = 'no answer was recorded before the dial deadline';
  const GIVEN_UP = 'given up: 4 dials ended with whoever dialled';
  const review = { status: 'needs_review', last_outcome: 'unknown' };
  const counted = (rows: Partial<Evidence['rows']>, seen: [string, string][] = [], review_always = false) => {
    const { businesses, workload, ...rest } = healthy();
    return countReviews({
      ...rest,
      businesses: businesses.map((business) => ({ ...business, policy: { review_always } })),
      workload: { ...workload, asked: { ...workload.asked, reviews: new Map(seen) } },
      rows: { ...rest.rows, ...rows },
    });
  };
  const one = (cause: string) => ({ total: 1, causes: { [cause]: 1 }, by_policy: 0 });
  const lost = attempt(1, 10, { outcome: 'unknown', cause: 'http_503' });
  const fruitless = [1, 2, 3, 4].map((attempt_no) =>
    attempt(1, attempt_no, { attempt_no, outcome: 'absent', cause: NOBODY_SAID }),
  );

  it('are none where all is well', () => {
    expect(counted({})).toEqual({ total: 0, causes: {}, by_policy: 0 });
  });

  it('are counted by what kept the answer away, each lead once', () => {
    const again = attempt(1, 20, { attempt_no: 2, outcome: 'unknown', cause: 'response_timeout' });
    expect(counted({ jobs: [job(1, review), job(2)], attempts: [lost, again] })).toEqual(one('http_503'));
  });

  it('are counted where late evidence has settled them since, or taken them back', () => {
    expect(counted({ earlier: [lost] })).toEqual(one('http_503'));
  });

  it('are counted where nobody tries any more, also without a policy that asks for any', () => {
    const given_up = job(1, { ...review, last_outcome: 'absent', reason: GIVEN_UP });
    expect(counted({ jobs: [given_up], attempts: fruitless })).toEqual(one(GIVEN_UP));
    // A person resolved it, or late evidence took it back: its attempts tell.
    expect(counted({ jobs: [job(1)] }, [['1/1-1', GIVEN_UP]])).toEqual(one(GIVEN_UP));
    expect(counted({ jobs: [job(1)], earlier: fruitless.slice(3), attempts: fruitless.slice(0, 3) })).toEqual(
      one(GIVEN_UP),
    );
    expect(counted({ jobs: [job(1)], attempts: fruitless.slice(1) }).total).toBe(0);
    // A stop came first.
    expect(counted({ jobs: [job(1, { status: 'cancelled' })], attempts: fruitless }).total).toBe(0);
  });

  it('are counted apart where a policy asks for them, and for no other reason', () => {
    const absent = attempt(1, 10, { outcome: 'absent', cause: 'response_timeout' });
    const asked = { total: 0, causes: {}, by_policy: 1 };
    const left = job(1, { ...review, last_outcome: 'absent', reason: POLICY });
    expect(counted({ jobs: [left], attempts: [absent] }, [], true)).toEqual(asked);
    expect(counted({ jobs: [job(1)], attempts: [absent] }, [['1/1-1', POLICY]], true)).toEqual(asked);
    expect(counted({ jobs: [job(1)], earlier: [absent] }, [], true)).toEqual(asked);
    expect(counted({ jobs: [job(1)], attempts: [absent] }).by_policy).toBe(0);
    expect(counted({ jobs: [left], attempts: [lost, { ...absent, attempt_no: 2 }] }, [], true)).toEqual(
      one('http_503'),
    );
    expect(counted({ jobs: [{ ...left, reason: 'another' }] }, [['1/1-1', POLICY]], true)).toEqual(one('another'));
  });
});

describe('how long a run waited for its next worker', () => {
  /** Taken by that worker from the other one. */
  const lease = (at_s: number, worker_id: string | null, from_worker_id: string | null = null, more: object = {}) => ({
    business_id: 1,
    run_id: 1,
    status: 'running',
    worker_id,
    from_worker_id,
    at_us: at_s * SECOND_US,
    ...more,
  });
  const other = (at_s: number, run_id: number) => lease(at_s, 'b', null, { run_id });
  const NEVER_S = Number.POSITIVE_INFINITY;
  const life = (worker_id: string, from_s = 0, leaving_s = NEVER_S, left_s = leaving_s) => ({
    worker_id,
    from_us: from_s * SECOND_US,
    leaving_us: leaving_s * SECOND_US,
    left_us: left_s * SECOND_US,
  });
  const measure = async (events: object[], watched: object) => {
    const postgres = { rows: async () => events } as Partial<Postgres> as Postgres;
    const lives = [life('a'), life('b'), life('c')];
    return await measureRecovery(postgres, { ...watchRecovery(), lives, ...watched } as RecoveryWatch);
  };
  const gone = (worker_id: string, at_s: number, back_s = NEVER_S) => ({
    worker_id,
    at_us: at_s * SECOND_US,
    back_us: back_s * SECOND_US,
  });
  const taken = [lease(1, 'a'), lease(9, 'b', 'a')];

  it('is measured from the end of its worker, of which nothing is left out but what stood in the way', async () => {
    expect(await measure(taken, { gones: [gone('a', 2)] })).toMatchObject([
      { taken_over: true, whole_ms: 7_000, undisturbed: true, undisturbed_ms: 7_000 },
    ]);
    const away = { from_us: 3 * SECOND_US, to_us: 5 * SECOND_US };
    expect(await measure(taken, { gones: [gone('a', 2)], disturbances: [away] })).toMatchObject([
      { whole_ms: 7_000, undisturbed: false, undisturbed_ms: 4_000 },
    ]);
  });

  it('is not begun anew by the end of a worker that had nothing to do with it', async () => {
    expect(await measure(taken, { gones: [gone('a', 2), gone('c', 6)] })).toMatchObject([
      { worker_id: 'a', undisturbed: true, undisturbed_ms: 7_000 },
    ]);
  });

  it('is begun anew where whoever took it went too', async () => {
    const again = [...taken, lease(15, 'c', 'b')];
    expect(await measure(again, { gones: [gone('a', 2), gone('b', 10)] })).toMatchObject([
      { worker_id: 'a', whole_ms: 7_000 },
      { worker_id: 'b', whole_ms: 5_000 },
    ]);
    // It had gone before it took it for anybody to see.
    expect(await measure(again, { gones: [gone('b', 8.9)] })).toMatchObject([{ whole_ms: 6_000 }]);
  });

  it('leaves out the time in which nobody lived, or those who did had no room for it', async () => {
    const alone = { lives: [life('a'), life('b', 7.5)], gones: [gone('a', 2)] };
    // From when its lease has run out at the earliest.
    expect(await measure(taken, alone)).toMatchObject([{ undisturbed: false, undisturbed_ms: 2_000 }]);
    // Three runs, of which the second has a right to two only while the third counts, for a TTL: it goes at 5.
    const three = [...taken, other(1, 2), other(1, 3)];
    const two = { gones: [gone('a', 2), gone('c', 5)] };
    expect(await measure(three, two)).toMatchObject([{ undisturbed: false, undisturbed_ms: 3_000 }]);
    const ended = { lives: [life('a'), life('b'), life('c', 0, 5, 7)], gones: [gone('a', 2)] };
    expect(await measure(three, ended)).toMatchObject([{ undisturbed: false, undisturbed_ms: 3_000 }]);
    // Of two runs one has room again as soon as another worker came in its place.
    const replaced = { lives: [life('a'), life('b'), life('c'), life('d', 5.5)], gones: [gone('a', 2), gone('c', 5)] };
    expect(await measure([...taken, other(1, 2)], replaced)).toMatchObject([
      { undisturbed: false, undisturbed_ms: 3_500 },
    ]);
  });

  it('ends also when the worker wakes, or somebody pauses the run', async () => {
    expect(await measure([lease(1, 'a')], { gones: [gone('a', 2, 6)] })).toMatchObject([
      { taken_over: false, whole_ms: 4_000 },
    ]);
    const paused = [lease(1, 'a'), lease(5, null, null, { status: 'paused' })];
    expect(await measure(paused, { gones: [gone('a', 2)] })).toMatchObject([{ taken_over: false, whole_ms: 3_000 }]);
    expect(await measure(paused, { gones: [gone('a', 6), gone('b', 2)] })).toEqual([]);
  });

  it('is not measured for one that had given the run back before', async () => {
    expect(await measure([lease(1, 'a'), lease(9, 'b')], { gones: [gone('a', 2)] })).toEqual([]);
  });

  it('counts a worker that is killed as it stands still as gone once, from when it was stopped', () => {
    const watch = watchRecovery();
    watch.gone('a');
    watch.gone('a');
    expect(watch.gones).toHaveLength(1);
    watch.gone('b').back();
    watch.gone('b');
    expect(watch.gones).toHaveLength(3);
  });
});

describe('the verdict', () => {
  const violated = (evidence: Evidence, observed: Partial<Observed> = {}, leads = 2, patience = 1) =>
    Object.entries<string[]>({ ...findViolations(evidence, { ...CALM, ...observed }, { leads, patience }) }).flatMap(
      ([what, found]) => found.map((sentence) => `${what}: ${sentence}`),
    );

  it('is good where all is well', () => {
    expect(violated(healthy())).toEqual([]);
  });

  it('sees what is wrong in the books', () => {
    const { rows, workload, ...rest } = healthy();
    const calls = [call(1, 10), call(1, 11, { attempt_no: 2 }), call(1, 11.5, { attempt_no: 3 })];
    const stop = {
      kind: 'stop',
      business_id: 1,
      run_id: 1,
      seq: null,
      answered_us: 1,
      until_us: 100 * SECOND_US,
    } as const;
    const all = violated({ ...rest, workload: { ...workload, promised: [stop] }, rows: { ...rows, jobs: [] }, calls });
    const kinds = new Set(all.map((sentence) => sentence.split(':')[0]));
    expect(kinds).toEqual(new Set(['doubles', 'losses', 'limits', 'overlaps', 'disobedience']));
  });

  it('sees too many reviews: more than one in a thousand leads, and more than two', () => {
    const { rows, ...rest } = healthy();
    const reviews = (count: number, leads: number) => {
      const seqs = Array.from({ length: count }, (_, i) => i + 1);
      const jobs = seqs.map((seq) => job(seq, { status: 'needs_review', reason: 'http_503' }));
      const evidence = { ...rest, rows: { ...rows, runs: [{ ...RUN, total_leads: count }], jobs } };
      evidence.workload.started = [];
      return findViolations(evidence, CALM, { leads, patience: 1 }).reviews;
    };
    expect(reviews(2, 10)).toEqual([]);
    expect(reviews(3, 10)).toEqual(['3 reviews of 10 leads: {"http_503":3}']);
    expect(reviews(5, 5_000)).toEqual([]);
    expect(reviews(6, 5_000)).toHaveLength(1);
  });

  it('sees what has not ended when the time for it is over', () => {
    expect(violated(healthy(), { open: { runs: 1, 'live calls': 0, 'open attempts': 3 } })).toEqual([
      'unsettled: 1 runs have not ended',
      'unsettled: 3 open attempts have not ended',
    ]);
  });

  it('sees answers that no client should get', () => {
    const { workload, ...rest } = healthy();
    const evidence = { ...rest, workload: { ...workload, wrong: ['start: HTTP 422 {}'] } };
    expect(violated(evidence)).toEqual(['answers: start: HTTP 422 {}']);
    const put_off = { database_unavailable: 4, internal: 2 };
    expect(violated(healthy(), { put_off })).toEqual(['answers: 2 times internal']);
  });

  it('sees processes that ended by themselves', () => {
    expect(violated(healthy(), { unplanned: ['worker-1 (a) ended by itself with 1'] })).toEqual([
      'processes: worker-1 (a) ended by itself with 1',
    ]);
  });

  it('sees that somebody noticed a restore, of which there is none', () => {
    expect(violated(healthy(), { restores: ['a beat is gone'] })).toEqual([
      'alarms: a restore was noticed, and there was none: a beat is gone',
    ]);
  });

  it('sees a run that waited too long, by the patience that there is to be', () => {
    const waited = (undisturbed_ms: number): Recovery => ({
      run_id: 7,
      worker_id: 'a',
      taken_over: true,
      undisturbed: true,
      whole_ms: undisturbed_ms,
      undisturbed_ms,
    });
    const most_ms = LIMITS.lease_ttl_ms + 2_000;
    expect(violated(healthy(), { recoveries: [waited(most_ms)] })).toEqual([]);
    expect(violated(healthy(), { recoveries: [waited(most_ms + 1)] })).toEqual([
      `recovery: run 7 waited ${most_ms + 1} ms for its next worker`,
    ]);
    expect(violated(healthy(), { recoveries: [waited(most_ms + 1)] }, 2, 2)).toEqual([]);
  });

  it('sees what the audit finds, and what it could not judge', () => {
    const found = { invariant: 3, business_id: 1, what: 'counters differ', evidence: {} } as const;
    const audited = { violations: [found], incomplete: [{ invariant: 5, what: 'no ledger' }] } as const;
    expect(
      violated(healthy(), { audited: { ...audited, violations: [found], incomplete: [...audited.incomplete] } }),
    ).toEqual(['audit: [3] counters differ', 'audit: [5] not judged: no ledger']);
  });
});
