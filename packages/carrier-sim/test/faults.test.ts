import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { BehaviourInput, CarrierSim } from '../src/index.ts';
import { createBehaviour } from '../src/behaviour.ts';
import { systemClock } from '../src/clock.ts';
import { ACCOUNT, clientOf, create, ended, entryOf, FROM, startSim, TO, TOKEN, until } from './harness.ts';

interface Control {
  create_requests: { received: number; accepted: number; refused: number; dropped: number };
  max_live: number;
  max_starts_per_second: number;
}
const totals = async (sim: CarrierSim) => (await (await fetch(`${sim.url}/_sim/totals`)).json()) as Control;

describe('a create request that does not arrive whole creates no call', () => {
  const body = new URLSearchParams({ To: TO, From: FROM, Twiml: '<Response/>' }).toString();
  const head = (length: string) =>
    [
      `POST /2010-04-01/Accounts/${ACCOUNT}/Calls.json HTTP/1.1`,
      'Host: carrier',
      `Authorization: Basic ${Buffer.from(`${ACCOUNT}:${TOKEN}`).toString('base64')}`,
      'Content-Type: application/x-www-form-urlencoded',
      length,
      '\r\n',
    ].join('\r\n');
  const whole = `Content-Length: ${body.length}`;

  async function open(sim: CarrierSim, text: string): Promise<{ socket: Socket; answer: () => string }> {
    const socket = connect(sim.port, '127.0.0.1');
    onTestFinished(() => void socket.destroy());
    let answer = '';
    socket.on('data', (data) => (answer += data)).on('error', () => {});
    socket.write(text);
    await until('the headers are there', async () => (await totals(sim)).create_requests.received === 1);
    return { socket, answer: () => answer };
  }

  test.each([
    ['no body', whole, ''],
    ['a body cut short', whole, body.slice(0, -1)],
    ['chunks without the last', 'Transfer-Encoding: chunked', `${body.length.toString(16)}\r\n${body}\r\n`],
  ])('%s, then the connection is closed', async (_what, length, sent) => {
    for (const how of ['end', 'destroy', 'resetAndDestroy'] as const) {
      const sim = await startSim();
      const { socket } = await open(sim, head(length) + sent);
      expect(sim.ledger()).toEqual([]);
      socket[how]();
      await until('it is dropped', async () => (await totals(sim)).create_requests.dropped === 1);
      expect(sim.ledger()).toEqual([]);
      expect((await totals(sim)).create_requests).toEqual({ received: 1, accepted: 0, refused: 0, dropped: 1 });
    }
  });

  test('no body in time: a client that was stopped comes too late', async () => {
    const sim = await startSim({ body_timeout_ms: 100 });
    const { socket, answer } = await open(sim, head(whole));
    await until('it is dropped', async () => (await totals(sim)).create_requests.dropped === 1);
    socket.write(body);
    await until('the connection is closed', () => socket.closed || socket.readableEnded);
    expect(answer()).toContain('408');
    expect(sim.ledger()).toEqual([]);
  });

  test('while one that arrived whole is a call, though nobody waits for the answer', async () => {
    const sim = await startSim({ default: { response_delay_ms: 50 } });
    const { socket } = await open(sim, head(whole));
    socket.write(body);
    await until('the call', () => sim.ledger().length === 1);
    socket.resetAndDestroy();
    await until('the loss is noticed', () => sim.ledger()[0]?.response === 'lost');
    expect((await totals(sim)).create_requests).toMatchObject({ accepted: 1, dropped: 0 });
  });
});

describe('the answer to a create request', () => {
  test('may be lost after the call was accepted', async () => {
    const sim = await startSim({ default: { lose_response: 1 } });
    await expect(create(sim)).rejects.toThrow('fetch failed');
    expect(sim.ledger()).toHaveLength(1);
    const entry = await ended(sim, sim.ledger()[0]?.sid ?? '');
    expect(entry.response).toBe('lost');
  });

  test.each([
    [20429, 429],
    [10004, 429],
    [20003, 401],
    [20005, 403],
    [21211, 400],
    [21215, 400],
    [99999, 400],
  ])('may be a refusal with %i', async (code, status) => {
    const sim = await startSim({ numbers: { [TO]: { refuse: { code } } } });
    const call = clientOf(sim).calls.create({ to: TO, from: FROM, twiml: '<Response/>' });
    await expect(call).rejects.toMatchObject({ code, status });
    expect(sim.ledger()).toEqual([]);
    expect((await create(sim, { To: '+972500000002' })).status).toBe(201);
  });

  test.each([503, 408, 307, 403, 200])(
    'may be an error page with status %i, without and with a call',
    async (status) => {
      const sim = await startSim({ default: { http_error: { status } } });
      const refused = await create(sim);
      expect([refused.status, sim.ledger().length]).toEqual([status, 0]);
      expect(await refused.text()).toContain('gateway');
      sim.behaviour = { default: { http_error: { status, create: true } } };
      const accepted = await create(sim);
      expect([accepted.status, sim.ledger().length]).toEqual([status, 1]);
      expect(await accepted.text()).toContain('gateway');
      await until('it is written down', () => sim.ledger()[0]?.response === 'error_page');
    },
  );

  test('may be late, while the call exists already', async () => {
    const sim = await startSim({ default: { response_delay_ms: 150 } });
    let answered = false;
    const answer = create(sim).then(() => (answered = true));
    await until('the call', () => sim.ledger().length === 1);
    expect(answered).toBe(false);
    await answer;
    expect(sim.ledger()).toHaveLength(1);
  });
});

test('the effect of a create request may come late, and comes even when its sender has gone', async () => {
  const sim = await startSim({ default: { effect_delay_ms: 150 } });
  const before_us = systemClock();
  const sender = new AbortController();
  const { url } = sim;
  const gone = fetch(`${url}/2010-04-01/Accounts/${ACCOUNT}/Calls.json`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`${ACCOUNT}:${TOKEN}`).toString('base64')}` },
    body: new URLSearchParams({ To: TO, From: FROM, Twiml: '<Response/>' }),
    signal: sender.signal,
  }).catch(() => 'gone');
  await until('it has come', async () => (await totals(sim)).create_requests.received === 1);
  expect(sim.ledger()).toEqual([]);
  sender.abort();
  expect(await gone).toBe('gone');
  await until('the call', () => sim.ledger().length === 1);
  expect((sim.ledger()[0]?.created_us ?? 0) - before_us).toBeGreaterThanOrEqual(149_000);
  await until('the loss is noticed', () => sim.ledger()[0]?.response === 'lost');
});

test('a carrier that is down resets every connection, and comes back with its calls', async () => {
  const sim = await startSim({ default: { talk_ms: 60_000 } });
  const client = clientOf(sim);
  const twiml = '<Response><Say>Hello</Say></Response>';
  const { sid } = await client.calls.create({ to: TO, from: FROM, twiml });
  const before = sim.behaviour;
  sim.behaviour = { ...before, default: { ...before.default, down: true } };
  await expect(create(sim)).rejects.toThrow('fetch failed');
  await expect(client.calls(sid).fetch()).rejects.toMatchObject({ code: 'ECONNRESET' });
  expect(sim.ledger()).toHaveLength(1);
  sim.behaviour = { ...before, numbers: { [TO]: { down: true } } };
  await expect(create(sim)).rejects.toThrow('fetch failed');
  expect((await create(sim, { To: '+972500000002' })).status).toBe(201);
  sim.behaviour = before;
  await until('it is answered', () => entryOf(sim, sid).status === 'in-progress');
  expect((await client.calls(sid).fetch()).status).toBe('in-progress');
});

test('reading and changing calls may fail while creating them does not', async () => {
  const sim = await startSim({
    default: { ring_ms: 60_000, read_error: { status: 502 }, update_error: { status: 503 } },
  });
  const client = clientOf(sim);
  const { sid } = await client.calls.create({ to: TO, from: FROM, twiml: '<Response/>' });
  await expect(client.calls.list({ to: TO })).rejects.toMatchObject({ status: 502 });
  await expect(client.calls(sid).fetch()).rejects.toMatchObject({ status: 502 });
  await expect(client.calls(sid).update({ status: 'canceled' })).rejects.toMatchObject({ status: 503 });
  expect(entryOf(sim, sid).status).not.toBe('canceled');
  sim.behaviour = { numbers: { [TO]: { read_error: { status: 502 } } } };
  await expect(client.calls.list({ to: TO })).rejects.toMatchObject({ status: 502 });
  expect(await client.calls.list({ to: '+972500000002' })).toEqual([]);
  expect(await client.calls.list()).toHaveLength(1);
});

test('calls above the calls per second wait in the queue of the carrier, in order', async () => {
  const sim = await startSim({ default: { calls_per_second: 50 } });
  const numbers = Array.from({ length: 6 }, (_, i) => `+97250000000${i}`);
  for (const to of numbers) expect((await create(sim, { To: to })).status).toBe(201);
  await until('all are over', () => sim.ledger().every(({ status }) => status === 'completed'));
  const dialled = sim.ledger().map(({ to, statuses }) => ({ to, at_us: statuses[1]?.at_us ?? 0 }));
  expect(dialled.sort((a, b) => a.at_us - b.at_us).map(({ to }) => to)).toEqual(numbers);
  for (let i = 1; i < dialled.length; i++) {
    expect((dialled[i]?.at_us ?? 0) - (dialled[i - 1]?.at_us ?? 0)).toBeGreaterThanOrEqual(19_900);
  }
});

test('a call that was cancelled in the queue takes no slot', async () => {
  const sim = await startSim({ default: { calls_per_second: 2 } });
  for (const To of ['+972500000001', '+972500000002', '+972500000003']) await create(sim, { To });
  const [first, second, third] = sim.ledger();
  await clientOf(sim)
    .calls(second?.sid ?? '')
    .update({ status: 'canceled' });
  await until('the third is dialled', () => third?.statuses[1] !== undefined);
  const apart_us = (third?.statuses[1]?.at_us ?? 0) - (first?.statuses[1]?.at_us ?? 0);
  expect(apart_us).toBeGreaterThanOrEqual(499_000);
  expect(apart_us).toBeLessThan(950_000);
});

test('a queue goes on at once when the rate is lifted', async () => {
  const sim = await startSim({ default: { calls_per_second: 0.001 } });
  for (const to of ['+972500000001', '+972500000002']) await create(sim, { To: to });
  await until('the first is over', () => sim.ledger()[0]?.status === 'completed');
  expect(sim.ledger()[1]?.status).toBe('queued');
  sim.behaviour = {};
  await until('the second is dialled', () => sim.ledger()[1]?.status !== 'queued');
  expect((await totals(sim)).max_live).toBe(2);
});

test('the most specific behaviour wins, field by field', () => {
  const { forNumber, forAccount } = createBehaviour({
    default: { ring_ms: 1, talk_ms: 1, callback: { delay_ms: 1, drop: 0.1, duplicate: 0.1 } },
    accounts: { [ACCOUNT]: { talk_ms: 2, calls_per_second: 2, callback: { drop: 0.2, duplicate: 0.2 } } },
    numbers: { [TO]: { callback: { duplicate: 0.3 } } },
  });
  expect(forNumber(ACCOUNT, TO)).toMatchObject({
    ring_ms: [1, 1],
    talk_ms: [2, 2],
    calls_per_second: 2,
    callback: { delay_ms: [1, 1], drop: 0.2, duplicate: 0.3, reorder: 0 },
  });
  expect(forNumber('constructor', '+972500000002')).toMatchObject({ talk_ms: [1, 1], callback: { duplicate: 0.1 } });
  expect(forAccount('constructor').calls_per_second).toBeNull();
});

describe('behaviour over HTTP', () => {
  const put = (sim: CarrierSim, body: unknown) =>
    fetch(`${sim.url}/_sim/behaviour`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });

  test('is read, replaced while it runs, and what was read can be put back', async () => {
    const sim = await startSim();
    const read = async () => (await fetch(`${sim.url}/_sim/behaviour`)).json();
    const next: BehaviourInput = {
      default: { ring_ms: [1, 2], callback: { drop: 0.5 }, outcomes: { busy: 1 } },
      accounts: { [ACCOUNT]: { calls_per_second: 7 } },
      numbers: { [TO]: { refuse: { code: 21211 } } },
    };
    expect((await put(sim, next)).status).toBe(200);
    const now = await read();
    expect(now).toMatchObject({ default: { ring_ms: [1, 2], outcomes: { busy: 1, answered: 0 } } });
    expect((await put(sim, now)).status).toBe(200);
    expect(await read()).toEqual(now);
    expect((await create(sim)).status).toBe(400);
  });

  test.each<[string, unknown, string]>([
    ['an unknown field', { default: { rings_ms: 1 } }, 'default: Unrecognized key: "rings_ms"'],
    ['a probability above 1', { default: { lose_response: 2 } }, 'default.lose_response: '],
    ['a range the wrong way round', { default: { talk_ms: [2, 1] } }, 'default.talk_ms: The low end of the range'],
    ['a range of words', { default: { talk_ms: 'long' } }, 'default.talk_ms: Expected milliseconds'],
    ['no weight at all', { default: { outcomes: { busy: 0 } } }, 'default.outcomes: At least one weight'],
    ['a number that is none', { numbers: { '050': {} } }, 'numbers.050: '],
    ['a rate for a number', { numbers: { [TO]: { calls_per_second: 1 } } }, `numbers.${TO}: Unrecognized key`],
    [
      'a key that is none',
      { accounts: { A: { client_validation: { public_key_pem: 'x' } } } },
      'Expected an RSA public key',
    ],
    ['no object', [], '(the whole): '],
  ])('refuses %s with 422, names it, and changes nothing', async (_what, body, message) => {
    const sim = await startSim();
    const before = sim.behaviour;
    const answer = await put(sim, body);
    expect(answer.status).toBe(422);
    expect(await answer.json()).toMatchObject({ code: 'invalid_behaviour', error: expect.stringContaining(message) });
    expect(sim.behaviour).toEqual(before);
    expect(() => (sim.behaviour = body as BehaviourInput)).toThrow(message);
  });
});
