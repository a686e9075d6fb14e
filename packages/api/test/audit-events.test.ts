import type { AuditEvent } from '@carillon/contract';
import { createKey, localActor } from '@carillon/engine';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { withClient } from '../../../test/support/test-server.ts';
import { until } from '../../../test/support/wait.ts';
import {
  accountBody,
  type Caller,
  callbackPath,
  claimAttempts,
  createCaller,
  createFixture,
  type Fixture,
  signed,
  startRun,
  statusForm,
} from './support/api.ts';

let fixture: Fixture;
let caller: Caller;
let stranger: Caller;
beforeAll(async () => {
  fixture = await createFixture({ api_limits: { security_gather_ms: 10, security_strangers_gather_ms: 10 } });
  caller = await createCaller(fixture);
  stranger = await createCaller(fixture);
});
afterAll(async () => await fixture.close());

async function trailOf(key: string, query = ''): Promise<AuditEvent[]> {
  const { status, json, text } = await fixture.ask(key, 'GET', `/api/audit_events?limit=500&${query}`);
  if (status !== 200) throw new Error(text);
  return json.items as AuditEvent[];
}

const actions = (events: AuditEvent[]) => events.map(({ action }) => action);

describe('GET /api/audit_events', () => {
  it('tells who did what to a run, when and from where, newest first', async () => {
    const run = await startRun(fixture, caller);
    const url = `/api/outbound/runs/${run.run_id}`;
    const paused = await fixture.ask(caller.admin, 'POST', `${url}/pause`);
    await fixture.ask(caller.owner, 'POST', `${url}/resume`);
    await fixture.ask(caller.admin, 'POST', `/api/outbound_calls/jobs/${run.run_id}-1/cancel`);
    await fixture.ask(caller.admin, 'POST', '/api/outbound/stop-queue', { payload: { run_id: run.run_id } });

    const events = await trailOf(caller.owner, `run_id=${run.run_id}`);
    expect(actions(events)).toEqual(['run.cancelled', 'run.resumed', 'run.paused', 'run.created']);
    expect(events[2]).toEqual({
      event_id: expect.any(Number),
      kind: 'change',
      action: 'run.paused',
      actor: `key:${caller.admin.split('_')[2]}`,
      user_id: null,
      source: '127.0.0.1',
      request_id: paused.headers['x-request-id'],
      subject: { type: 'run', id: String(run.run_id) },
      before: { status: 'pending', control_epoch: 0 },
      after: { status: 'paused', control_epoch: 1, live_calls: 'drain' },
      at: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
    });
    const job = await trailOf(caller.owner, `subject_type=job&subject_id=${run.run_id}-1`);
    expect(job).toMatchObject([
      { action: 'job.cancelled', before: { status: 'queued' }, after: { status: 'cancelled' } },
    ]);
    expect(events).toEqual(await trailOf(caller.owner, `subject_type=run&subject_id=${run.run_id}`));
  });

  it('tells of accounts, halts and businesses', async () => {
    const { business_id, owner, carrier_account_id } = await createCaller(fixture);
    const of_account = `subject_type=carrier_account&subject_id=${carrier_account_id}`;
    const resume = () => fixture.ask(owner, 'POST', `/api/carrier_accounts/${carrier_account_id}/resume`);
    await resume();
    expect(actions(await trailOf(owner, of_account))).toEqual(['carrier_account.created']);
    await fixture.rows(`UPDATE carillon.lanes SET halted_reason = '20003' WHERE business_id = $1`, [business_id]);
    await resume();
    expect(await trailOf(owner, of_account)).toMatchObject([
      { action: 'lane.resumed', before: { halted_reason: '20003' }, after: { halted_reason: null } },
      { action: 'carrier_account.created', after: { driver: 'twilio', from_numbers: 1 } },
    ]);
    expect(await trailOf(owner, 'action=business.created')).toMatchObject([
      { subject: { type: 'business', id: String(business_id) }, after: { country: 'IL', language: 'en' } },
    ]);
  });

  it('filters by kind and by action', async () => {
    const refused = await fixture.ask(caller.agent, 'GET', '/api/audit_events');
    expect(refused.status).toBe(403);
    const request_id = refused.headers['x-request-id'];
    await until(async () => (await trailOf(caller.owner, 'kind=security')).some((e) => e.request_id === request_id), {
      deadline_ms: 30_000,
    });
    const all = await trailOf(caller.owner);
    const of_kind = await trailOf(caller.owner, 'kind=security');
    expect(of_kind).toEqual(all.filter(({ kind }) => kind === 'security'));
    const of_action = await trailOf(caller.owner, 'action=key.created');
    expect(of_action).toEqual(all.filter(({ action }) => action === 'key.created'));
    expect(of_action.length).toBeGreaterThan(1);
    expect(await trailOf(caller.owner, 'kind=security&action=key.created')).toEqual([]);
    expect(await trailOf(caller.owner, `kind=security&run_id=1`)).toEqual([]);
  });

  it('comes in pages, whatever the filter', async () => {
    for (const query of ['', 'kind=change&', 'action=key.created&', 'subject_type=list&subject_id=1&']) {
      const all = await trailOf(caller.owner, query);
      const paged: AuditEvent[] = [];
      let next: string | null = '';
      while (next !== null) {
        const cursor: string = next === '' ? '' : `&after=${next}`;
        const { json } = await fixture.ask(caller.owner, 'GET', `/api/audit_events?${query}limit=2${cursor}`);
        paged.push(...(json.items as AuditEvent[]));
        next = json.next as string | null;
      }
      expect(paged).toEqual(all);
      expect(all.map(({ event_id }) => event_id)).toEqual(
        all.map(({ event_id }) => event_id).toSorted((one, other) => other - one),
      );
    }
  });

  it('tells nothing of another business, and of its things what it tells of nothing', async () => {
    const run = await startRun(fixture, stranger);
    expect(await trailOf(caller.owner, `run_id=${run.run_id}`)).toEqual([]);
    const own = new Set((await trailOf(caller.owner)).map(({ event_id }) => event_id));
    for (const { event_id } of await trailOf(stranger.owner)) expect(own.has(event_id)).toBe(false);
  });

  it.each([
    'kind=other',
    'action=run.flown',
    'subject_type=run',
    'subject_id=1',
    'run_id=x',
    'run_id=1&subject_type=run&subject_id=1',
    'subject_type=run&subject_id=%00',
    'after=-1',
    'limit=501',
  ])('refuses ?%s in words', async (query) => {
    const { status, json } = await fixture.ask(caller.owner, 'GET', `/api/audit_events?${query}`);
    expect({ status, code: json.code }).toEqual({ status: 422, code: 'invalid_request' });
  });
});

describe('the trail', () => {
  const NUMBER = '972541237654';
  const NAMES = ['Plantedname', 'פלונית'];
  const TOKEN = 'planted-secret-of-the-account';

  it('holds no number, name, key or token of a whole run with its mishaps', async () => {
    const own = await createCaller(fixture);
    const list = await fixture.ask(own.admin, 'POST', '/api/lists', { payload: { name: NAMES[0] } });
    const payload = ['phone,name', `+${NUMBER},${NAMES[0]}`, `0541237655,${NAMES[1]}`, `99,${NAMES[1]}`].join('\n');
    const import_url = `/api/lists/${Number(list.json.list_id)}/import`;
    await fixture.ask(own.admin, 'POST', import_url, { headers: { 'content-type': 'text/csv' }, payload });
    await fixture.ask(own.admin, 'POST', '/api/leads', { payload: { phone: '0541237656', name: NAMES[0] } });
    await fixture.ask(own.admin, 'POST', '/api/leads', { payload: { phone: 'x', name: NAMES[0] } });
    const account = accountBody({ name: NAMES[0], auth_token: TOKEN, from_numbers: [`+${NUMBER}`] });
    const { json } = await fixture.ask(own.owner, 'POST', '/api/carrier_accounts', { payload: account });
    const labelled = { role: 'admin' as const, label: NAMES[0] };
    const { key } = await createKey(fixture.db, own.business_id, labelled, localActor('test'));

    const run = await startRun(fixture, own, {
      name: NAMES[0],
      list_id: Number(list.json.list_id),
      carrier_account_id: Number(json.carrier_account_id),
      answer: { say: NAMES[1], language: 'he-IL' },
    });
    const [first, second] = await claimAttempts(fixture, run.run_id);
    if (!first || !second) throw new Error('two are wanted');
    const tell = async (path: string, status: string, secret = TOKEN, call_id = 'CA1') =>
      await fixture.ask(null, 'POST', path, signed(path, statusForm(call_id, status, { To: `+${NUMBER}` }), secret));
    await tell(callbackPath('status', first), 'ringing');
    await tell(callbackPath('status', first), 'completed', 'guessed');
    await tell(callbackPath('status', { ...first, token: 'C'.repeat(22) }), 'ringing', TOKEN, 'CA7');
    await fixture.ask(own.owner, 'POST', `/api/outbound_calls/jobs/${run.run_id}-2/cancel`);
    await fixture.ask(own.owner, 'POST', `/api/outbound/runs/${run.run_id}/pause`, {
      payload: { live_calls: 'hang_up' },
    });
    await fixture.ask(key, 'GET', `/api/outbound/runs/${NUMBER}`);
    await fixture.ask(key, 'POST', '/api/outbound/stop-queue', { payload: { run_id: Number(NUMBER) } });
    await fixture.ask(key, 'GET', `/api/audit_events?subject_id=${NUMBER}`);
    await fixture.ask(`${key}x`, 'GET', '/api/lists');
    await fixture.ask(null, 'GET', `/api/lists?phone=${NUMBER}&key=${key}`);
    await fixture.ask(own.owner, 'POST', '/api/outbound/stop-queue', { payload: { run_id: run.run_id } });
    await tell(callbackPath('status', first), 'completed');
    await tell(callbackPath('status', second), 'canceled', TOKEN, 'CA2');

    const security = async () => (await trailOf(own.owner, 'kind=security')).length;
    // The forgotten call, the two numbers taken for runs, and the role that may not read the trail.
    await until(async () => (await security()) >= 4, { deadline_ms: 30_000, what: 'the security events' });
    await until(
      async () => (await fixture.rows(`SELECT FROM carillon.installation_events WHERE kind = 'security'`)).length >= 3,
      { deadline_ms: 30_000, what: "the strangers' events" },
    );
    expect(actions(await trailOf(own.owner))).toEqual(
      expect.arrayContaining([
        'business.created',
        'key.created',
        'carrier_account.created',
        'lane.halted',
        'job.cancelled',
        'run.created',
        'run.started',
        'run.paused',
        'run.cancel_requested',
        'run.cancelled',
        'list.created',
        'list.imported',
        'lead.created',
        'access.forgotten_call',
        'access.id_not_visible',
        'access.forbidden',
      ]),
    );

    const rows = await fixture.rows<{ row: string }>(
      `SELECT (to_jsonb(e) - 'request_id')::text AS row FROM carillon.audit_events e
       UNION ALL SELECT (to_jsonb(e) - 'request_id')::text FROM carillon.installation_events e`,
    );
    const secrets = [own.owner, own.admin, own.agent, key].map((one) => one.slice(-32));
    const planted = [
      '41237654',
      '41237655',
      '41237656',
      ...NAMES,
      TOKEN,
      first.token,
      second.token,
      'C'.repeat(22),
      ...secrets,
    ];
    for (const { row } of rows) {
      for (const secret of planted) expect(row).not.toContain(secret);
      expect(row).not.toMatch(/\+\d{7}|\b0\d{8}|\bck_/);
    }
    expect(rows.length).toBeGreaterThan(20);
  });

  it('can not be changed or removed by the application', async () => {
    const before = await fixture.rows('SELECT count(*) FROM carillon.audit_events');
    for (const table of ['audit_events', 'installation_events'])
      for (const sql of [
        `UPDATE carillon.${table} SET actor = 'x'`,
        `DELETE FROM carillon.${table}`,
        `TRUNCATE carillon.${table}`,
      ])
        await expect(asApplication(sql), sql).rejects.toMatchObject({ code: '42501' });
    expect(await fixture.rows('SELECT count(*) FROM carillon.audit_events')).toEqual(before);
  });
});

async function asApplication(sql: string): Promise<void> {
  await withClient(fixture.appUrl, async (client) => {
    await client.query('BEGIN');
    await client.query(`SET LOCAL carillon.business_id = '${caller.business_id}'`);
    await client.query(sql);
  });
}
