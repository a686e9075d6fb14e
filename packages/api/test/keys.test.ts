import { createSystemKey, localActor } from '@carillon/engine';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { accountBody, type Caller, createCaller, createFixture, type Fixture, startRun } from './support/api.ts';

let fixture: Fixture;
let caller: Caller;
let system: string;
beforeAll(async () => {
  fixture = await createFixture();
  caller = await createCaller(fixture);
  system = (await createSystemKey(fixture.db, {}, localActor('test'))).key;
});
afterAll(async () => await fixture.close());

const post = (key: string, url: string, payload: object = {}) => fixture.ask(key, 'POST', url, { payload });

describe('keys over HTTP', () => {
  it('are made by an owner, open with their role, and are shown once', async () => {
    const expires_at = '2099-01-01T00:00:00.000Z';
    const made = await post(caller.owner, '/api/keys', { role: 'admin', label: 'CRM', expires_at });
    expect(made).toMatchObject({ status: 201, json: { role: 'admin', label: 'CRM', state: 'valid', expires_at } });
    const key = String(made.json.key);
    expect((await post(key, '/api/lists', { name: 'x' })).status).toBe(201);
    expect((await post(key, '/api/keys', { role: 'agent' })).status).toBe(403);
    const listed = await fixture.ask(caller.owner, 'GET', '/api/keys?limit=1');
    const { key: _, ...shown } = made.json;
    expect(listed.json).toEqual({ items: [shown], next: String(made.json.key_id) });
    expect(JSON.stringify(fixture.logs)).not.toContain(key.slice(-32));
  });

  it('are refused without a role, with a stronger one than an owner has, and with a time that is over', async () => {
    for (const body of [
      {},
      { role: 'system_admin' },
      { role: 'root' },
      { role: 'agent', expires_at: '2020-01-01T00:00:00Z' },
      { role: 'agent', label: 'x'.repeat(201) },
      { role: 'agent', entered_by: 1 },
    ])
      expect(await post(caller.owner, '/api/keys', body)).toMatchObject({
        status: 422,
        json: { code: 'invalid_request' },
      });
  });

  it('open nothing once revoked, and may be revoked again', async () => {
    const { json } = await post(caller.owner, '/api/keys', { role: 'agent' });
    for (let n = 0; n < 2; n++) {
      const revoked = await post(caller.owner, `/api/keys/${json.key_id}/revoke`);
      expect(revoked).toMatchObject({ status: 200, json: { key_id: json.key_id, state: 'revoked' } });
      expect(revoked.text).not.toContain(String(json.key).slice(-32));
    }
    expect((await fixture.ask(String(json.key), 'GET', '/api/lists')).status).toBe(401);
  });

  it('stay when they are the last with which an owner comes in', async () => {
    const [, , key_id] = caller.owner.split('_');
    const last = await post(caller.owner, `/api/keys/${key_id}/revoke`);
    expect(last).toMatchObject({ status: 409, json: { code: 'last_owner_key' } });
    expect((await fixture.ask(caller.owner, 'GET', '/api/keys')).status).toBe(200);
  });
});

describe('a system administrator', () => {
  it('makes a business with its owner, and sees what it is called and nothing in it', async () => {
    const made = await post(system, '/api/businesses', { name: 'New clinic', language: 'en' });
    expect(made.status).toBe(201);
    expect((await fixture.ask(String(made.json.key), 'GET', '/api/keys')).status).toBe(200);
    const listed = await fixture.ask(system, 'GET', '/api/businesses?limit=500');
    expect(listed.json.items).toContainEqual({ business_id: made.json.business_id, name: 'New clinic' });
    expect(await fixture.ask(system, 'GET', '/api/outbound/runs')).toMatchObject({
      status: 403,
      json: { code: 'business_not_entered' },
    });
  });

  it('enters one with a reason, does there what an owner does, and leaves it by itself', async () => {
    const run = await startRun(fixture, caller);
    const entry = await post(system, `/api/businesses/${caller.business_id}/enter`, { reason: 'ticket 4711' });
    expect(entry).toMatchObject({ status: 201, json: { business_id: caller.business_id } });
    const key = String(entry.json.key);
    expect((await fixture.ask(key, 'GET', `/api/outbound/runs/${run.run_id}`)).status).toBe(200);
    expect((await post(key, '/api/carrier_accounts', accountBody())).status).toBe(201);
    expect((await post(key, `/api/outbound/runs/${run.run_id}/pause`)).status).toBe(200);
    // It stands among the business's keys, is no way to the installation, and the owner may end it.
    const { json } = await fixture.ask(caller.owner, 'GET', '/api/keys?limit=1');
    const [, , system_key_id] = system.split('_');
    expect(json.items).toMatchObject([
      { key_id: entry.json.key_id, role: 'system_admin', entered_by: Number(system_key_id) },
    ]);
    expect((await fixture.ask(key, 'GET', '/api/businesses')).status).toBe(403);
    expect((await post(caller.owner, `/api/keys/${entry.json.key_id}/revoke`)).status).toBe(200);
    expect((await fixture.ask(key, 'GET', '/api/outbound/runs')).status).toBe(401);
  });

  it('is named in the trail of the business as the one who did it', async () => {
    const [, , system_key_id] = system.split('_');
    const events = await fixture.rows<{ action: string; source: string; after: object }>(
      // What was refused to the entry is written in its own time.
      `SELECT action, source, after FROM carillon.audit_events
       WHERE business_id = $1 AND actor = $2 AND kind = 'change' ORDER BY event_id`,
      [caller.business_id, `system_admin:${system_key_id}`],
    );
    expect(events.map(({ action }) => action)).toEqual([
      'key.created',
      'business.entered',
      'carrier_account.created',
      'run.paused',
    ]);
    expect(events[1]).toMatchObject({ source: '127.0.0.1', after: { reason: 'ticket 4711' } });
  });

  it('must say why, in words, and for eight hours at most', async () => {
    for (const body of [{}, { reason: 'x' }, { reason: 'ticket 4711', minutes: 481 }, { reason: 'call 0521234567' }])
      expect(await post(system, `/api/businesses/${caller.business_id}/enter`, body)).toMatchObject({
        status: 422,
        json: { code: 'invalid_request' },
      });
    expect(await post(system, '/api/businesses/987654/enter', { reason: 'ticket 4711' })).toMatchObject({
      status: 404,
      json: { code: 'business_not_found' },
    });
  });

  it('reads the security report by pages', async () => {
    const { status, json } = await fixture.ask(system, 'GET', '/api/security_events?limit=1');
    expect(status).toBe(200);
    expect(Object.keys(json).toSorted()).toEqual(['items', 'next', 'shared_numbers']);
    expect((await fixture.ask(system, 'GET', '/api/security_events?after=x')).status).toBe(422);
  });
});
