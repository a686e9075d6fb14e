import { generateKeyPairSync } from 'node:crypto';
import { type CarrierSim, startCarrierSim } from '@carillon/carrier-sim';
import type { CarrierCredentials } from '@carillon/contract';
import { afterEach, expect, test } from 'vitest';
import { createCarrierDrivers } from '../src/index.ts';
import {
  ACCOUNT_SID,
  AUTH_TOKEN,
  credentialsFor,
  httpAnswer,
  isComplete,
  OPEN_GATE,
  placeRequest,
  startWire,
  type Wire,
} from './support/wire.ts';

/** Creates that expire: the simulated carrier, which is tested with Twilio's own client, judges the signatures. */

const keyPair = (modulusLength = 2_048) =>
  generateKeyPairSync('rsa', {
    modulusLength,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
const { publicKey, privateKey } = keyPair();
const KEY = { credential_sid: 'CR1', signing_key_sid: 'SK1', private_key_pem: privateKey };

const driver = createCarrierDrivers({ effect_delay_ms: 90_000, listing_delay_ms: 60_000 }).get('twilio')!;
const nowMs = () => performance.timeOrigin + performance.now();

let sim: CarrierSim | undefined;
let wire: Wire | undefined;
afterEach(async () => {
  await sim?.close();
  await wire?.close();
  [sim, wire] = [undefined, undefined];
});

/** A carrier whose account takes signed creates only. */
async function startStrict(effect_delay_ms = 0): Promise<CarrierSim> {
  sim = await startCarrierSim({
    port: 0,
    behaviour: {
      default: { ring_ms: 20, talk_ms: 20, effect_delay_ms },
      accounts: { [ACCOUNT_SID]: { auth_token: AUTH_TOKEN, client_validation: { public_key_pem: publicKey } } },
    },
  });
  return sim;
}

function create(base_url: string, key: CarrierCredentials['client_validation'] = KEY, expires_in_ms = 60_000) {
  const credentials = { ...credentialsFor(base_url), client_validation: key };
  return driver.place({ ...placeRequest(base_url), credentials, expires_at_ms: nowMs() + expires_in_ms }, OPEN_GATE);
}

test('an account with a key is declared to have expiring creates, and how late one can take effect', () => {
  const credentials = credentialsFor('https://carrier.example');
  expect(driver.capabilities(credentials)).toMatchObject({ expiring_create: false, effect_delay_ms: 90_000 });
  expect(driver.capabilities({ ...credentials, client_validation: KEY })).toMatchObject({
    expiring_create: true,
    effect_delay_ms: 2_000,
    listing_delay_ms: 60_000,
  });
  const unbounded = createCarrierDrivers({ effect_delay_ms: null }).get('twilio')!;
  expect(unbounded.capabilities({ ...credentials, client_validation: KEY }).effect_delay_ms).toBe(2_000);
});

test('a signed create in time is accepted, and an unsigned one is not', async () => {
  const { url, ledger } = await startStrict();
  expect(await create(url)).toMatchObject({ kind: 'accepted' });
  const unsigned = await driver.place(placeRequest(url), OPEN_GATE);
  expect(unsigned).toMatchObject({ kind: 'rejected', code: '20003', class: 'lane' });
  expect(ledger()).toHaveLength(1);
});

test('a create that has expired when it comes to its effect is refused, and there is no call', async () => {
  const { url, ledger } = await startStrict();
  expect(await create(url, KEY, -2_000)).toMatchObject({ kind: 'rejected', class: 'lane' });
  await sim?.close();
  const slow = await startStrict(2_500);
  expect(await create(slow.url, KEY, 500)).toMatchObject({ kind: 'rejected', class: 'lane' });
  expect([...ledger(), ...slow.ledger()]).toEqual([]);
});

test('an expiry is given in whole seconds, and never before its time', async () => {
  wire = await startWire((one) => isComplete(one) && one.socket.end(httpAnswer(201, '{"sid":"CA1"}')));
  for (const [n, expires_at_ms] of [1_790_000_000_000, 1_790_000_000_001, 1_790_000_000_999].entries()) {
    const credentials = { ...credentialsFor(wire.base_url), client_validation: KEY };
    await driver.place({ ...placeRequest(wire.base_url), credentials, expires_at_ms }, OPEN_GATE);
    expect(claimsOf(wire, n).exp).toBe(Math.ceil(expires_at_ms / 1_000));
  }
});

test('signed with a key that the carrier does not know it is refused', async () => {
  const { url, ledger } = await startStrict();
  const stranger = { ...KEY, private_key_pem: keyPair().privateKey };
  expect(await create(url, stranger)).toMatchObject({ kind: 'rejected', class: 'lane' });
  expect(ledger()).toEqual([]);
});

test('with a key that can not sign, nothing is dialled and nothing of the key is told', async () => {
  const { url, ledger } = await startStrict();
  const broken = { ...KEY, private_key_pem: '-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----' };
  expect(await create(url, broken)).toEqual({ kind: 'not_dialed', cause: 'signing_failed' });
  expect(ledger()).toEqual([]);
});

test('whoever only asks, lists or hangs up signs as well, each request its own', async () => {
  wire = await startWire((one) => isComplete(one) && one.socket.end(httpAnswer(200, '{"calls":[]}')));
  const credentials = { ...credentialsFor(wire.base_url), client_validation: KEY };
  await driver.fetchCall(credentials, 'CA1');
  await driver.find(credentials, { to: '+97231234567', from: '+97231234568', created_from_ms: 0, created_to_ms: 1 });
  await driver.list?.(credentials, { created_from_ms: 0, created_to_ms: 1, page: null });
  await driver.hangUp(credentials, 'CA1');
  expect(wire.connections.length).toBeGreaterThanOrEqual(4);
  const hashes = wire.connections.map((_, n) => claimsOf(wire!, n).rqh);
  // The two orders of a hang-up differ in their bodies.
  expect(new Set(hashes).size).toBe(hashes.length);
  expect(claimsOf(wire, 0)).toMatchObject({ sub: ACCOUNT_SID, iss: 'SK1', hrh: 'authorization;host' });
});

test('a key with a secret stands in the place of the account’s token', async () => {
  wire = await startWire((one) => isComplete(one) && one.socket.end(httpAnswer(201, '{"sid":"CA1"}')));
  await create(wire.base_url, { ...KEY, signing_key_secret: 'the secret of the key' });
  const authorization = /^authorization: Basic (\S+)/im.exec(wire.connections[0]?.head() ?? '')?.[1] ?? '';
  expect(Buffer.from(authorization, 'base64').toString()).toBe('SK1:the secret of the key');
});

interface Claims {
  exp: number;
  rqh: string;
}

function claimsOf({ connections }: Wire, n: number): Claims {
  const token = /^twilio-client-validation: (\S+)/im.exec(connections[n]?.head() ?? '')?.[1] ?? '';
  return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as Claims;
}
