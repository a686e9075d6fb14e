import { generateKeyPairSync } from 'node:crypto';
import twilio from 'twilio';
import { expect, test } from 'vitest';
import { systemClock } from '../src/clock.ts';
import { ACCOUNT, clientOf, create, FROM, startSim, TO, TOKEN } from './harness.ts';

const { publicKey, privateKey } = generateKeyPairSync('rsa', {
  modulusLength: 2048,
  publicKeyEncoding: { type: 'spki', format: 'pem' },
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
});
const stranger = generateKeyPairSync('rsa', {
  modulusLength: 2048,
  publicKeyEncoding: { type: 'spki', format: 'pem' },
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
});
const call = { to: TO, from: FROM, twiml: '<Response/>' };
const required = { accounts: { [ACCOUNT]: { client_validation: { public_key_pem: publicKey } } } };

/** Twilio's own client, signing each request. The simulator's clock may be ahead, as after a delay on the way. */
async function start({ key = privateKey, account = ACCOUNT, ahead_s = 0 } = {}) {
  const sim = await startSim(required, { now: () => systemClock() + ahead_s * 1_000_000 });
  const validationClient = { accountSid: account, credentialSid: 'CR1', signingKey: 'SK1', privateKey: key };
  return { sim, client: clientOf(sim, ACCOUNT, TOKEN, new twilio.RequestClient({ validationClient })) };
}

test('a create signed by the official client is accepted', async () => {
  const { client } = await start();
  expect((await client.calls.create(call)).status).toBe('queued');
});

test.each([
  ['signed with another key', { key: stranger.privateKey }, 'the signature is wrong'],
  ['of another account', { account: 'AC9' }, 'the token names another account'],
  ['that has expired', { ahead_s: 301 }, 'the token has expired'],
])('a token %s is refused and creates nothing', async (_what, options, message) => {
  const { sim, client } = await start(options);
  await expect(client.calls.create(call)).rejects.toMatchObject({
    status: 401,
    code: 20003,
    message: expect.stringContaining(message),
  });
  expect(sim.ledger()).toEqual([]);
});

test('a request without a token, with nonsense, or with the token of another request is refused', async () => {
  const { sim, client } = await start();
  let used = '';
  (client.httpClient as twilio.RequestClient).axios.interceptors.response.use((response) => {
    used = String(response.config.headers['Twilio-Client-Validation']);
    return response;
  });
  await client.calls.create(call);
  expect((await create(sim)).status).toBe(401);
  const borrow = (token: string) =>
    fetch(`${sim.url}/2010-04-01/Accounts/${ACCOUNT}/Calls.json`, {
      method: 'POST',
      headers: {
        authorization: `Basic ${Buffer.from(`${ACCOUNT}:${TOKEN}`).toString('base64')}`,
        'twilio-client-validation': token,
      },
      body: new URLSearchParams({ To: '+972500000002', From: FROM, Twiml: '<Response/>' }),
    });
  const [nonsense, borrowed] = [await borrow('a.b.c'), await borrow(used)];
  expect([nonsense.status, borrowed.status]).toEqual([401, 401]);
  expect(await borrowed.json()).toMatchObject({ message: expect.stringContaining('another request') });
  expect(sim.ledger()).toHaveLength(1);
});

test('a create that expires between its arrival and its effect makes no call', async () => {
  let ahead_us = 0;
  const sim = await startSim(
    { ...required, default: { effect_delay_ms: 100 } },
    { now: () => systemClock() + ahead_us },
  );
  const validationClient = { accountSid: ACCOUNT, credentialSid: 'CR1', signingKey: 'SK1', privateKey };
  const client = clientOf(sim, ACCOUNT, TOKEN, new twilio.RequestClient({ validationClient }));
  const creating = client.calls.create(call);
  ahead_us = 301_000_000;
  await expect(creating).rejects.toMatchObject({ code: 20003, message: expect.stringContaining('expired') });
  expect(sim.ledger()).toEqual([]);
});
