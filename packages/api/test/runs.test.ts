import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  accountBody,
  type Caller,
  claimAttempts,
  createCaller,
  createFixture,
  createTenant,
  type Fixture,
  startRun,
} from './support/api.ts';

let fixture: Fixture;
let caller: Caller;
beforeAll(async () => {
  fixture = await createFixture();
  caller = await createCaller(fixture);
});
afterAll(async () => await fixture.close());

const START = '/api/outbound_calls/start';
const start = (payload: object, headers: Record<string, string> = {}) =>
  fixture.ask(caller.admin, 'POST', START, { payload, headers });

async function leadIds(): Promise<number[]> {
  const { json } = await fixture.ask(caller.agent, 'GET', `/api/lists/${caller.list_id}/leads`);
  return (json.items as { lead_id: number }[]).map((lead) => lead.lead_id);
}

describe('starting a run', () => {
  it('answers 201 with the run, made by this key', async () => {
    const { status, json } = await start({ list_id: caller.list_id, name: 'Autumn', concurrency: 2 });
    expect(status).toBe(201);
    expect(json).toMatchObject({
      name: 'Autumn',
      status: 'pending',
      total_leads: 3,
      queued: 3,
      concurrency: 2,
      list_id: caller.list_id,
      carrier_account_id: caller.carrier_account_id,
      created_by: expect.stringMatching(/^key:\d+$/),
      can_cancel: true,
    });
    const one = await fixture.ask(caller.agent, 'GET', `/api/outbound/runs/${json.run_id}`);
    expect(one.json).toEqual(json);
    const all = await fixture.ask(caller.agent, 'GET', '/api/outbound/runs?limit=1');
    expect(all.json.items).toEqual([json]);
  });

  it('makes one run of two requests at once under one key, and says which one was a repetition', async () => {
    const headers = { 'idempotency-key': 'pressed twice' };
    const body = { lead_ids: await leadIds(), name: 'Twice' };
    const answers = await Promise.all([start(body, headers), start(body, headers)]);
    expect(answers.map(({ status }) => status)).toEqual([201, 201]);
    expect(new Set(answers.map(({ json }) => json.run_id)).size).toBe(1);
    expect(answers.filter((answer) => answer.headers['idempotency-replayed'] === 'true')).toHaveLength(1);
    const runs = await fixture.rows("SELECT 1 FROM carillon.outbound_call_runs WHERE name = 'Twice'");
    expect(runs).toHaveLength(1);

    const another = await start({ ...body, name: 'Thrice' }, headers);
    expect(another.status).toBe(409);
    expect(another.json.code).toBe('idempotency_conflict');
  });

  it('does not share keys between businesses', async () => {
    const other = await createCaller(fixture);
    const headers = { 'idempotency-key': 'the same in both' };
    const mine = await start({ list_id: caller.list_id }, headers);
    const theirs = await fixture.ask(other.admin, 'POST', START, { payload: { list_id: other.list_id }, headers });
    expect([mine.status, theirs.status]).toEqual([201, 201]);
    expect(theirs.json.run_id).not.toBe(mine.json.run_id);
  });

  it('passes on the refusal of the database when a lead stands twice, by the name of its constraint', async () => {
    const [first = 0] = await leadIds();
    const { status, json } = await start({ lead_ids: [first, first], name: 'Doubled' });
    expect(status).toBe(409);
    expect(json).toMatchObject({ code: 'duplicate_lead', details: { constraint: 'unique_run_lead' } });
    expect(await fixture.rows("SELECT 1 FROM carillon.outbound_call_runs WHERE name = 'Doubled'")).toEqual([]);
  });

  it('takes a list or leads, not both and not neither', async () => {
    for (const body of [{}, { list_id: caller.list_id, lead_ids: await leadIds() }]) {
      const { status, json } = await start(body);
      expect(status).toBe(422);
      expect(json).toMatchObject({
        code: 'invalid_request',
        details: { problem: 'Give one of list_id, lead_ids and from_run.' },
      });
    }
  });

  it('names a field that it does not know, and where a wrong one stands', async () => {
    const { json } = await start({ list_id: caller.list_id, concurency: 3, answer: { say: '' } });
    expect(json.error).toContain('Unrecognized key: "concurency"');
    expect(json.error).toContain('answer.say: Too small');
    expect(json.details).toMatchObject({ in: 'body', issues: [{ path: ['answer', 'say'] }, { path: [] }] });
  });

  it('refuses an empty list, a business without an account, and one with several that names none', async () => {
    const empty = await fixture.ask(caller.admin, 'POST', '/api/lists', { payload: { name: 'Nobody' } });
    expect((await start({ list_id: empty.json.list_id })).json.code).toBe('list_empty');

    const poor = await createTenant(fixture);
    const lead = await fixture.ask(poor.admin, 'POST', '/api/leads', { payload: { phone: '0501234567' } });
    const payload = { lead_ids: [lead.json.lead_id] };
    const asked = async () => (await fixture.ask(poor.admin, 'POST', START, { payload })).json.code;
    expect(await asked()).toBe('no_carrier_account');
    for (const name of ['one', 'two'])
      await fixture.ask(poor.owner, 'POST', '/api/carrier_accounts', { payload: accountBody({ name }) });
    expect(await asked()).toBe('carrier_account_ambiguous');
  });

  it('starts a draft when it is resumed, and not before', async () => {
    const draft = await startRun(fixture, caller, { draft: true });
    expect(draft.status).toBe('draft');
    const { json } = await fixture.ask(caller.admin, 'POST', `/api/outbound/runs/${draft.run_id}/resume`);
    expect(json).toMatchObject({ status: 'pending', total_leads: 3 });
  });
});

describe('stopping and pausing', () => {
  it('stops a run, and counts what is in flight', async () => {
    const run = await startRun(fixture, caller);
    const attempts = await claimAttempts(fixture, run.run_id);
    const payload = { run_id: run.run_id, live_calls: 'hang_up' };
    const { status, json } = await fixture.ask(caller.admin, 'POST', '/api/outbound/stop-queue', { payload });
    expect(status).toBe(200);
    expect(json).toMatchObject({
      status: 'cancelling',
      in_flight: attempts.length,
      cancelled: 3 - attempts.length,
      cancel_requested: true,
    });
    const flagged = await fixture.rows('SELECT hang_up FROM carillon.open_attempts WHERE run_id = $1', [run.run_id]);
    expect(flagged).toEqual(attempts.map(() => ({ hang_up: 'run' })));
  });

  it('pauses with and without a body, even one that claims to be JSON and is empty', async () => {
    const run = await startRun(fixture, caller);
    const pause = `/api/outbound/runs/${run.run_id}/pause`;
    const bare = await fixture.ask(caller.admin, 'POST', pause);
    expect(bare.json).toMatchObject({ status: 'paused', in_flight: 0 });
    const empty = await fixture.ask(caller.admin, 'POST', pause, { headers: { 'content-type': 'application/json' } });
    expect(empty.status).toBe(200);
    const full = await fixture.ask(caller.admin, 'POST', pause, { payload: { live_calls: 'hang_up' } });
    expect(full.status).toBe(200);
    const wrong = await fixture.ask(caller.admin, 'POST', pause, { payload: { live_calls: 'explode' } });
    expect(wrong.json).toMatchObject({ code: 'invalid_request' });
    const { json } = await fixture.ask(caller.admin, 'POST', `/api/outbound/runs/${run.run_id}/resume`);
    expect(json.status).toBe('pending');
  });

  it('says in which state a run is that can no more be stopped, paused or resumed', async () => {
    const run = await startRun(fixture, caller);
    await fixture.ask(caller.admin, 'POST', '/api/outbound/stop-queue', { payload: { run_id: run.run_id } });
    for (const verb of ['pause', 'resume']) {
      const { status, json } = await fixture.ask(caller.admin, 'POST', `/api/outbound/runs/${run.run_id}/${verb}`);
      expect(status).toBe(409);
      expect(json).toMatchObject({ code: 'run_state_conflict', details: { status: 'cancelled' } });
    }
    const again = await fixture.ask(caller.admin, 'POST', '/api/outbound/stop-queue', {
      payload: { run_id: run.run_id },
    });
    expect(again.json).toMatchObject({ status: 'cancelled', in_flight: 0 });
  });
});

describe('jobs', () => {
  it('gives them in pages, by state, and each with its attempts', async () => {
    const fresh = await createCaller(fixture);
    const run = await startRun(fixture, fresh, { concurrency: 1 });
    const [attempt] = await claimAttempts(fixture, run.run_id);
    const jobs = `/api/outbound/runs/${run.run_id}/jobs`;
    const first = await fixture.ask(fresh.agent, 'GET', `${jobs}?limit=2`);
    expect(first.json).toMatchObject({
      items: [{ job_id: `${run.run_id}-1` }, { job_id: `${run.run_id}-2` }],
      next: '2',
    });
    const second = await fixture.ask(fresh.agent, 'GET', `${jobs}?limit=2&after=${first.json.next}`);
    expect(second.json).toMatchObject({ items: [{ job_id: `${run.run_id}-3` }], next: null });
    const busy = await fixture.ask(fresh.agent, 'GET', `${jobs}?status=in_progress`);
    expect(busy.json.items).toMatchObject([{ job_id: `${run.run_id}-1`, status: 'in_progress', attempts: 1 }]);
    const one = await fixture.ask(fresh.agent, 'GET', `${jobs}/${run.run_id}-1`);
    expect(one.json).toMatchObject({
      phone: attempt?.to,
      attempts_made: [{ attempt_no: 1, state: 'dialing', from: '+97231110000', outcome: null }],
    });
    expect(one.text).not.toContain(attempt?.token);
  });

  it('finds no job of one run under another', async () => {
    const [one, two] = [await startRun(fixture, caller), await startRun(fixture, caller)];
    const jobs = (run: number, job: number) => `/api/outbound/runs/${run}/jobs/${job}-1`;
    expect((await fixture.ask(caller.agent, 'GET', jobs(one.run_id, one.run_id))).status).toBe(200);
    const crossed = await fixture.ask(caller.agent, 'GET', jobs(one.run_id, two.run_id));
    expect(crossed).toMatchObject({ status: 404, json: { code: 'job_not_found' } });
  });

  it('cancels one by its id, and answers with it', async () => {
    const run = await startRun(fixture, caller);
    const { status, json } = await fixture.ask(caller.admin, 'POST', `/api/outbound_calls/jobs/${run.run_id}-2/cancel`);
    expect(status).toBe(200);
    expect(json).toMatchObject({ job_id: `${run.run_id}-2`, status: 'cancelled', attempts_made: [] });
    const after = await fixture.ask(caller.agent, 'GET', `/api/outbound/runs/${run.run_id}`);
    expect(after.json).toMatchObject({ status: 'pending', queued: 2, cancelled: 1 });
  });

  it('takes a bare number there for a run, as older clients mean it, and stops that', async () => {
    const run = await startRun(fixture, caller);
    const { status, json } = await fixture.ask(caller.admin, 'POST', `/api/outbound_calls/jobs/${run.run_id}/cancel`);
    expect(status).toBe(200);
    expect(json).toMatchObject({ run_id: run.run_id, status: 'cancelled', cancelled: 3, in_flight: 0 });
  });

  it('says in which state a job is that can no more be cancelled', async () => {
    const run = await startRun(fixture, caller);
    await fixture.rows(`UPDATE carillon.outbound_call_jobs SET status = 'completed' WHERE run_id = $1 AND seq = 1`, [
      run.run_id,
    ]);
    const { status, json } = await fixture.ask(caller.admin, 'POST', `/api/outbound_calls/jobs/${run.run_id}-1/cancel`);
    expect(status).toBe(409);
    expect(json).toMatchObject({ code: 'job_state_conflict', details: { status: 'completed' } });
  });
});

describe('counts', () => {
  it('tells what is live, queued and finished, against the limits', async () => {
    const fresh = await createCaller(fixture);
    const run = await startRun(fixture, fresh, { concurrency: 1 });
    await claimAttempts(fixture, run.run_id);
    const { json } = await fixture.ask(fresh.agent, 'GET', '/api/outbound_calls/counts');
    expect(json).toEqual({ live: 1, queued: 2, finished_today: 0, concurrency_limit: 100 });
  });
});
