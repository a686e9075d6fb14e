import type { AddressInfo } from 'node:net';
import { createKey, createWaker, localActor, openDatabase } from '@carillon/engine';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { buildApi } from '../src/index.ts';
import { type Caller, createCaller, createFixture, type Fixture, startRun } from './support/api.ts';
import { type EventStream, follow } from './support/events.ts';

let fixture: Fixture;
let caller: Caller;
let url: string;
const open: EventStream[] = [];

async function listen(app: Fixture['app']): Promise<string> {
  await app.listen({ host: '127.0.0.1', port: 0 });
  return `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
}

beforeAll(async () => {
  fixture = await createFixture({ api_limits: { stream_pace_ms: 20, stream_poll_ms: 60_000 } });
  url = await listen(fixture.app);
  caller = await createCaller(fixture);
});
afterAll(async () => {
  for (const stream of open) stream.close();
  await fixture.close();
});

async function followed(run_id: number, last_event_id?: string, at = url, key = caller.agent) {
  const stream = await follow(at, key, run_id, last_event_id);
  open.push(stream);
  return stream;
}

const control = (run_id: number, verb: string) =>
  fixture.ask(caller.admin, 'POST', `/api/outbound/runs/${run_id}/${verb}`);
const stop = (run_id: number) => fixture.ask(caller.admin, 'POST', '/api/outbound/stop-queue', { payload: { run_id } });

describe("a run's events", () => {
  it('begin with the run as it is, tell each change, and end with the final state', async () => {
    const run = await startRun(fixture, caller);
    const stream = await followed(run.run_id);
    expect(stream.status).toBe(200);
    expect(stream.headers['content-type']).toBe('text/event-stream; charset=utf-8');
    expect(stream.headers['cache-control']).toBe('no-store');
    const first = await stream.next();
    expect(first).toMatchObject({ event: 'run', data: run });
    await control(run.run_id, 'pause');
    expect((await stream.next()).data.status).toBe('paused');
    await control(run.run_id, 'resume');
    expect((await stream.next()).data.status).toBe('pending');
    await stop(run.run_id);
    const last = await stream.next();
    expect(last.data).toMatchObject({ status: 'cancelled', cancelled: 3 });
    await stream.end();
    expect(stream.events).toHaveLength(4);
    const ids = stream.events.map(({ id }) => Number(id.split('-')[0]));
    expect(ids).toEqual(ids.toSorted((a, b) => a - b));
  });

  it('tell nothing twice to a client that comes again, and end its asking once the run has ended', async () => {
    const run = await startRun(fixture, caller);
    const before = await followed(run.run_id);
    const { id } = await before.next();
    before.close();
    const again = await followed(run.run_id, id);
    await control(run.run_id, 'pause');
    // The first thing it hears is what is new.
    expect((await again.next()).data.status).toBe('paused');
    again.close();

    const missed = await followed(run.run_id, id);
    expect((await missed.next()).data.status).toBe('paused');
    await stop(run.run_id);
    const { id: final } = await missed.next();
    await missed.end();
    const over = await followed(run.run_id, final);
    expect(over.status).toBe(204);
    await over.end();
    expect(over.events).toEqual([]);
  });

  it('hear of changes that another process made, by its wake', async () => {
    const run = await startRun(fixture, caller);
    const stream = await followed(run.run_id);
    await stream.next();
    const waker = createWaker(fixture.db, 1, () => {});
    await fixture.rows(
      "UPDATE carillon.outbound_call_runs SET name = 'Renamed', updated_at = now() WHERE run_id = $1",
      [run.run_id],
    );
    waker.wake(caller.business_id);
    expect((await stream.next()).data.name).toBe('Renamed');
    await waker.close();
  });

  it('say nothing of a wake without a change', async () => {
    const run = await startRun(fixture, caller);
    const stream = await followed(run.run_id);
    await stream.next();
    const waker = createWaker(fixture.db, 1, () => {});
    for (let times = 0; times < 5; times++) {
      waker.wake(caller.business_id);
      await fixture.rows('SELECT 1');
    }
    await waker.close();
    await control(run.run_id, 'pause');
    expect((await stream.next()).data.status).toBe('paused');
    expect(stream.events).toHaveLength(2);
  });
});

describe('without wakes', () => {
  it('the run is read from time to time, and silence is broken by comments', async () => {
    const quiet = await createFixture({
      api_limits: { stream_pace_ms: 5, stream_poll_ms: 30, stream_heartbeat_ms: 60, stream_max_ms: 60_000 },
    });
    try {
      const at = await listen(quiet.app);
      const someone = await createCaller(quiet);
      const run = await startRun(quiet, someone);
      const stream = await followed(run.run_id, undefined, at, someone.agent);
      await stream.next();
      await quiet.rows("UPDATE carillon.outbound_call_runs SET name = 'Polled' WHERE run_id = $1", [run.run_id]);
      expect((await stream.next()).data.name).toBe('Polled');
      await until(() => stream.comments.length >= 2, { deadline_ms: 10_000 });
      stream.close();
    } finally {
      await quiet.close();
    }
  });

  it('a stream ends after a while, so that its key is looked at again', async () => {
    const brief = await createFixture({ api_limits: { stream_pace_ms: 5, stream_poll_ms: 20, stream_max_ms: 100 } });
    try {
      const at = await listen(brief.app);
      const someone = await createCaller(brief);
      const run = await startRun(brief, someone);
      const stream = await followed(run.run_id, undefined, at, someone.agent);
      await stream.end();
      expect(stream.events).toHaveLength(1);
    } finally {
      await brief.close();
    }
  });
});

describe('bounds', () => {
  it('so many streams of one business, so many in all; a seat is free again when its client leaves', async () => {
    const small = await createFixture({ api_limits: { streams: 3, streams_per_business: 2, stream_pace_ms: 5 } });
    try {
      const at = await listen(small.app);
      const [one, two] = [await createCaller(small), await createCaller(small)];
      const [mine, theirs] = [await startRun(small, one), await startRun(small, two)];
      const first = await followed(mine.run_id, undefined, at, one.agent);
      await followed(mine.run_id, undefined, at, one.agent);
      const third = await small.ask(one.agent, 'GET', `/api/outbound/runs/${mine.run_id}/events`);
      expect(third).toMatchObject({ status: 429, json: { code: 'too_many_streams', details: { limit: 2 } } });
      await followed(theirs.run_id, undefined, at, two.agent);
      const fourth = await small.ask(two.agent, 'GET', `/api/outbound/runs/${theirs.run_id}/events`);
      expect(fourth).toMatchObject({ status: 429, json: { details: { limit: 3 } } });

      const streams = async () =>
        /carillon_event_streams (\d+)/.exec((await small.ask(null, 'GET', '/metrics')).text)?.[1];
      expect(await streams()).toBe('3');
      first.close();
      await until(async () => (await streams()) === '2', { deadline_ms: 10_000 });
      const again = await followed(mine.run_id, undefined, at, one.agent);
      expect(again.status).toBe(200);
    } finally {
      await small.close();
    }
  });

  it('a client that reads nothing makes nothing pile up: it misses states in between', async () => {
    const api_limits = { stream_pace_ms: 0, stream_poll_ms: 60_000 };
    const busy = await createFixture({ api_limits });
    const beside = await buildApi({ ...fixture.api_options, app_url: busy.appUrl, db: busy.db, api_limits });
    const counted = openDatabase({ app_url: busy.appUrl, discovery_url: busy.discoveryUrl });
    const slow = await buildApi({ ...busy.api_options, db: counted });
    const waker = createWaker(busy.db, 1, () => {});
    try {
      const someone = await createCaller(busy, 1);
      const run = await startRun(busy, someone);
      const stalled = await followed(run.run_id, undefined, await listen(slow), someone.agent);
      await stalled.next();
      stalled.stall();
      const reader = await followed(run.run_id, undefined, await listen(beside), someone.agent);
      await reader.next();
      const { taken } = counted.connections();
      const since_ms = performance.now();
      for (let n = 0; n < 30; n++) {
        await busy.rows('UPDATE carillon.outbound_call_runs SET name = $2, last_error = $3 WHERE run_id = $1', [
          run.run_id,
          `Version ${n}`,
          'x'.repeat(1_000_000),
        ]);
        waker.wake(someone.business_id);
        expect((await reader.next()).data.name).toBe(`Version ${n}`);
      }
      // Thirty of a megabyte each were told to the one who reads. For the other no more are read than the sockets of
      // the system hold, which is some megabytes, and one on its way.
      const reads = counted.connections().taken - taken;
      // Each second the server also looks, in three statements, whether the database is the one that it knows.
      const looks = 3 * Math.ceil((performance.now() - since_ms) / 1_000);
      expect(reads).toBeGreaterThan(0);
      expect(reads - looks).toBeLessThan(15);
    } finally {
      await waker.close();
      await slow.close();
      await beside.close();
      await counted.close();
      await busy.close();
    }
  });
});

describe('the end of the process', () => {
  it('ends every stream, and does not wait for their clients', async () => {
    const closing = await createFixture({ api_limits: { close_wait_ms: 60_000 } });
    const at = await listen(closing.app);
    const someone = await createCaller(closing);
    const run = await startRun(closing, someone);
    const stream = await followed(run.run_id, undefined, at, someone.agent);
    await stream.next();
    await closing.close();
    await stream.end();
    expect(stream.events).toHaveLength(1);
  });
});

it('a revoked key can open no stream', async () => {
  const run = await startRun(fixture, caller);
  const { key } = await createKey(
    fixture.db,
    caller.business_id,
    { role: 'agent', expires_at: new Date('2020-01-01T00:00:00Z') },
    localActor('test'),
  );
  const stream = await followed(run.run_id, undefined, url, key);
  expect(stream.status).toBe(401);
});
