import { describe, expect, test } from 'vitest';
import { callResource } from '../src/call-resource.ts';
import { ACCOUNT, clientOf, ended, entryOf, FROM, startCustomer, startSim, TO, TOKEN, until } from './harness.ts';
import type { Reply } from './harness.ts';

const talk = { to: TO, from: FROM, twiml: '<Response><Say>Hello</Say></Response>' };

describe('creating and reading calls with the official client', () => {
  test('a call is created, read, and goes its way', async () => {
    const sim = await startSim();
    const client = clientOf(sim);
    const created = await client.calls.create({ ...talk, timeout: 20, timeLimit: 60 });
    expect(created).toMatchObject({
      sid: expect.stringMatching(/^CA[0-9a-f]{32}$/),
      accountSid: ACCOUNT,
      to: TO,
      from: FROM,
      status: 'queued',
      direction: 'outbound-api',
      startTime: null,
      apiVersion: '2010-04-01',
    });
    const entry = await ended(sim, created.sid);
    expect(entry.statuses.map(({ status }) => status)).toEqual([
      'queued',
      'initiated',
      'ringing',
      'in-progress',
      'completed',
    ]);
    const fetched = await client.calls(created.sid).fetch();
    expect(fetched).toMatchObject({ status: 'completed', duration: '1' });
    expect(fetched.dateCreated.getTime()).toBe(Math.floor(entry.created_us / 1_000_000) * 1000);
    expect(new Date(entry.created_at).getTime()).toBe(Math.floor(entry.created_us / 1000));
    expect(entry.response).toBe('sent');
  });

  test('a call that is dialled and does not ring yet is queued to the API, which has no word for it', async () => {
    const sim = await startSim();
    const { sid } = await clientOf(sim).calls.create(talk);
    const entry = await ended(sim, sid);
    expect(callResource({ ...entry, status: 'initiated' }).status).toBe('queued');
  });

  test.each([
    ['busy', 'busy', ['queued', 'initiated', 'ringing', 'busy']],
    ['no_answer', 'no-answer', ['queued', 'initiated', 'ringing', 'no-answer']],
    ['failed', 'failed', ['queued', 'initiated', 'failed']],
    ['voicemail', 'completed', ['queued', 'initiated', 'ringing', 'in-progress', 'completed']],
  ])('a call whose fate is %s ends as %s', async (outcome, status, way) => {
    const sim = await startSim({ default: { outcomes: { [outcome]: 1 } } });
    const { sid } = await clientOf(sim).calls.create(talk);
    const entry = await ended(sim, sid, status);
    expect(entry.statuses.map((one) => one.status)).toEqual(way);
    expect((await clientOf(sim).calls(sid).fetch()).duration).toBe(outcome === 'voicemail' ? '1' : '0');
  });

  test('the ring time-out and the time limit that were sent are kept', async () => {
    const sim = await startSim({
      numbers: { '+972500000001': { ring_ms: 60_000 }, '+972500000002': { talk_ms: 60_000 } },
    });
    const client = clientOf(sim);
    const [rings, talks] = await Promise.all([
      client.calls.create({ ...talk, to: '+972500000001', timeout: 1 }),
      client.calls.create({ ...talk, to: '+972500000002', timeLimit: 1 }),
    ]);
    for (const entry of [await ended(sim, rings.sid, 'no-answer'), await ended(sim, talks.sid)]) {
      const [before_us = 0, over_us = 0] = entry.statuses.slice(-2).map(({ at_us }) => at_us);
      expect(over_us - before_us).toBeGreaterThan(950_000);
      expect(over_us - before_us).toBeLessThan(2_000_000);
    }
  });

  test('what is missing or wrong is refused with the code that Twilio gives', async () => {
    const sim = await startSim();
    const client = clientOf(sim);
    const refused = (fields: object) =>
      client.calls.create({ ...talk, ...fields }).then(
        () => 'accepted',
        (error: { code: number; status: number; moreInfo: string }) =>
          `${error.status} ${error.code} ${error.moreInfo}`,
      );
    expect(await refused({ to: '' })).toBe('400 21201 https://www.twilio.com/docs/errors/21201');
    expect(await refused({ to: '050-1234567' })).toMatch(/^400 21211/);
    expect(await refused({ from: '' })).toMatch(/^400 21213/);
    expect(await refused({ from: '123' })).toMatch(/^400 21212/);
    expect(await refused({ twiml: '' })).toMatch(/^400 21205/);
    expect(await refused({ url: 'ftp://example.org/' })).toMatch(/^400 21205/);
    expect(await refused({ statusCallback: 'nowhere' })).toMatch(/^400 21609/);
    expect(await refused({ to: '+972 (50) 123-4567' })).toBe('accepted');
    expect(sim.ledger().map(({ to }) => to)).toEqual(['+972501234567']);
  });

  test('the account of the URL must be the user, and a required token must be borne', async () => {
    const sim = await startSim({ accounts: { [ACCOUNT]: { auth_token: TOKEN } } });
    const other = 'AC00000000000000000000000000000002';
    await expect(clientOf(sim, ACCOUNT, 'wrong').calls.create(talk)).rejects.toMatchObject({
      status: 401,
      code: 20003,
    });
    await expect(clientOf(sim, other, 'anything').calls.create(talk)).resolves.toMatchObject({ accountSid: other });
    const bare = await fetch(`${sim.url}/2010-04-01/Accounts/${ACCOUNT}/Calls.json`);
    expect(bare.status).toBe(401);
    const borrowed = await fetch(`${sim.url}/2010-04-01/Accounts/${ACCOUNT}/Calls.json`, {
      headers: { authorization: `Basic ${Buffer.from(`${other}:${TOKEN}`).toString('base64')}` },
    });
    expect(borrowed.status).toBe(401);
    expect(sim.ledger().map(({ account }) => account)).toEqual([other]);
  });

  test('a call of another account is as unknown as one that does not exist', async () => {
    const sim = await startSim();
    const { sid } = await clientOf(sim).calls.create(talk);
    const stranger = clientOf(sim, 'AC00000000000000000000000000000002');
    await expect(stranger.calls(sid).fetch()).rejects.toMatchObject({ status: 404, code: 20404 });
    await expect(
      clientOf(sim)
        .calls(`CA${'0'.repeat(32)}`)
        .fetch(),
    ).rejects.toMatchObject({ status: 404, code: 20404 });
    expect(await stranger.calls.list()).toEqual([]);
  });
});

describe('lists', () => {
  test('are filtered, newest first, and paged without gaps while calls keep coming', async () => {
    const sim = await startSim();
    const client = clientOf(sim);
    const numbers = Array.from({ length: 7 }, (_, i) => `+97250000000${i}`);
    for (const to of numbers) await client.calls.create({ ...talk, to });
    const first = await client.calls.page({ pageSize: 3 });
    expect(first.instances.map(({ to }) => to)).toEqual(numbers.slice(4).toReversed());
    await client.calls.create({ ...talk, to: '+972500000009' });
    const second = await first.nextPage();
    expect(second?.instances.map(({ to }) => to)).toEqual(numbers.slice(1, 4).toReversed());
    const third = await second?.nextPage();
    expect(third?.instances.map(({ to }) => to)).toEqual(numbers.slice(0, 1));
    expect(await third?.nextPage()).toBeUndefined();
    expect(await client.calls.list({ pageSize: 2 })).toHaveLength(8);
    expect(await client.calls.list({ to: numbers[3], from: FROM })).toHaveLength(1);
    expect(await client.calls.list({ to: numbers[3], from: '+972550000099' })).toHaveLength(0);
  });

  test('are filtered by status, and refuse filters that they do not know', async () => {
    const sim = await startSim({ numbers: { [TO]: { outcomes: { busy: 1 } } } });
    const client = clientOf(sim);
    const { sid } = await client.calls.create(talk);
    await client.calls.create({ ...talk, to: '+972500000002' });
    await ended(sim, sid, 'busy');
    expect((await client.calls.list({ status: 'busy' })).map((call) => call.sid)).toEqual([sid]);
    await expect(client.calls.list({ startTimeAfter: new Date(0) })).rejects.toMatchObject({ code: 20001 });
  });

  test('are not paged by number alone, which would show calls twice or not at all', async () => {
    const client = clientOf(await startSim());
    await expect(client.calls.page({ pageNumber: 1 })).rejects.toMatchObject({ status: 400, code: 20001 });
    await expect(client.calls.page({ pageSize: 1001 })).rejects.toMatchObject({ status: 400, code: 20001 });
    await expect(client.calls.page({ pageToken: 'PAnone' })).rejects.toMatchObject({ status: 400, code: 20001 });
  });

  test('show a call only after the listing lag, while its sid finds it at once', async () => {
    const sim = await startSim({ default: { listing_lag_ms: 60_000 } });
    const client = clientOf(sim);
    const { sid } = await client.calls.create(talk);
    expect(await client.calls.list({ to: TO })).toEqual([]);
    expect((await client.calls(sid).fetch()).sid).toBe(sid);
    sim.behaviour = { default: { listing_lag_ms: 0 } };
    expect(await client.calls.list({ to: TO })).toHaveLength(1);
  });
});

describe('changing a call', () => {
  test('a ringing call is cancelled, and only once', async () => {
    const sim = await startSim({ default: { ring_ms: 60_000, calls_per_second: 1000 } });
    const client = clientOf(sim);
    const { sid } = await client.calls.create(talk);
    expect((await client.calls(sid).update({ status: 'canceled' })).status).toBe('canceled');
    expect(entryOf(sim, sid).status).toBe('canceled');
    await expect(client.calls(sid).update({ status: 'canceled' })).rejects.toMatchObject({ status: 400, code: 21220 });
    await expect(client.calls(sid).update({ status: 'completed' })).rejects.toMatchObject({ status: 400, code: 21220 });
  });

  test('a call in progress is not cancelled but hung up', async () => {
    const sim = await startSim({ default: { talk_ms: 60_000 } });
    const client = clientOf(sim);
    const { sid } = await client.calls.create(talk);
    await until('answered', () => entryOf(sim, sid).status === 'in-progress');
    await expect(client.calls(sid).update({ status: 'canceled' })).rejects.toMatchObject({ code: 21220 });
    expect((await client.calls(sid).update({ status: 'completed' })).status).toBe('completed');
  });

  test('a hang-up before the answer leaves a call that nobody answered', async () => {
    const sim = await startSim({ default: { ring_ms: 60_000 } });
    const client = clientOf(sim);
    const { sid } = await client.calls.create(talk);
    expect((await client.calls(sid).update({ status: 'completed' })).status).toBe('canceled');
  });

  test('a call in progress takes other instructions, and drops the old ones', async () => {
    const sim = await startSim({ default: { talk_ms: 60_000 } });
    const customer = await startCustomer(({ path }) => ({
      body: path === '/hold' ? '<Response><Pause length="60"/></Response>' : '<Response><Hangup/></Response>',
    }));
    const client = clientOf(sim);
    const { sid } = await client.calls.create({ to: TO, from: FROM, url: `${customer.url}/hold` });
    await until('the first instructions', () => customer.to('/hold').length === 1);
    await client.calls(sid).update({ url: `${customer.url}/end` });
    await ended(sim, sid);
    expect(customer.to('/end')).toHaveLength(1);
  });

  test('instructions that come after the call got others are not followed', async () => {
    const sim = await startSim({ default: { talk_ms: 60_000 } });
    let answer = (_reply: Reply) => {};
    const customer = await startCustomer(({ path }) =>
      path === '/slow'
        ? new Promise<Reply>((resolve) => (answer = resolve))
        : { body: '<Response><Say>Hello</Say></Response>' },
    );
    const client = clientOf(sim);
    const { sid } = await client.calls.create({ to: TO, from: FROM, url: `${customer.url}/slow` });
    await until('the first question', () => customer.to('/slow').length === 1);
    await client.calls(sid).update({ url: `${customer.url}/other` });
    await until('the second question', () => customer.to('/other').length === 1);
    answer({ body: '<Response><Hangup/></Response>' });
    await until('both answers', async () => (await client.calls(sid).events.list()).length === 2);
    expect(entryOf(sim, sid).status).toBe('in-progress');
  });
});

test('the events of a call show the requests that were made for it', async () => {
  const sim = await startSim();
  const customer = await startCustomer();
  const client = clientOf(sim);
  const { sid } = await client.calls.create({
    to: TO,
    from: FROM,
    url: `${customer.url}/answer?token=abc`,
    statusCallback: `${customer.url}/status?token=abc`,
  });
  await until('both', async () => (await client.calls(sid).events.list()).length === 2);
  const [answer, status] = await client.calls(sid).events.list();
  expect(answer?.request).toMatchObject({
    method: 'POST',
    url: `${customer.url}/answer?token=abc`,
    parameters: { call_sid: sid, call_status: 'in-progress' },
  });
  expect(answer?.response).toMatchObject({ response_code: 200, response_body: '<Response/>' });
  expect(status?.request).toMatchObject({ parameters: { call_status: 'completed', sequence_number: '0' } });
});
