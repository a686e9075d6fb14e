import { describe, expect, test } from 'vitest';
import { ACCOUNT, clientOf, ended, entryOf, FROM, startCustomer, startSim, TO, TOKEN, until } from './harness.ts';

const EVENTS = ['initiated', 'ringing', 'answered', 'completed'];
/** Enough time between a call's events that they arrive in their order. */
const spread = { default: { ring_ms: 100, talk_ms: 50 } };
const statuses = (received: { params: Record<string, string> }[]) => received.map(({ params }) => params.CallStatus);

async function call(fields: object = {}, behaviour: Parameters<typeof startSim>[0] = {}) {
  const sim = await startSim(behaviour);
  const customer = await startCustomer();
  const { sid } = await clientOf(sim).calls.create({
    to: TO,
    from: FROM,
    url: `${customer.url}/answer?k=1-2&t=x`,
    statusCallback: `${customer.url}/status?k=1-2&t=x`,
    statusCallbackEvent: EVENTS,
    ...fields,
  });
  return { sim, customer, sid };
}

describe('status callbacks', () => {
  test('come signed, in order, with the fields that Twilio sends', async () => {
    const { sim, customer, sid } = await call(
      { url: undefined, twiml: '<Response><Say>Hello</Say></Response>' },
      spread,
    );
    await until('four callbacks', () => customer.to('/status').length === 4);
    const received = customer.to('/status');
    expect(statuses(received)).toEqual(['initiated', 'ringing', 'in-progress', 'completed']);
    expect(received.map(({ params }) => params.SequenceNumber)).toEqual(['0', '1', '2', '3']);
    expect(customer.received.map(({ signed }) => signed)).toEqual([true, true, true, true]);
    const entry = await ended(sim, sid);
    const seconds = (entry.statuses[1]?.at_us ?? 0) / 1_000_000;
    expect(received[0]?.params).toEqual({
      CallSid: sid,
      AccountSid: ACCOUNT,
      From: FROM,
      To: TO,
      Caller: FROM,
      Called: TO,
      CallStatus: 'initiated',
      ApiVersion: '2010-04-01',
      Direction: 'outbound-api',
      Timestamp: `${new Date(Math.floor(seconds) * 1000).toUTCString().replace('GMT', '+0000')}`,
      CallbackSource: 'call-progress-events',
      SequenceNumber: '0',
    });
    expect(received[3]?.params).toMatchObject({ CallDuration: '1', Duration: '1', SipResponseCode: '200' });
    expect(received[3]?.headers['content-type']).toBe('application/x-www-form-urlencoded; charset=UTF-8');
  });

  test('are one thing, the question what to say is another, and signed as well', async () => {
    const { customer, sid } = await call({ statusCallback: undefined });
    await until('the question', () => customer.received.length === 1);
    expect(customer.to('/answer')[0]).toMatchObject({
      signed: true,
      params: { CallSid: sid, CallStatus: 'in-progress', To: TO, AccountSid: ACCOUNT, Direction: 'outbound-api' },
    });
    expect(customer.to('/answer')[0]?.params.SequenceNumber).toBeUndefined();
  });

  test('are signed with the token that the call was created with, or with the one that the account must bear now', async () => {
    const sim = await startSim({ default: { talk_ms: 60_000 } });
    const customer = await startCustomer(() => ({ body: '<Response><Say>Hello</Say></Response>' }));
    const { sid } = await clientOf(sim, ACCOUNT, 'another-token').calls.create({
      to: TO,
      from: FROM,
      url: `${customer.url}/answer`,
      statusCallback: `${customer.url}/status`,
    });
    await until('the question', () => customer.received.length === 1);
    expect(customer.received[0]?.signed).toBe(false);
    sim.behaviour = { ...sim.behaviour, accounts: { [ACCOUNT]: { auth_token: TOKEN } } };
    await clientOf(sim).calls(sid).update({ status: 'completed' });
    await until('the end', () => customer.received.length === 2);
    expect(customer.received[1]).toMatchObject({ path: '/status', signed: true });
  });

  test('come only for the events that were asked for; by default for the end alone', async () => {
    const some = await call({ statusCallbackEvent: ['ringing', 'completed'] });
    await until('two', () => some.customer.to('/status').length === 2);
    expect(statuses(some.customer.to('/status'))).toEqual(['ringing', 'completed']);
    const none = await call({ statusCallbackEvent: undefined });
    await until('one', () => none.customer.to('/status').length === 1);
    expect(none.customer.to('/status')[0]?.params).toMatchObject({ CallStatus: 'completed', SequenceNumber: '0' });
  });

  test('come by GET where that was asked for, signed over the whole URL', async () => {
    const { customer } = await call({ statusCallbackMethod: 'GET', method: 'GET' });
    await until('all', () => customer.received.length === 5);
    expect(customer.received.every(({ method, signed }) => method === 'GET' && signed)).toBe(true);
    expect(customer.to('/status')[0]?.params).toMatchObject({ k: '1-2', CallStatus: 'initiated' });
  });

  test.each([
    ['busy', 'busy', '486'],
    ['no_answer', 'no-answer', '487'],
    ['failed', 'failed', '404'],
  ])('tell that a call was %s', async (outcome, status, sip) => {
    const { customer } = await call(
      { statusCallbackEvent: ['completed'] },
      { default: { outcomes: { [outcome]: 1 } } },
    );
    await until('the end', () => customer.to('/status').length === 1);
    expect(customer.received[0]?.params).toMatchObject({ CallStatus: status, SipResponseCode: sip, CallDuration: '0' });
  });

  test('are not sent for a call that was cancelled while it was queued, but for one that rang', async () => {
    const slow = await call({ to: '+972500000001' }, { default: { calls_per_second: 0.001, ring_ms: 60_000 } });
    const { sid } = await clientOf(slow.sim).calls.create({
      to: TO,
      from: FROM,
      url: `${slow.customer.url}/answer`,
      statusCallback: `${slow.customer.url}/queued`,
      statusCallbackEvent: EVENTS,
    });
    await clientOf(slow.sim).calls(sid).update({ status: 'canceled' });
    await until('it rings', () => slow.customer.to('/status').length === 2);
    await clientOf(slow.sim).calls(slow.sid).update({ status: 'canceled' });
    await until('the end', () => slow.customer.to('/status').length === 3);
    expect(statuses(slow.customer.to('/status'))).toEqual(['initiated', 'ringing', 'canceled']);
    expect(slow.customer.to('/queued')).toEqual([]);
  });

  test('tell who answered where detection was asked for', async () => {
    const voicemail = { numbers: { [TO]: { outcomes: { voicemail: 1 } } } };
    const machine = await call({ machineDetection: 'DetectMessageEnd' }, voicemail);
    await until('all', () => machine.customer.to('/status').length === 4);
    const [answered] = machine.customer.to('/answer');
    expect(answered?.params.AnsweredBy).toBe('machine_end_beep');
    expect(machine.customer.to('/status').map(({ params }) => params.AnsweredBy)).toEqual([
      undefined,
      undefined,
      'machine_end_beep',
      'machine_end_beep',
    ]);
    const human = await call({ machineDetection: 'Enable' });
    expect((await ended(human.sim, human.sid)).answered_by).toBe('human');
    const unasked = await call({}, voicemail);
    expect((await ended(unasked.sim, unasked.sid)).answered_by).toBeNull();
  });

  test('tell it beside the answer where detection runs asynchronously', async () => {
    const sim = await startSim({ default: { outcomes: { voicemail: 1 } } });
    const customer = await startCustomer();
    const { sid } = await clientOf(sim).calls.create({
      to: TO,
      from: FROM,
      url: `${customer.url}/answer`,
      machineDetection: 'Enable',
      asyncAmd: 'true',
      asyncAmdStatusCallback: `${customer.url}/amd`,
    });
    await until('the detection', () => customer.to('/amd').length === 1);
    expect(customer.to('/amd')[0]).toMatchObject({
      signed: true,
      params: { CallSid: sid, AnsweredBy: 'machine_start' },
    });
    expect(customer.to('/answer')[0]?.params.AnsweredBy).toBeUndefined();
  });
});

describe('faults of callbacks', () => {
  test('duplicates share their sequence number', async () => {
    const { customer } = await call({}, { default: { callback: { duplicate: 1 } } });
    await until('all twice', () => customer.to('/status').length === 8);
    const sequence = customer.to('/status').map(({ params }) => params.SequenceNumber);
    expect(sequence.sort()).toEqual(['0', '0', '1', '1', '2', '2', '3', '3']);
  });

  test('reordered ones come after a later one, and none is lost', async () => {
    const { customer } = await call({}, { default: { callback: { reorder: 1 } } });
    await until('all', () => customer.to('/status').length === 4);
    expect(statuses(customer.to('/status'))).toEqual(['completed', 'initiated', 'ringing', 'in-progress']);
    const partly = await call({ statusCallbackEvent: ['ringing'] }, { default: { callback: { reorder: 1 } } });
    await until('the held one', () => partly.customer.to('/status').length === 1);
  });

  test('dropped ones never come, and leave a gap in the sequence', async () => {
    const { sim, customer, sid } = await call(
      { url: undefined, twiml: '<Response><Say>Hello</Say></Response>' },
      { default: { callback: { drop: 1 }, talk_ms: 200 } },
    );
    await until('answered', () => entryOf(sim, sid).status === 'in-progress');
    sim.behaviour = { default: { callback: { delay_ms: 0 } } };
    await ended(sim, sid);
    await until('the last', () => customer.to('/status').length === 1);
    expect(customer.to('/status')[0]?.params).toMatchObject({ CallStatus: 'completed', SequenceNumber: '3' });
  });

  test('delayed ones come that much later', async () => {
    const { sim, customer, sid } = await call({}, { default: { callback: { delay_ms: [200, 250] } } });
    await ended(sim, sid);
    expect(customer.to('/status')).toEqual([]);
    await until('all', () => customer.to('/status').length === 4);
    expect(statuses(customer.to('/status')).sort()).toEqual(['completed', 'in-progress', 'initiated', 'ringing']);
  });
});

describe('retries', () => {
  /** Makes one call, told of at its end alone, and returns what the carrier's events say of that callback. */
  async function tell(url: string) {
    const sim = await startSim();
    const client = clientOf(sim);
    const { sid } = await client.calls.create({ to: TO, from: FROM, twiml: '<Response/>', statusCallback: url });
    await until('the callback', async () => (await client.calls(sid).events.list()).length === 1);
    const [event] = await client.calls(sid).events.list();
    return event?.response as unknown as { response_code: number | null; request_duration: number };
  }

  test('a refused connection is tried once more by default, not at all with rc=0, five times with rc=5', async () => {
    const customer = await startCustomer();
    await new Promise((resolve) => customer.server.close(resolve));
    const [once, never, often] = await Promise.all(['', '#rc=0', '#rc=5'].map((rc) => tell(`${customer.url}/x${rc}`)));
    expect([once?.response_code, never?.response_code, often?.response_code]).toEqual([null, null, null]);
    // Between two tries there is a pause of 100 ms.
    expect(never?.request_duration).toBeLessThan(100);
    expect(once?.request_duration).toBeGreaterThanOrEqual(99);
    expect(often?.request_duration).toBeGreaterThanOrEqual(495);
  });

  test('an error status is final by default, and tried again with rp=all', async () => {
    const hurried = await startCustomer(() => ({ status: hurried.received.length <= 1 ? 503 : 204 }));
    expect(await tell(`${hurried.url}/status`)).toMatchObject({ response_code: 503 });
    const patient = await startCustomer(() => ({ status: patient.received.length <= 2 ? 503 : 204 }));
    expect(await tell(`${patient.url}/status#rc=5&rp=all`)).toMatchObject({ response_code: 204 });
    expect([hurried.received.length, patient.received.length]).toEqual([1, 3]);
    expect(patient.received.every(({ signed }) => signed)).toBe(true);
    const tokens = patient.received.map(({ headers }) => headers['i-twilio-idempotency-token']);
    expect(new Set(tokens).size).toBe(1);
  });

  test('an answer that never comes is final by default, and tried again with rp=rt', async () => {
    const hurried = await startCustomer(() => ({ reset: true }));
    expect(await tell(`${hurried.url}/status`)).toMatchObject({ response_code: null });
    const patient = await startCustomer(() =>
      patient.received.length === 1 ? new Promise<never>(() => {}) : { status: 204 },
    );
    expect(await tell(`${patient.url}/status#rt=100&rp=5xx,rt`)).toMatchObject({ response_code: 204 });
    expect([hurried.received.length, patient.received.length]).toEqual([1, 2]);
  });

  test('a request on a kept connection that was given up is not made again', async () => {
    const sim = await startSim();
    const customer = await startCustomer(() =>
      customer.received.length === 1 ? { status: 204 } : new Promise<never>(() => {}),
    );
    const client = clientOf(sim);
    for (const expected of [204, null]) {
      const statusCallback = `${customer.url}/status#rt=100&rc=0`;
      const { sid } = await client.calls.create({ to: TO, from: FROM, twiml: '<Response/>', statusCallback });
      await until('the callback', async () => (await client.calls(sid).events.list()).length === 1);
      const [event] = await client.calls(sid).events.list();
      expect(event?.response).toMatchObject({ response_code: expected });
    }
    expect(customer.received).toHaveLength(2);
  });
});
