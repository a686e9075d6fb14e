import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { CarrierCall, CarrierRequest, PlaceRequest } from '@carillon/contract';
import { type BehaviourInput, type CarrierSim, startCarrierSim } from '@carillon/carrier-sim';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { createCarrierDrivers } from '../src/index.ts';
import { until } from '../../../test/support/wait.ts';
import { AUTH_TOKEN, credentialsFor, FROM, OPEN_GATE, placeRequest } from './support/wire.ts';

/** The driver against the simulated carrier, which shares no code with it: the whole way of a call. */

const driver = createCarrierDrivers({ request_timeout_ms: 5_000, dial_response_timeout_ms: 2_000 }).get('twilio')!;

let sim: CarrierSim;
let customer: Server;
let public_url: string;
let received: CarrierRequest[] = [];
/** What the answer URL says. */
let script: () => { content_type: string; body: string } = () =>
  driver.answer({ say: 'שלום & ברוכים', language: 'he-IL' });

beforeAll(async () => {
  sim = await startCarrierSim({ port: 0 });
  customer = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const form = Object.fromEntries(new URLSearchParams(Buffer.concat(chunks).toString()));
      received.push({ url: public_url + request.url, headers: request.headers, form });
      if (!request.url?.startsWith('/answer')) return response.writeHead(204).end();
      const { content_type, body } = script();
      return response.writeHead(200, { 'Content-Type': content_type }).end(body);
    });
  });
  await new Promise<void>((resolve) => customer.listen(0, '127.0.0.1', resolve));
  public_url = `http://127.0.0.1:${(customer.address() as AddressInfo).port}`;
});
afterAll(async () => {
  await sim.close();
  customer.closeAllConnections();
  await new Promise((resolve) => customer.close(resolve));
});

const ANSWERED = { answered: 1 };
const QUICK: NonNullable<BehaviourInput['default']> = {
  ring_ms: 20,
  talk_ms: 20,
  response_delay_ms: 0,
  callback: { delay_ms: 0 },
  outcomes: ANSWERED,
};
function behave(changes: NonNullable<BehaviourInput['default']> = {}): void {
  sim.behaviour = {
    default: { ...QUICK, ...changes },
    accounts: { [credentials().account_sid]: { auth_token: AUTH_TOKEN } },
  };
}
beforeEach(() => {
  received = [];
  script = () => driver.answer({ say: 'שלום & ברוכים', language: 'he-IL' });
  behave();
});

const credentials = () => credentialsFor(sim.url);
let last_number = 0;
/** Each test calls a number of its own. */
function callTo(changes: Partial<PlaceRequest> = {}): PlaceRequest {
  last_number += 1;
  const to = `+97250${String(1_000_000 + last_number)}`;
  const urls = { status_url: `${public_url}/status/${last_number}`, answer_url: `${public_url}/answer/${last_number}` };
  return { ...placeRequest(sim.url), ...urls, to, ...changes };
}

function ledgerOf(request: PlaceRequest) {
  return sim.ledger().filter(({ to }) => to === request.to);
}

function findFor({ to }: PlaceRequest, around_ms = 5_000) {
  const now_ms = performance.timeOrigin + performance.now();
  const span = { created_from_ms: now_ms - around_ms, created_to_ms: now_ms + around_ms };
  return driver.find(credentials(), { to, from: FROM, ...span });
}

async function placed(request: PlaceRequest): Promise<string> {
  const result = await driver.place(request, OPEN_GATE);
  if (result.kind !== 'accepted') throw new Error(`not accepted: ${JSON.stringify(result)}`);
  return result.call_id;
}

async function stateOf(call_id: string): Promise<CarrierCall | null> {
  const result = await driver.fetchCall(credentials(), call_id);
  return result.kind === 'call' ? result.call : null;
}

test('a call from its create to its last callback', async () => {
  const request = callTo();
  const call_id = await placed(request);
  expect(ledgerOf(request).map(({ sid }) => sid)).toEqual([call_id]);
  const ended = await until(
    () => received.map((one) => driver.readEvent(one)).find((event) => event?.phase === 'ended'),
    { deadline_ms: 5_000, what: 'the last callback' },
  );
  expect(ended).toMatchObject({ call_id, outcome: 'completed', cause: null });

  const states = received.filter(({ url }) => url === request.status_url).map((one) => driver.readEvent(one)?.phase);
  expect(states.sort()).toEqual(['ended', 'in_call', 'queued', 'ringing']);
  const answers = received.filter(({ url }) => url === request.answer_url);
  expect(answers).toHaveLength(1);
  for (const one of received) {
    expect(driver.verify(credentials(), one)).toBe(true);
    expect(driver.verify({ ...credentials(), auth_token: 'another' }, one)).toBe(false);
    expect(driver.verify(credentials(), { ...one, form: { ...one.form, CallStatus: 'busy' } })).toBe(false);
  }
  expect(ledgerOf(request)[0]?.warning, 'the answer was followed').toBe(null);
  expect(await stateOf(call_id)).toMatchObject({ phase: 'ended', outcome: 'completed', duration_s: 1 });
  const found = await findFor(request);
  expect(found).toMatchObject({ kind: 'listed', calls: [{ call_id, outcome: 'completed' }] });
});

test.each([
  ['no_answer', 'no_answer', 'sip_487'],
  ['busy', 'busy', 'sip_486'],
  ['failed', 'failed', 'sip_404'],
] as const)('a call that ends as %s', async (fate, outcome, cause) => {
  behave({ outcomes: { [fate]: 1 } });
  const call_id = await placed(callTo());
  const ended = await until(
    () => received.map((one) => driver.readEvent(one)).find((event) => event?.phase === 'ended'),
    { deadline_ms: 5_000, what: 'the last callback' },
  );
  expect(ended).toEqual({ call_id, phase: 'ended', outcome, duration_s: 0, created_at_s: null, cause });
});

test('each refusal is one, and no call exists', async () => {
  for (const [code, status, expected] of [
    [21211, 400, 'contact'],
    [20429, 429, 'again'],
    [10004, 429, 'again'],
    [21210, 400, 'lane'],
    [20005, 403, 'lane'],
  ] as const) {
    behave({ refuse: { code, status } });
    const request = callTo();
    const result = await driver.place(request, OPEN_GATE);
    expect(result).toMatchObject({ kind: 'rejected', code: String(code), class: expected });
    expect(ledgerOf(request)).toEqual([]);
  }
  const wrong = callTo();
  const result = await driver.place({ ...wrong, credentials: { ...credentials(), auth_token: 'no' } }, OPEN_GATE);
  expect(result.kind === 'rejected' ? result.class : result).toBe('lane');
  expect(await driver.place(callTo({ to: '+97' }), OPEN_GATE)).toMatchObject({ kind: 'rejected', class: 'contact' });
  expect(await driver.place(callTo({ from: '5' }), OPEN_GATE)).toMatchObject({ kind: 'rejected', class: 'lane' });
  expect(await driver.place(callTo({ answer_url: 'x' }), OPEN_GATE)).toMatchObject({ kind: 'rejected', class: 'lane' });
  expect(await driver.place(callTo({ status_url: 'x' }), OPEN_GATE)).toMatchObject({ kind: 'rejected', class: 'lane' });
});

test('a lost answer is unknown, and the call is found by listing', async () => {
  behave({ lose_response: 1 });
  const request = callTo();
  expect(await driver.place(request, OPEN_GATE)).toEqual({ kind: 'unknown', cause: 'ECONNRESET' });
  const [entry] = ledgerOf(request);
  expect(await findFor(request)).toMatchObject({ kind: 'listed', calls: [{ call_id: entry?.sid }] });
  const someone_else = await driver.find(credentials(), {
    to: request.to,
    from: '+97231112223',
    created_from_ms: 0,
    created_to_ms: 4e12,
  });
  expect(someone_else).toEqual({ kind: 'listed', calls: [] });
});

test.each([
  ['an error page, and a call', { status: 502, create: true }, 1],
  ['an error page, and none', { status: 403, create: false }, 0],
  ['a page instead of the answer', { status: 200, create: true }, 1],
  ['a redirect', { status: 302, create: true }, 1],
])('%s: unknown either way, and the ledger’s calls are found', async (_what, http_error, calls) => {
  behave({ http_error });
  const request = callTo();
  expect((await driver.place(request, OPEN_GATE)).kind).toBe('unknown');
  expect(ledgerOf(request)).toHaveLength(calls);
  const found = await findFor(request);
  expect(found.kind === 'listed' && found.calls).toHaveLength(calls);
});

test('an answer that comes too late is unknown', async () => {
  behave({ response_delay_ms: 60_000 });
  const request = callTo();
  const hasty = createCarrierDrivers({ dial_response_timeout_ms: 200 }).get('twilio')!;
  expect(await hasty.place(request, OPEN_GATE)).toEqual({ kind: 'unknown', cause: 'response_timeout' });
  expect(ledgerOf(request)).toHaveLength(1);
});

test('a carrier that is down: nothing was dialed, and nothing can be asked', async () => {
  behave({ down: true });
  const request = callTo();
  // The gate opens only after the connection is gone.
  const result = await driver.place(request, { pace: () => new Promise(() => undefined), mayStart: () => true });
  expect(result).toEqual({ kind: 'not_dialed', cause: 'ECONNRESET' });
  expect(await findFor(request)).toEqual({ kind: 'error', cause: 'ECONNRESET' });
  behave({ read_error: { status: 503 } });
  expect(await findFor(request)).toEqual({ kind: 'error', cause: 'http_503' });
  expect(ledgerOf(request)).toEqual([]);
});

test('past the deadline the carrier has an unfinished request and no call', async () => {
  const request = callTo();
  const result = await driver.place(request, { ...OPEN_GATE, mayStart: () => false });
  expect(result).toEqual({ kind: 'not_dialed', cause: 'deadline_passed' });
  expect(await findFor(request)).toEqual({ kind: 'listed', calls: [] });
  expect(ledgerOf(request)).toEqual([]);
});

test('a body that waits too long: the carrier drops the request, and nothing was dialed', async () => {
  behave();
  sim.behaviour = { ...sim.behaviour, body_timeout_ms: 100 };
  const request = callTo();
  const result = await driver.place(request, { pace: () => new Promise(() => undefined), mayStart: () => true });
  expect(result.kind).toBe('not_dialed');
  expect(ledgerOf(request)).toEqual([]);
});

test('every page of a long listing is read', async () => {
  const request = callTo();
  const ids: string[] = [];
  behave({ outcomes: { failed: 1 } });
  for (let n = 0; n < 205; n += 1) ids.push(await placed(request));
  const found = await findFor(request, 60_000);
  const found_ids = found.kind === 'listed' ? found.calls.map(({ call_id }) => call_id) : found;
  expect(found_ids).toEqual(ids.toReversed());
});

test('a listing that lags shows the call later', async () => {
  behave({ listing_lag_ms: 300 });
  const request = callTo();
  const call_id = await placed(request);
  expect(await findFor(request)).toEqual({ kind: 'listed', calls: [] });
  await until(
    async () => {
      const found = await findFor(request);
      return found.kind === 'listed' && found.calls.some((call) => call.call_id === call_id);
    },
    { deadline_ms: 5_000, what: 'the call in the listing' },
  );
  expect((await driver.fetchCall(credentials(), call_id)).kind).toBe('call');
});

test('calls are ended while queued, ringing and live, and what is over is over', async () => {
  behave({ calls_per_second: 0.001, ring_ms: 60_000, talk_ms: 60_000 });
  await placed(callTo());
  const queued = await placed(callTo());
  expect(await stateOf(queued)).toMatchObject({ phase: 'queued' });
  expect(await driver.hangUp(credentials(), queued)).toEqual({ kind: 'over' });
  expect(await stateOf(queued)).toMatchObject({ phase: 'ended', outcome: 'cancelled' });

  behave({ ring_ms: 60_000 });
  const ringing = await placed(callTo());
  await until(async () => (await stateOf(ringing))?.phase === 'ringing', { deadline_ms: 5_000, what: 'ringing' });
  expect(await driver.hangUp(credentials(), ringing)).toEqual({ kind: 'over' });
  expect(await stateOf(ringing), 'nobody answered').toMatchObject({ phase: 'ended', outcome: 'cancelled' });

  behave({ talk_ms: 60_000 });
  const live = await placed(callTo());
  await until(async () => (await stateOf(live))?.phase === 'in_call', { deadline_ms: 5_000, what: 'live' });
  expect(await driver.hangUp(credentials(), live)).toEqual({ kind: 'over' });
  expect(await stateOf(live)).toMatchObject({ phase: 'ended', outcome: 'completed' });

  expect(await driver.hangUp(credentials(), live)).toEqual({ kind: 'over' });
  expect(await driver.hangUp(credentials(), 'CAnone')).toEqual({ kind: 'error', cause: 'http_404_code_20404' });
  expect(await driver.fetchCall(credentials(), 'CAnone')).toEqual({ kind: 'absent' });
});

test('a call nobody wants is told to hang up when it is answered', async () => {
  behave({ talk_ms: 60_000 });
  script = () => driver.hangUpAnswer();
  const call_id = await placed(callTo());
  await until(async () => (await stateOf(call_id))?.phase === 'ended', { deadline_ms: 5_000, what: 'the end' });
  expect(await stateOf(call_id)).toMatchObject({ outcome: 'completed' });
});

test('leaves no socket open, however its requests ended', async () => {
  // The simulator's ends of the connections live in this process too; they go with ours.
  const sockets = () => process.getActiveResourcesInfo().filter((kind) => /TCPSocketWrap/.test(kind)).length;
  behave({ callback: { delay_ms: 0, drop: 1 } });
  const before = sockets();
  for (let call = 0; call < 10; call++) {
    const placed = await driver.place(placeRequest(sim.url), OPEN_GATE);
    if (placed.kind === 'accepted') await driver.fetchCall(credentials(), placed.call_id);
  }
  behave({ lose_response: 1, callback: { delay_ms: 0, drop: 1 } });
  expect((await driver.place(placeRequest(sim.url), OPEN_GATE)).kind).toBe('unknown');
  await until(() => sockets() <= before + 2, { deadline_ms: 10_000, what: `no more than ${before} sockets` });
  expect(sockets()).toBeLessThanOrEqual(before + 2);
});
