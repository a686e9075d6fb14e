import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Caller, createCaller, createFixture, type Fixture, startRun } from './support/api.ts';
import { ABSENT } from './support/world.ts';

/** The calls that clients of older systems make, as they make them. */

let fixture: Fixture;
let caller: Caller;
let stranger: Caller;
beforeAll(async () => {
  fixture = await createFixture();
  caller = await createCaller(fixture);
  stranger = await createCaller(fixture);
});
afterAll(async () => await fixture.close());

const post = (url: string, payload: object | undefined, headers: Record<string, string> = {}) =>
  fixture.ask(caller.admin, 'POST', url, { ...(payload ? { payload } : {}), headers });

/** What older clients read of a run. */
const FIELDS =
  'run_id status total_leads queued in_progress completed failed cursor_position concurrency last_error created_at ' +
  'created_by_user_id started_at ended_at cancel_requested can_cancel locked_by_worker lock_ts';

describe('a client of an older system', () => {
  it('starts a run over leads, whose ids it may send as texts, and reads it', async () => {
    const { json } = await fixture.ask(caller.agent, 'GET', `/api/lists/${caller.list_id}/leads`);
    const lead_ids = (json.items as { lead_id: number }[]).map(({ lead_id }) => String(lead_id));
    const started = await post('/api/outbound_calls/start', { lead_ids });
    expect(started).toMatchObject({ status: 201, json: { total_leads: 3, queued: 3, can_cancel: true } });
    expect(started.json.run_id).toEqual(expect.any(Number));
    const one = await fixture.ask(caller.agent, 'GET', `/api/outbound/runs/${started.json.run_id}`);
    expect(FIELDS.split(' ').filter((field) => !(field in one.json))).toEqual([]);
    const all = await fixture.ask(caller.agent, 'GET', '/api/outbound/runs');
    expect(all.json.items).toContainEqual(one.json);
  });

  it('stops a run as a queue, and by its id where a job is cancelled', async () => {
    const [first, second] = [await startRun(fixture, caller), await startRun(fixture, caller)];
    expect(await post('/api/outbound/stop-queue', { run_id: String(first.run_id) })).toMatchObject({
      status: 200,
      json: { run_id: first.run_id, status: 'cancelled', cancel_requested: true, can_cancel: false },
    });
    expect(await post(`/api/outbound_calls/jobs/${second.run_id}/cancel`, undefined)).toMatchObject({
      status: 200,
      json: { run_id: second.run_id, status: 'cancelled', in_flight: 0 },
    });
    const again = await post(`/api/outbound_calls/jobs/${second.run_id}/cancel`, {});
    expect(again).toMatchObject({ status: 200, json: { status: 'cancelled' } });
  });

  it('cancels one job of a run, which goes on', async () => {
    const run = await startRun(fixture, caller);
    const cancelled = await post(`/api/outbound_calls/jobs/${run.run_id}-2/cancel`, undefined);
    expect(cancelled).toMatchObject({ status: 200, json: { job_id: `${run.run_id}-2`, status: 'cancelled' } });
    const { json } = await fixture.ask(caller.agent, 'GET', `/api/outbound/runs/${run.run_id}`);
    expect(json).toMatchObject({ status: 'pending', queued: 2, cancelled: 1 });
  });

  it('settles what is stuck, and counts its calls', async () => {
    const run = await startRun(fixture, caller);
    expect((await post('/api/outbound/runs/reconcile', { run_id: run.run_id })).status).toBe(200);
    expect((await post('/api/outbound/runs/reconcile', undefined)).status).toBe(200);
    const counts = await fixture.ask(caller.agent, 'GET', '/api/outbound_calls/counts');
    expect(counts).toMatchObject({
      status: 200,
      json: { live: 0, queued: expect.any(Number), finished_today: expect.any(Number), concurrency_limit: 100 },
    });
  });

  it("hears the same of another business's run as of one that is not there, in the words that it knows", async () => {
    const foreign = await startRun(fixture, stranger);
    const calls: [string, object | undefined, string, string, string][] = [
      [`/api/outbound_calls/jobs/ID/cancel`, undefined, 'run_not_found', 'Run not found', 'הרצה לא נמצאה'],
      [`/api/outbound/runs/ID/pause`, undefined, 'run_not_found', 'Run not found', 'הרצה לא נמצאה'],
      ['/api/outbound/runs/reconcile', {}, 'run_not_found', 'Run not found', 'הרצה לא נמצאה'],
      ['/api/outbound/stop-queue', {}, 'queue_not_found', 'No access to this queue', 'אין גישה לתור זה'],
    ];
    for (const [url, payload, code, en, he] of calls)
      for (const run_id of [foreign.run_id, ABSENT])
        for (const [language, error] of Object.entries({ en, he })) {
          const body = payload && { run_id };
          const answer = await post(url.replace('ID', String(run_id)), body, { 'accept-language': language });
          expect(answer).toMatchObject({ status: 404, json: { code, error } });
        }
    expect(await fixture.ask(stranger.agent, 'GET', `/api/outbound/runs/${foreign.run_id}`)).toMatchObject({
      json: { status: 'pending', cancel_requested: false },
    });
  });
});
