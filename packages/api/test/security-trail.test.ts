import { createKey, createSystemKey, localActor, revokeKey } from '@carillon/engine';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { withClient } from '../../../test/support/test-server.ts';
import { until } from '../../../test/support/wait.ts';
import { createSecurityTrail } from '../src/security-trail.ts';
import {
  type Caller,
  callbackPath,
  claimAttempts,
  createCaller,
  createFixture,
  type Fixture,
  securityLines,
  signed,
  startRun,
  statusForm,
} from './support/api.ts';

const actor = localActor('test');
const QUICK = { security_gather_ms: 10, security_strangers_gather_ms: 10 };
const PATIENT = { security_gather_ms: 3_600_000, security_strangers_gather_ms: 3_600_000 };

let fixture: Fixture;
let caller: Caller;
let stranger: Caller;
beforeAll(async () => {
  fixture = await createFixture({ api_limits: QUICK });
  caller = await createCaller(fixture);
  stranger = await createCaller(fixture);
});
afterAll(async () => await fixture.close());

interface Event {
  action: string;
  actor: string;
  source: string | null;
  request_id: string | null;
  subject_type: string | null;
  subject_id: string | null;
  after: Record<string, unknown>;
  times: number;
}

const ofBusiness = async (business_id: number, on = fixture) =>
  await on.rows<Event>(
    `SELECT * FROM carillon.audit_events WHERE business_id = $1 AND kind = 'security' ORDER BY event_id`,
    [business_id],
  );
const ofInstallation = async (on = fixture) =>
  await on.rows<Event>(`SELECT * FROM carillon.installation_events WHERE kind = 'security' ORDER BY event_id`);

/** The event that a request left, once it is written. */
async function eventOf(read: () => Promise<Event[]>, request_id: unknown): Promise<Event> {
  return await until(async () => (await read()).find((event) => event.request_id === request_id), {
    deadline_ms: 30_000,
    what: `the event of request ${String(request_id)}`,
  });
}

const askedBy = ({ headers }: { headers: Record<string, unknown> }) => headers['x-request-id'];
const keyIdOf = (key: string) => `key:${key.split('_')[2]}`;

describe('in the trail of the business whose key it was', () => {
  it('stands what a role may not do', async () => {
    const refused = await fixture.ask(caller.agent, 'POST', '/api/lists', { payload: { name: 'x' } });
    expect(refused.status).toBe(403);
    expect(await eventOf(() => ofBusiness(caller.business_id), askedBy(refused))).toMatchObject({
      action: 'access.forbidden',
      actor: keyIdOf(caller.agent),
      source: '127.0.0.1',
      subject_type: null,
      after: { method: 'POST', route: '/api/lists', role: 'agent' },
    });
  });

  it('stands every id that it could not see, foreign or absent alike, and the other business hears nothing', async () => {
    const { run_id } = await startRun(fixture, stranger);
    const before = await ofBusiness(stranger.business_id);
    const ABSENT = 987_654_321;
    const events = [];
    for (const id of [run_id, ABSENT]) {
      const pause = await fixture.ask(caller.owner, 'POST', `/api/outbound/runs/${id}/pause`);
      const job = await fixture.ask(caller.owner, 'GET', `/api/outbound/runs/${id}/jobs/${id}-1`);
      const stop = await fixture.ask(caller.owner, 'POST', '/api/outbound/stop-queue', { payload: { run_id: id } });
      const old = await fixture.ask(caller.owner, 'POST', `/api/outbound_calls/jobs/${id}/cancel`);
      const found: Event[] = [];
      for (const answer of [pause, job, stop, old])
        found.push(await eventOf(() => ofBusiness(caller.business_id), askedBy(answer)));
      expect(found.map(({ subject_type, subject_id }) => [subject_type, subject_id])).toEqual([
        ['run', String(id)],
        ['job', `${id}-1`],
        ['run', String(id)],
        ['run', String(id)],
      ]);
      events.push(found.map(({ action, actor: who, after }) => ({ action, who, after })));
    }
    expect(events[0]).toEqual(events[1]);
    expect(events[0]?.[0]).toMatchObject({ action: 'access.id_not_visible', after: { code: 'run_not_found' } });
    expect(await ofBusiness(stranger.business_id)).toEqual(before);
  });

  it('names no id that may be a phone number', async () => {
    for (const id of ['972501234567', '0501234567', '+972501234567']) {
      const answer = await fixture.ask(caller.owner, 'GET', `/api/outbound/runs/${encodeURIComponent(id)}`);
      const event = await eventOf(() => ofBusiness(caller.business_id), askedBy(answer));
      expect(event).toMatchObject({ action: 'access.id_not_visible', subject_type: null });
      expect(JSON.stringify({ ...event, request_id: '' })).not.toContain('501234567');
    }
    expect(JSON.stringify(securityLines(fixture, 'id_not_visible'))).not.toContain('501234567');
  });

  it('stands a key that opens nothing any more, if its secret was right', async () => {
    const { key, key_id } = await createKey(fixture.db, caller.business_id, { role: 'agent' }, actor);
    await revokeKey(fixture.db, caller.business_id, key_id, actor);
    const old = new Date('2020-01-01T00:00:00Z');
    const expired = await createKey(fixture.db, caller.business_id, { role: 'agent', expires_at: old }, actor);
    for (const [bad, reason] of [
      [key, 'revoked'],
      [expired.key, 'expired'],
    ] as const) {
      const answer = await fixture.ask(bad, 'GET', '/api/lists');
      expect(await eventOf(() => ofBusiness(caller.business_id), askedBy(answer))).toMatchObject({
        action: 'access.unauthenticated',
        actor: keyIdOf(bad),
        after: { key: reason },
      });
      expect((await ofInstallation()).map(({ request_id }) => request_id)).not.toContain(askedBy(answer));
    }
  });

  it('stands a call that the database forgot, once, beside the halt of its lane', async () => {
    const { business_id, ...rest } = await createCaller(fixture, 1);
    const run = await startRun(fixture, { business_id, ...rest });
    const [attempt] = await claimAttempts(fixture, run.run_id);
    if (!attempt) throw new Error('no attempt');
    const path = callbackPath('status', { ...attempt, token: 'B'.repeat(22) });
    for (const status of ['initiated', 'ringing']) {
      expect((await fixture.ask(null, 'POST', path, signed(path, statusForm('CA9', status)))).status).toBe(204);
    }
    const events = await fixture.rows<Event>(
      `SELECT * FROM carillon.audit_events WHERE business_id = $1 AND subject_type = 'carrier_account'
         AND actor = 'carrier' ORDER BY event_id`,
      [business_id],
    );
    expect(events).toMatchObject([
      { action: 'access.forgotten_call', source: '127.0.0.1', after: { call_id: 'CA9' } },
      { action: 'lane.halted', after: { halted_until: null } },
    ]);
  });
});

describe("in the installation's trail", () => {
  it('stand strangers, of whom no business is told', async () => {
    const [, business, id] = caller.owner.split('_');
    for (const [key, reason] of [
      [null, 'none'],
      ['nonsense', 'refused'],
      [`ck_${business}_${id}_${'A'.repeat(32)}`, 'refused'],
    ] as const) {
      // An address of its own, or it would be gathered with the others.
      const remoteAddress = `198.51.100.${reason.length + (key?.length ?? 0)}`;
      const answer = await fixture.ask(key, 'GET', '/api/lists', { remoteAddress });
      expect(await eventOf(ofInstallation, askedBy(answer))).toMatchObject({
        action: 'access.unauthenticated',
        actor: 'stranger',
        source: remoteAddress,
        after: { key: reason, route: '/api/lists' },
        times: 1,
      });
      expect((await ofBusiness(caller.business_id)).map(({ request_id }) => request_id)).not.toContain(askedBy(answer));
    }
  });

  it('stand callbacks whose signature proves no business', async () => {
    const run = await startRun(fixture, caller);
    const [attempt] = await claimAttempts(fixture, run.run_id);
    if (!attempt) throw new Error('no attempt');
    const path = callbackPath('status', attempt);
    const forged = await fixture.ask(null, 'POST', path, signed(path, statusForm('CA1', 'ringing'), 'guessed'));
    expect(forged.status).toBe(403);
    const event = await eventOf(ofInstallation, askedBy(forged));
    expect(event).toMatchObject({ action: 'access.signature_invalid', actor: 'stranger' });
    expect(JSON.stringify(event)).not.toContain(attempt.token);
    expect((await ofBusiness(caller.business_id)).map(({ request_id }) => request_id)).not.toContain(askedBy(forged));
  });

  it('stands a system administrator who asked for the data of a business without entering it', async () => {
    const { key, key_id } = await createSystemKey(fixture.db, { label: '' }, actor);
    const refused = await fixture.ask(key, 'GET', '/api/lists');
    expect(await eventOf(ofInstallation, askedBy(refused))).toMatchObject({
      action: 'access.forbidden',
      actor: `system_admin:${key_id}`,
    });
  });
});

describe('a flood of refusals', () => {
  it('of strangers is a few rows that tell how many there were, written when the process ends at the latest', async () => {
    const on = await createFixture({ api_limits: PATIENT });
    try {
      for (let n = 0; n < 300; n++)
        await on.app.inject({ method: 'GET', url: '/api/lists', remoteAddress: `198.51.100.${n % 60}` });
      expect(await ofInstallation(on)).toEqual([]);
      await on.app.close();
      const rows = await ofInstallation(on);
      expect(rows).toHaveLength(21);
      expect(rows.slice(0, 20).map(({ times }) => times)).toEqual(Array.from({ length: 20 }, () => 5));
      expect(rows[20]).toMatchObject({ action: 'access.unauthenticated', actor: 'several', source: null, times: 200 });
    } finally {
      await on.close();
    }
  });

  it('of one business takes nothing from another', async () => {
    const on = await createFixture({ api_limits: PATIENT });
    try {
      const [loud, quiet] = [await createCaller(on), await createCaller(on)];
      for (let n = 1; n <= 50; n++) await on.ask(loud.agent, 'GET', `/api/outbound/runs/${n + 1_000}`);
      for (let n = 0; n < 3; n++) await on.ask(quiet.agent, 'GET', '/api/outbound/runs/5');
      await on.app.close();
      expect(await ofBusiness(loud.business_id, on)).toHaveLength(21);
      expect((await ofBusiness(loud.business_id, on)).at(-1)).toMatchObject({ actor: 'several', after: { times: 30 } });
      expect(await ofBusiness(quiet.business_id, on)).toMatchObject([{ subject_id: '5', after: { times: 3 } }]);
    } finally {
      await on.close();
    }
  });

  it('waits in bounded memory: what is above it is lost to the trail, and counted', async () => {
    const lost: [number, string][] = [];
    const limits = { ...PATIENT, security_waiting_events: 10 };
    const trail = createSecurityTrail(fixture.db, limits, (events, error) => lost.push([events, String(error)]));
    const note = (n: number) =>
      trail.note(caller.business_id, { action: 'access.forbidden', actor, after: { route: `/bounded/${n}` } });
    const written = async () =>
      (await ofBusiness(caller.business_id)).filter(({ after }) => String(after.route).startsWith('/bounded/')).length;
    for (let n = 0; n < 13; n++) note(n);
    expect(lost).toEqual(Array.from({ length: 3 }, () => [1, expect.stringContaining('too many')]));
    await trail.close();
    expect(await written()).toBe(10);
    for (let n = 0; n < 10; n++) note(n);
    await trail.close();
    expect(await written()).toBe(20);
    expect(lost).toHaveLength(3);
  });
});

describe('a trail that can not be written', () => {
  it('changes no answer; the log has the event, and a metric says that the trail has not', async () => {
    const on = await createFixture({ api_limits: QUICK });
    try {
      const own = await createCaller(on);
      const whole = await on.ask(own.agent, 'POST', '/api/lists', { payload: { name: 'x' } });
      await eventOf(() => ofBusiness(own.business_id, on), askedBy(whole));
      await on.rows(`REVOKE INSERT ON carillon.audit_events FROM ${on.logins.app}`);
      on.logs.length = 0;
      const broken = await on.ask(own.agent, 'POST', '/api/lists', { payload: { name: 'x' } });
      expect({ ...broken.json, request_id: '' }).toEqual({ ...whole.json, request_id: '' });
      expect(securityLines(on, 'forbidden')).toHaveLength(1);
      const metrics = async () => (await on.app.inject('/metrics')).body;
      await until(async () => (await metrics()).includes('carillon_security_events_lost_total 1'), {
        deadline_ms: 30_000,
        what: 'the metric of lost events',
      });
      expect((await ofBusiness(own.business_id, on)).map(({ request_id }) => request_id)).not.toContain(
        askedBy(broken),
      );
    } finally {
      await on.close();
    }
  });

  it('delays no answer: refusals go on while the table is locked, and are written when it is free', async () => {
    const on = await createFixture({ api_limits: QUICK });
    try {
      const own = await createCaller(on);
      const answers: Awaited<ReturnType<Fixture['ask']>>[] = [];
      await withClient(on.superuserUrl, async (client) => {
        await client.query('BEGIN');
        await client.query('LOCK TABLE carillon.audit_events, carillon.installation_events IN ACCESS EXCLUSIVE MODE');
        // Many more than there are connections: not one of them may be held by what waits for the lock.
        for (let n = 1; n <= 40; n++) {
          answers.push(await on.ask(own.owner, 'GET', `/api/outbound/runs/${n + 500}`));
          answers.push(await on.ask(null, 'GET', '/api/lists'));
        }
        await client.query('COMMIT');
      });
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([404, 401]));
      await eventOf(() => ofBusiness(own.business_id, on), askedBy(answers[0] ?? { headers: {} }));
      await eventOf(() => ofInstallation(on), askedBy(answers[1] ?? { headers: {} }));
    } finally {
      await on.close();
    }
  });
});
