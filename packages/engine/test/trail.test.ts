import { AUDIT_ACTIONS, isFinalRun, RUN_STATUSES, type RunId, Seq } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Actor } from '../src/actor.ts';
import { cancelJob } from '../src/call/cancel-job.ts';
import type { AttemptKey, Evidence } from '../src/call/attempt.ts';
import { recordEvidence } from '../src/call/record.ts';
import { inBusiness } from '../src/db/database.ts';
import { endOverdueRuns } from '../src/run/end.ts';
import { leaseRun } from '../src/run/lease.ts';
import { pauseRun } from '../src/run/pause.ts';
import { resumeRun } from '../src/run/resume.ts';
import { stopRun } from '../src/run/stop.ts';
import {
  claimAll,
  createFixture,
  createTenant,
  ended,
  type Fixture,
  lease,
  readRow,
  record,
  startRun,
  type Tenant,
} from './support/fixture.ts';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
});
afterAll(async () => await fixture.close());

const person: Actor = { name: 'key:7', user_id: null, source: '192.0.2.1', request_id: 'a-request' };
const carrier: Actor = { name: 'carrier', user_id: null, source: '192.0.2.2' };

interface Event {
  event_id: string;
  action: string;
  actor: string;
  source: string | null;
  request_id: string | null;
  before: { status: string; control_epoch: number } | null;
  after: { status: string; control_epoch: number };
  at: Date;
}

async function eventsOf(run_id: RunId): Promise<Event[]> {
  return await fixture.rows<Event>(
    `SELECT * FROM carillon.audit_events WHERE subject_type = 'run' AND subject_id = $1::text ORDER BY event_id`,
    [run_id],
  );
}

const stateOf = ({ status, control_epoch }: { status: string; control_epoch: number }) => ({ status, control_epoch });

/**
 * The run's events as `action before→after by actor`, once they are shown to be a chain without a gap: from its creation
 * to the state of its row, each at its time, the epoch rising by one where it rises.
 */
async function chainOf(run_id: RunId): Promise<string[]> {
  const events = await eventsOf(run_id);
  const [created] = events;
  expect(created).toMatchObject({ action: 'run.created', before: null, after: { control_epoch: 0 } });
  events.reduce((earlier, later) => {
    expect(later.before && stateOf(later.before)).toEqual(stateOf(earlier.after));
    expect(later.at.getTime()).toBeGreaterThanOrEqual(earlier.at.getTime());
    expect([0, 1]).toContain(later.after.control_epoch - earlier.after.control_epoch);
    return later;
  });
  const last = events.at(-1);
  expect(last && stateOf(last.after)).toEqual(stateOf(await readRow(fixture, run_id)));
  for (const { actor, at } of events)
    expect({ actor: actor !== '', at: at > new Date(0) }).toEqual({ actor: true, at: true });
  return events.map(({ action, before, after, actor }) => `${action} ${before?.status ?? ''}→${after.status} ${actor}`);
}

const endWith = async (attempt: AttemptKey, evidence: Evidence) =>
  await recordEvidence(
    fixture.db,
    attempt.business_id,
    attempt.run_id,
    [{ key: attempt, evidence, actor: carrier }],
    fixture.limits,
  );

/** What may be done to a run, each as whoever does it. */
function verbsOf(tenant: Tenant, run_id: RunId) {
  const { db, limits } = fixture;
  const { business_id } = tenant;
  return {
    lease: async (worker = 'w1') => await lease(fixture, tenant, run_id, worker),
    claim: async (worker = 'w1') => await claimAll(fixture, await lease(fixture, tenant, run_id, worker), 9, worker),
    pause: async () => await pauseRun(db, business_id, run_id, 'drain', person),
    resume: async () => await resumeRun(db, business_id, run_id, limits, person),
    stop: async () => await stopRun(db, business_id, run_id, 'drain', person),
    cancel: async (seq: number) => await cancelJob(db, business_id, { run_id, seq: Seq.parse(seq) }, limits, person),
    /** The worker that holds the run vanishes. */
    vanish: async () =>
      await fixture.rows(
        `UPDATE carillon.outbound_call_runs SET lock_ts = now() - interval '1 hour' WHERE run_id = $1`,
        [run_id],
      ),
    /** So many of its leases began calls and ended none that the next is not given. */
    poison: async () =>
      await fixture.rows(
        `UPDATE carillon.outbound_call_runs SET fruitless_leases = $2, lease_settled = false, lock_ts = now() - interval '1 hour'
         WHERE run_id = $1`,
        [run_id, limits.fruitless_leases],
      ),
    giveUp: async () =>
      expect(await inBusiness(db, business_id, (tx) => leaseRun(tx, run_id, 'w9', limits))).toBeNull(),
    isOverdue: async () => {
      await fixture.rows(`UPDATE carillon.outbound_call_runs SET ends_at = now() WHERE run_id = $1`, [run_id]);
      const errors: unknown[] = [];
      await endOverdueRuns(db, { name: 'worker:w1', user_id: null, source: 'host' }, (error) => errors.push(error));
      expect(errors).toEqual([]);
    },
  };
}

interface Way {
  name: string;
  draft?: boolean;
  walk(run: ReturnType<typeof verbsOf>): Promise<void>;
  chain: string[];
}

const created = 'run.created →pending test';
const started = 'run.started pending→running worker:w1';
const DONE: Evidence = ended('C1', 'completed');

/** Every arrow between two states of a run, each by everyone who can take it. */
const WAYS: Way[] = [
  {
    name: 'a draft is started',
    draft: true,
    walk: async (run) => void (await run.resume()),
    chain: ['run.created →draft test', 'run.resumed draft→pending key:7'],
  },
  {
    name: 'a draft is stopped',
    draft: true,
    walk: async (run) => void (await run.stop()),
    chain: ['run.created →draft test', 'run.cancelled draft→cancelled key:7'],
  },
  {
    name: 'a run that waits is paused, goes on and is stopped; the second time changes nothing',
    async walk(run) {
      for (const verb of [run.pause, run.pause, run.resume, run.resume, run.stop, run.stop]) await verb();
    },
    chain: [
      created,
      'run.paused pending→paused key:7',
      'run.resumed paused→pending key:7',
      'run.cancelled pending→cancelled key:7',
    ],
  },
  {
    name: 'the last settlement completes it',
    async walk(run) {
      for (const attempt of await run.claim()) await endWith(attempt, DONE);
    },
    chain: [created, started, 'run.completed running→completed carrier'],
  },
  {
    name: 'a person cancels its last job',
    async walk(run) {
      await run.lease();
      await run.cancel(1);
    },
    chain: [created, started, 'run.completed running→completed key:7'],
  },
  {
    name: 'a call that was believed absent ends after all, and the run with it',
    async walk(run) {
      for (const attempt of await run.claim()) {
        await endWith(attempt, { kind: 'unknown', cause: 'timeout' });
        await endWith(attempt, { kind: 'absent' });
        await endWith(attempt, DONE);
      }
    },
    chain: [created, started, 'run.completed running→completed carrier'],
  },
  {
    name: 'it is paused, goes on, is leased again and loses its worker',
    async walk(run) {
      await run.lease('w1');
      await run.pause();
      await run.resume();
      await run.lease('w2');
      await run.vanish();
      await run.lease('w3');
      await run.stop();
    },
    chain: [
      created,
      started,
      'run.paused running→paused key:7',
      'run.resumed paused→running key:7',
      'run.leased running→running worker:w2',
      'run.reclaimed running→running worker:w3',
      'run.cancelled running→cancelled key:7',
    ],
  },
  {
    name: 'it is paused while its last call ends',
    async walk(run) {
      const attempts = await run.claim();
      await run.pause();
      for (const attempt of attempts) await endWith(attempt, DONE);
    },
    chain: [created, started, 'run.paused running→paused key:7', 'run.completed paused→completed carrier'],
  },
  {
    name: 'it is stopped with a call alive, whose end makes it final',
    async walk(run) {
      const attempts = await run.claim();
      await run.stop();
      await run.stop();
      for (const attempt of attempts) await endWith(attempt, DONE);
    },
    chain: [
      created,
      started,
      'run.cancel_requested running→cancelling key:7',
      'run.cancelled cancelling→cancelled carrier',
    ],
  },
  {
    name: 'it is paused, then stopped with a call alive',
    async walk(run) {
      const attempts = await run.claim();
      await run.pause();
      await run.stop();
      for (const attempt of attempts) await endWith(attempt, { kind: 'not_dialed', cause: 'x', unreachable: false });
    },
    chain: [
      created,
      started,
      'run.paused running→paused key:7',
      'run.cancel_requested paused→cancelling key:7',
      'run.cancelled cancelling→cancelled carrier',
    ],
  },
  {
    name: 'it is given up with a call alive, whose end makes it final',
    async walk(run) {
      const attempts = await run.claim();
      await run.poison();
      await run.giveUp();
      for (const attempt of attempts) await endWith(attempt, DONE);
    },
    chain: [
      created,
      started,
      'run.cancel_requested running→cancelling worker:w9',
      'run.failed cancelling→failed carrier',
    ],
  },
  {
    name: 'it is given up with nothing alive',
    async walk(run) {
      await run.lease();
      await run.poison();
      await run.giveUp();
    },
    chain: [created, started, 'run.failed running→failed worker:w9'],
  },
  {
    name: 'its end has come',
    walk: async (run) => await run.isOverdue(),
    chain: [created, 'run.cancelled pending→cancelled worker:w1'],
  },
];

/** What is done to a run and leaves its state and its control epoch as they are. */
const WITHOUT_STATE = ['run.account_changed', 'run.hang_up_requested', 'run.reconcile_requested'];

async function newRun(draft = false) {
  const tenant = await createTenant(fixture, { leads: 1 });
  const run_id = await startRun(fixture, tenant, { draft });
  return { tenant, run_id, run: verbsOf(tenant, run_id) };
}

describe('the trail of a run', () => {
  it.each(WAYS)('has no gap when $name', async ({ draft, walk, chain }) => {
    const { run_id, run } = await newRun(draft);
    await walk(run);
    expect(await chainOf(run_id)).toEqual(chain);
  });

  it('is walked through every action of a run and every state', () => {
    const events = WAYS.flatMap(({ chain }) => chain.map((event) => event.split(/ |→/)));
    const column = (index: number) => [...new Set(events.map((event) => event[index] ?? ''))].toSorted();
    const actions = Object.keys(AUDIT_ACTIONS).filter((action) => action.startsWith('run.'));
    expect(column(0)).toEqual(actions.filter((action) => !WITHOUT_STATE.includes(action)).toSorted());
    expect(column(1)).toEqual(['', ...RUN_STATUSES.filter((status) => !isFinalRun(status))].toSorted());
    expect(column(2)).toEqual(RUN_STATUSES.toSorted());
  });

  it('says from where and by which request a person did it, and which worker has it', async () => {
    const { run_id, run } = await newRun();
    await run.lease('w1');
    await run.pause();
    const [, leased, paused] = await eventsOf(run_id);
    expect(leased).toMatchObject({
      source: expect.stringMatching(/./),
      before: { locked_by_worker: null, lease_epoch: 0 },
      after: { locked_by_worker: 'w1', lease_epoch: 1 },
    });
    expect(paused).toMatchObject({ source: '192.0.2.1', request_id: 'a-request', after: { live_calls: 'drain' } });
  });

  it('holds nothing for a call: as many events with fifty leads as with one', async () => {
    const tenant = await createTenant(fixture, { leads: 50 });
    const run_id = await startRun(fixture, tenant);
    for (const attempt of await claimAll(fixture, await lease(fixture, tenant, run_id, 'w1'), 50, 'w1')) {
      await record(fixture, attempt, { kind: 'accepted', call_id: `C${attempt.seq}` });
      await record(fixture, attempt, ended(`C${attempt.seq}`, 'completed'));
    }
    expect(await chainOf(run_id)).toEqual([created, started, 'run.completed running→completed test']);
    const others = await fixture.rows('SELECT FROM carillon.audit_events WHERE business_id = $1', [tenant.business_id]);
    expect(others).toHaveLength(3);
  });

  it('has no event of a change that was rolled back', async () => {
    const { tenant, run_id, run } = await newRun();
    const work = inBusiness(fixture.db, tenant.business_id, async (tx) => {
      expect(await leaseRun(tx, run_id, 'w1', fixture.limits)).not.toBeNull();
      throw new Error('after all not');
    });
    await expect(work).rejects.toThrow('after all not');
    expect(await chainOf(run_id)).toEqual([created]);

    await run.stop();
    await expect(run.pause()).rejects.toMatchObject({ code: 'run_state_conflict' });
    await expect(run.resume()).rejects.toMatchObject({ code: 'run_state_conflict' });
    expect(await chainOf(run_id)).toEqual([created, 'run.cancelled pending→cancelled key:7']);
  });

  it('has one creation, however often it is asked for with one key', async () => {
    const tenant = await createTenant(fixture, { leads: 1 });
    const run_id = await startRun(fixture, tenant, {}, 'once');
    expect(await startRun(fixture, tenant, {}, 'once')).toBe(run_id);
    expect(await chainOf(run_id)).toEqual([created]);
  });
});

it('is demanded by the tests’ own database: a change without its event is refused at its end', async () => {
  const { tenant, run_id } = await newRun();
  const silently = inBusiness(fixture.db, tenant.business_id, async (tx) => {
    await tx.query(
      `UPDATE carillon.outbound_call_runs SET status = 'paused', control_epoch = control_epoch + 1
       WHERE business_id = $1 AND run_id = $2`,
      [tenant.business_id, run_id],
    );
  });
  await expect(silently).rejects.toThrow('without an event');
});
