import { createCarrierDrivers } from '@carillon/carriers';
import type { ClaimedAttempt } from '@carillon/engine';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  accountBody,
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

let fixture: Fixture;
beforeAll(async () => {
  const drivers = new Map(createCarrierDrivers());
  const twilio = drivers.get('twilio');
  if (twilio) drivers.set('twin', { ...twilio, name: 'twin' });
  fixture = await createFixture({ drivers });
});
afterAll(async () => await fixture.close());

/** A business with one attempt in the air. */
async function callInTheAir(): Promise<{ caller: Caller; attempt: ClaimedAttempt; run_id: number }> {
  const caller = await createCaller(fixture, 1);
  const run = await startRun(fixture, caller, { answer: { say: 'A & B', language: 'en-US' } });
  const [attempt] = await claimAttempts(fixture, run.run_id);
  if (!attempt) throw new Error('no attempt');
  return { caller, attempt, run_id: run.run_id };
}

const post = (path: string, request: Parameters<Fixture['ask']>[3]) => fixture.ask(null, 'POST', path, request);

/** A signed status callback about an attempt. */
async function tell(attempt: ClaimedAttempt, status: string, call_id = 'CA1', more: Record<string, string> = {}) {
  const path = callbackPath('status', attempt);
  return await post(path, signed(path, statusForm(call_id, status, more)));
}

const jobOf = async (attempt: ClaimedAttempt) =>
  (
    await fixture.rows('SELECT status, attempts FROM carillon.outbound_call_jobs WHERE run_id = $1', [attempt.run_id])
  )[0];
const laneOf = async (caller: Caller) =>
  (
    await fixture.rows<{ halted_reason: string | null; halted_until_us: string | null }>(
      'SELECT halted_reason, halted_until_us FROM carillon.lanes WHERE business_id = $1',
      [caller.business_id],
    )
  )[0];

describe('a status callback', () => {
  it('is recorded before it is answered, and a repetition changes nothing', async () => {
    const { caller, attempt, run_id } = await callInTheAir();
    const rings = await tell(attempt, 'ringing');
    expect(rings).toMatchObject({ status: 204, text: '' });
    const [open] = await fixture.rows('SELECT state, call_id FROM carillon.open_attempts WHERE run_id = $1', [run_id]);
    expect(open).toEqual({ state: 'ringing', call_id: 'CA1' });

    for (let times = 0; times < 3; times++) {
      expect((await tell(attempt, 'completed', 'CA1', { CallDuration: '7' })).status).toBe(204);
    }
    expect(await jobOf(attempt)).toEqual({ status: 'completed', attempts: 1 });
    const { json } = await fixture.ask(caller.agent, 'GET', `/api/outbound/runs/${run_id}`);
    expect(json).toMatchObject({ status: 'completed', completed: 1, cursor_position: 1, in_progress: 0 });
    const history = await fixture.rows('SELECT outcome, duration_s FROM carillon.attempts WHERE run_id = $1', [run_id]);
    expect(history).toEqual([{ outcome: 'completed', duration_s: 7 }]);
  });

  it('with a forged signature changes nothing, and is a security event', async () => {
    const { caller, attempt } = await callInTheAir();
    const path = callbackPath('status', attempt);
    const form = statusForm('CA1', 'completed');
    const good = signed(path, form);
    const forgeries: [string, Parameters<Fixture['ask']>[3]][] = [
      ['by another secret', signed(path, form, 'guessed')],
      ['of other fields', { ...good, payload: new URLSearchParams({ ...form, CallStatus: 'busy' }).toString() }],
      ['with a field doubled', { ...good, payload: `${String(good.payload)}&CallStatus=busy` }],
      ['without a signature', { ...good, headers: { 'content-type': 'application/x-www-form-urlencoded' } }],
      ['of no form at all', { ...good, payload: '' }],
    ];
    fixture.logs.length = 0;
    for (const [name, request] of forgeries) {
      const { status, json } = await post(path, request);
      expect({ name, status, code: json.code }).toEqual({ name, status: 403, code: 'signature_invalid' });
    }
    const moved = await post(`${path}?a=1`, good);
    expect(moved.status).toBe(403);
    expect(await jobOf(attempt)).toEqual({ status: 'in_progress', attempts: 1 });
    const events = securityLines(fixture, 'signature_invalid');
    expect(events).toHaveLength(forgeries.length + 1);
    expect(events[0]).toMatchObject({ ids: { business_id: String(caller.business_id), seq: String(attempt.seq) } });
    const { text } = await fixture.ask(null, 'GET', '/metrics');
    expect(text).toMatch(/carillon_security_events_total\{kind="signature_invalid"\} \d+/);
  });

  it('never leaves a token or a number of a person in the log', async () => {
    const { attempt } = await callInTheAir();
    fixture.logs.length = 0;
    await tell(attempt, 'ringing');
    const path = callbackPath('status', attempt);
    await post(path, signed(path, statusForm('CA1', 'busy'), 'guessed'));
    await post(`${path}/nowhere`, {});
    await post(path.replace('/carriers/twilio', '/carriers/somebody'), {});
    expect(fixture.logs.length).toBeGreaterThan(3);
    const text = JSON.stringify(fixture.logs);
    expect(text).not.toContain(attempt.token);
    expect(text).not.toContain(attempt.to.slice(1));
  });

  it('is believed only inside the business and the account of its address', async () => {
    const { attempt } = await callInTheAir();
    const other = await createCaller(fixture, 1);
    const form = statusForm('CA1', 'completed');
    // Signed with a token that both accounts happen to have: the account must still be the business's own.
    const foreign_account = callbackPath('status', attempt, other.carrier_account_id);
    expect((await post(foreign_account, signed(foreign_account, form))).status).toBe(403);
    const absent_account = callbackPath('status', attempt, 987_654_321);
    expect((await post(absent_account, signed(absent_account, form))).status).toBe(403);

    const foreign_business = callbackPath(
      'status',
      { ...attempt, business_id: other.business_id },
      other.carrier_account_id,
    );
    // Theirs to sign, but they have no such attempt: nothing of ours moves, and it is their lane that halts.
    expect((await post(foreign_business, signed(foreign_business, form))).status).toBe(204);
    expect(await jobOf(attempt)).toEqual({ status: 'in_progress', attempts: 1 });
    expect(await laneOf(other)).toMatchObject({ halted_reason: expect.any(String), halted_until_us: null });
  });

  it("is believed only under the driver of its account, whoever else's signatures look the same", async () => {
    const { attempt } = await callInTheAir();
    const path = callbackPath('status', attempt).replace('/twilio/', '/twin/');
    expect((await post(path, signed(path, statusForm('CA1', 'completed')))).status).toBe(403);
    expect(await jobOf(attempt)).toEqual({ status: 'in_progress', attempts: 1 });
  });

  it('for an attempt that the database does not know halts the lane until a person resumes it', async () => {
    const { caller, attempt } = await callInTheAir();
    fixture.logs.length = 0;
    const forgotten = { ...attempt, token: 'A'.repeat(22) };
    const path = callbackPath('status', forgotten);
    expect((await post(path, signed(path, statusForm('CA404', 'in-progress')))).status).toBe(204);
    expect(await laneOf(caller)).toEqual({
      halted_reason: 'a call that the database does not know',
      halted_until_us: null,
    });
    const unwanted = await fixture.rows('SELECT call_id FROM carillon.unwanted_calls WHERE business_id = $1', [
      caller.business_id,
    ]);
    expect(unwanted).toEqual([{ call_id: 'CA404' }]);
    expect(securityLines(fixture, 'forgotten_call')).toMatchObject([{ call_id: 'CA404' }]);

    const accounts = await fixture.ask(caller.owner, 'GET', '/api/carrier_accounts');
    expect(accounts.json.items).toMatchObject([{ halted_reason: 'a call that the database does not know' }]);
    const resumed = await fixture.ask(
      caller.owner,
      'POST',
      `/api/carrier_accounts/${caller.carrier_account_id}/resume`,
    );
    expect(resumed.json).toMatchObject({ halted_reason: null });
    expect(await laneOf(caller)).toMatchObject({ halted_reason: null });
  });

  it('that is none gets a clear refusal', async () => {
    const { attempt } = await callInTheAir();
    const path = callbackPath('status', attempt);
    const { status, json } = await post(path, signed(path, { CallSid: 'CA1', CallStatus: 'dancing' }));
    expect(status).toBe(422);
    expect(json.code).toBe('invalid_request');
  });

  it('to an address that can not be one of ours finds nothing there', async () => {
    const { attempt } = await callInTheAir();
    const path = callbackPath('status', attempt);
    const wrong = [
      path.replace('/twilio/', '/nobody/'),
      path.replace('/twilio/', '/__proto__/'),
      path.replace(attempt.token, 'short'),
      path.replace(`/${attempt.run_id}/`, '/0x10/'),
      path.replace('/status', '/other'),
    ];
    for (const url of wrong) {
      const { status, json } = await post(url, signed(url, statusForm('CA1', 'completed')));
      expect({ url, status, code: json.code }).toEqual({ url, status: 404, code: 'route_not_found' });
    }
  });

  it('of another type or too large is refused', async () => {
    const { attempt } = await callInTheAir();
    const path = callbackPath('status', attempt);
    const json = await post(path, { payload: { CallSid: 'CA1' } });
    expect(json).toMatchObject({
      status: 415,
      json: { details: { expected: 'application/x-www-form-urlencoded' } },
    });
    const large = await post(path, signed(path, { ...statusForm('CA1', 'busy'), Filler: 'x'.repeat(70_000) }));
    expect(large).toMatchObject({ status: 413, json: { details: { limit_bytes: 65_536 } } });
  });
});

describe('an answered call', () => {
  async function answer(attempt: ClaimedAttempt, account?: number, call_id = 'CA1') {
    const path = callbackPath('answer', attempt, account);
    return await post(path, signed(path, statusForm(call_id, 'in-progress')));
  }

  it("hears the run's script", async () => {
    const { attempt } = await callInTheAir();
    const { status, text, headers } = await answer(attempt);
    expect(status).toBe(200);
    expect(headers['content-type']).toBe('text/xml; charset=utf-8');
    expect(text).toContain('<Say language="en-US">A &amp; B</Say>');
  });

  it('that somebody stopped, or that is over, is hung up', async () => {
    const { caller, attempt, run_id } = await callInTheAir();
    await fixture.ask(caller.admin, 'POST', '/api/outbound/stop-queue', { payload: { run_id, live_calls: 'hang_up' } });
    const stopped = await answer(attempt);
    expect(stopped).toMatchObject({ status: 200, text: expect.stringContaining('<Hangup/>') });
    expect(stopped.text).not.toContain('Say');

    const other = await callInTheAir();
    await tell(other.attempt, 'completed', 'CA1');
    expect((await answer(other.attempt)).text).toContain('<Hangup/>');
  });

  it('that a stop drains still hears it', async () => {
    const { caller, attempt, run_id } = await callInTheAir();
    await fixture.ask(caller.admin, 'POST', '/api/outbound/stop-queue', { payload: { run_id } });
    expect((await answer(attempt)).text).toContain('<Say');
  });

  it('that is a second one for its attempt is hung up, and the first still hears it', async () => {
    const { attempt } = await callInTheAir();
    await tell(attempt, 'ringing', 'CA1');
    const second = await answer(attempt, undefined, 'CA2');
    expect(second).toMatchObject({ status: 200, text: expect.stringContaining('<Hangup/>') });
    expect(second.text).not.toContain('Say');
    expect((await answer(attempt)).text).toContain('<Say');
  });

  it('that the database does not know is hung up', async () => {
    const { attempt } = await callInTheAir();
    expect((await answer({ ...attempt, token: 'B'.repeat(22) })).text).toContain('<Hangup/>');
  });

  it('through another account of the business is hung up', async () => {
    const { caller, attempt } = await callInTheAir();
    const second = await fixture.ask(caller.owner, 'POST', '/api/carrier_accounts', {
      payload: accountBody({ name: 'second' }),
    });
    expect((await answer(attempt, Number(second.json.carrier_account_id))).text).toContain('<Hangup/>');
  });

  it('with a forged signature hears nothing', async () => {
    const { attempt } = await callInTheAir();
    const path = callbackPath('answer', attempt);
    const { status, text } = await post(path, signed(path, statusForm('CA1', 'in-progress'), 'guessed'));
    expect(status).toBe(403);
    expect(text).not.toContain('<');
  });
});
