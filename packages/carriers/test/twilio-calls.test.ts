import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { CarrierCredentials } from '@carillon/contract';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { createCarrierDrivers } from '../src/index.ts';
import { parseDate_s, readCall } from '../src/twilio/call.ts';
import { compareNumbers } from '../src/twilio/numbers.ts';
import { ACCOUNT_SID, AUTH_TOKEN, credentialsFor, FROM, secretsIn, TO } from './support/wire.ts';

/** Finding, fetching and ending calls that exist. */

const driver = createCarrierDrivers({ request_timeout_ms: 1_000 }).get('twilio')!;

interface Asked {
  method: string;
  url: URL;
  form: Record<string, string>;
}
type Response = { status?: number; body: unknown; headers?: Record<string, string> };

let server: Server;
let credentials: CarrierCredentials;
let asked: Asked[] = [];
let unauthorized = 0;
let respond: (asked: Asked, n: number) => Response | 'hang up';

beforeAll(async () => {
  server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const basic = `Basic ${Buffer.from(`${ACCOUNT_SID}:${AUTH_TOKEN}`).toString('base64')}`;
      if (request.headers.authorization !== basic) unauthorized += 1;
      const form = Object.fromEntries(new URLSearchParams(Buffer.concat(chunks).toString()));
      const one = { method: request.method ?? '', url: new URL(request.url ?? '', 'http://carrier'), form };
      asked.push(one);
      const answer = respond(one, asked.length - 1);
      if (answer === 'hang up') return request.socket.destroy();
      response.writeHead(answer.status ?? 200, { 'Content-Type': 'application/json', ...answer.headers });
      return response.end(typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  credentials = credentialsFor(`http://127.0.0.1:${(server.address() as AddressInfo).port}/api/laml`);
});
afterAll(() => new Promise((resolve) => server.close(resolve)));
beforeEach(() => {
  asked = [];
  unauthorized = 0;
});

const CREATED_S = Date.UTC(2026, 4, 7, 9, 30, 15) / 1000;
const CREATED = 'Thu, 07 May 2026 09:30:15 +0000';
const LISTING = `/api/laml/2010-04-01/Accounts/${ACCOUNT_SID}/Calls.json`;

function listed(changes: Record<string, unknown> = {}) {
  return { sid: 'CA1', to: TO, from: FROM, status: 'queued', date_created: CREATED, start_time: null, ...changes };
}

function error(status: number, code: number): Response {
  return { status, body: { code, message: `no ${TO}`, more_info: 'https://example.com', status } };
}

const wanted = { to: TO, from: FROM, created_from_ms: (CREATED_S - 5) * 1000, created_to_ms: (CREATED_S + 5) * 1000 };
const find = (span: { created_from_ms?: number; created_to_ms?: number } = {}) =>
  driver.find(credentials, { ...wanted, ...span });

test('a listing is asked by both numbers and not by any time', async () => {
  respond = () => ({ body: { calls: [listed()], next_page_uri: null } });
  expect(await find()).toEqual({
    kind: 'listed',
    calls: [{ call_id: 'CA1', phase: 'queued', outcome: null, duration_s: null, created_at_s: CREATED_S, cause: null }],
  });
  expect(asked.map(({ method, url }) => [method, url.pathname])).toEqual([['GET', LISTING]]);
  expect(Object.fromEntries(asked[0]!.url.searchParams)).toEqual({ To: TO, From: FROM, PageSize: '200' });
  expect(unauthorized).toBe(0);
});

test('every page is read, also where the carrier leaves out the path before the API', async () => {
  const pages = [
    `${LISTING}?Page=1&PageToken=PA1`,
    `/2010-04-01/Accounts/${ACCOUNT_SID}/Calls.json?Page=2&PageToken=PA2`,
    `${LISTING.replace('.json', '')}?Page=3`,
    '',
  ];
  respond = (_asked, n) => ({ body: { calls: [listed({ sid: `CA${n}` })], next_page_uri: pages[n] } });
  const result = await find();
  expect(result.kind === 'listed' && result.calls.map(({ call_id }) => call_id)).toEqual(['CA0', 'CA1', 'CA2', 'CA3']);
  expect(asked.map(({ url }) => url.pathname + url.search).slice(1)).toEqual([
    `${LISTING}?Page=1&PageToken=PA1`,
    `${LISTING}?Page=2&PageToken=PA2`,
    `${LISTING.replace('.json', '')}?Page=3`,
  ]);
});

test.each([
  ['another host', `https://evil.example${LISTING}?Page=1`],
  ['another host of the same scheme', `//evil.example${LISTING}`],
  ['another account', '/api/laml/2010-04-01/Accounts/AC999/Calls.json?Page=1'],
  ['another resource', `/api/laml/2010-04-01/Accounts/${ACCOUNT_SID}/Messages.json`],
])('a next page at %s is an error, and the credentials do not go there', async (_where, next_page_uri) => {
  respond = () => ({ body: { calls: [], next_page_uri } });
  expect(await find()).toEqual({ kind: 'error', cause: 'listing_leads_elsewhere' });
  expect(asked).toHaveLength(1);
});

test('a listing without end is an error, not absence', async () => {
  respond = (_asked, n) => ({ body: { calls: [], next_page_uri: `${LISTING}?Page=${n + 1}` } });
  expect(await find()).toEqual({ kind: 'error', cause: 'listing_too_long' });
  expect(asked).toHaveLength(50);
});

test('the span is widened to whole seconds, and a call without a time counts', async () => {
  const found = async (date_created: string | null, from_ms: number, to_ms: number) => {
    respond = () => ({ body: { calls: [listed({ date_created })] } });
    const result = await find({ created_from_ms: from_ms, created_to_ms: to_ms });
    return result.kind === 'listed' && result.calls.length === 1;
  };
  const at_ms = CREATED_S * 1000;
  expect(await found(CREATED, at_ms, at_ms)).toBe(true);
  expect(await found(CREATED, at_ms + 999, at_ms + 5_000)).toBe(true);
  expect(await found(CREATED, at_ms + 1_000, at_ms + 5_000)).toBe(false);
  expect(await found(CREATED, at_ms - 5_000, at_ms - 999)).toBe(true);
  expect(await found(CREATED, at_ms - 5_000, at_ms - 1_000)).toBe(false);
  expect(await found(null, at_ms, at_ms)).toBe(true);
  expect(await found('yesterday', at_ms, at_ms)).toBe(true);
});

test('calls of other numbers are left out, however the carrier writes the wanted ones', async () => {
  const others = [
    '+972501234568',
    '+12125551234',
    'sip:0501234567@pbx.example',
    'client:972501234567',
    '7654321',
    '4567',
  ];
  const same = ['+972501234567', '972501234567', '00972501234567', '+972 50-123-4567', '050-1234567', ' 972501234567'];
  respond = () => ({ body: { calls: others.map((to) => listed({ to })) } });
  expect(await find()).toEqual({ kind: 'listed', calls: [] });
  respond = () => ({ body: { calls: same.map((to, n) => listed({ to, sid: `CA${n}` })) } });
  const result = await find();
  expect(result.kind === 'listed' && result.calls.map(({ call_id }) => call_id)).toEqual(
    same.map((_to, n) => `CA${n}`),
  );
  respond = () => ({ body: { calls: [listed({ from: '+97231112223' }), listed({ from: TO, to: FROM })] } });
  expect(await find()).toEqual({ kind: 'listed', calls: [] });
});

test('any spelling of a number is the number, and no other number is (seeded by fast-check)', () => {
  const numbers = fc.stringMatching(/^[1-9]\d{7,13}$/);
  const separators = fc.array(fc.constantFrom('', ' ', '-', '.', '(', ')'), { minLength: 14, maxLength: 14 });
  fc.assert(
    fc.property(numbers, fc.constantFrom('+', '', '00'), separators, (digits, prefix, between) => {
      const spelled = prefix + [...digits].map((digit, n) => digit + (between[n] ?? '')).join('');
      expect(compareNumbers(spelled, `+${digits}`)).toBe('same');
    }),
  );
  fc.assert(
    fc.property(numbers, numbers, (one, other) => {
      fc.pre(one !== other);
      expect(compareNumbers(`+${one}`, `+${other}`)).toBe('other');
    }),
  );
});

test.each<[string, Response | 'hang up', string]>([
  ['500', { status: 500, body: '' }, 'http_500'],
  ['401', error(401, 20003), 'http_401_code_20003'],
  ['404', error(404, 20404), 'http_404_code_20404'],
  ['429', error(429, 20429), 'http_429_code_20429'],
  ['302', { status: 302, body: '', headers: { Location: '/' } }, 'http_302'],
  ['no JSON', { body: '<html>' }, 'listing_unreadable'],
  ['no calls', { body: { messages: [] } }, 'listing_unreadable'],
  ['a call that is none', { body: { calls: ['CA1'] } }, 'listed_call_unreadable'],
  ['a status nobody knows', { body: { calls: [listed({ status: 'sleeping' })] } }, 'listed_call_unreadable'],
  ['a call without id', { body: { calls: [listed({ sid: undefined })] } }, 'listed_call_unreadable'],
  ['a masked number', { body: { calls: [listed({ to: '+97250123XXXX' })] } }, 'listed_call_unreadable'],
  ['no number', { body: { calls: [listed({ from: null })] } }, 'listed_call_unreadable'],
  ['too much', { body: { calls: [], filler: 'x'.repeat(2_200_000) } }, 'response_too_large'],
  ['hung up', 'hang up', 'ECONNRESET'],
])('an error is never absence: %s', async (_what, answer, cause) => {
  for (const page of [0, 1]) {
    asked = [];
    respond = (_asked, n) => (n < page ? { body: { calls: [], next_page_uri: `${LISTING}?Page=1` } } : answer);
    const result = await find();
    expect(result).toEqual({ kind: 'error', cause });
    expect(secretsIn(result)).toEqual([]);
  }
});

test('an unreadable call outside of the span is no obstacle', async () => {
  respond = () => ({ body: { calls: [listed({ to: '', date_created: 'Thu, 07 May 2020 09:30:15 +0000' })] } });
  expect(await find()).toEqual({ kind: 'listed', calls: [] });
});

test('nobody listens: every question is an error', async () => {
  const nobody = credentialsFor('http://127.0.0.1:9');
  expect(await driver.find(nobody, wanted)).toEqual({ kind: 'error', cause: 'ECONNREFUSED' });
  expect(await driver.fetchCall(nobody, 'CA1')).toEqual({ kind: 'error', cause: 'ECONNREFUSED' });
  expect(await driver.hangUp(nobody, 'CA1')).toEqual({ kind: 'error', cause: 'ECONNREFUSED' });
  const nowhere = credentialsFor('not a url');
  expect(await driver.find(nowhere, wanted)).toEqual({ kind: 'error', cause: 'base_url_invalid' });
  expect(await driver.fetchCall(nowhere, 'CA1')).toEqual({ kind: 'error', cause: 'base_url_invalid' });
  expect(await driver.hangUp(nowhere, 'CA1')).toEqual({ kind: 'error', cause: 'base_url_invalid' });
});

test('a call is fetched by its id', async () => {
  respond = () => ({ body: listed({ status: 'completed', duration: '17', answered_by: null }) });
  expect(await driver.fetchCall(credentials, 'CA1')).toEqual({
    kind: 'call',
    call: {
      call_id: 'CA1',
      phase: 'ended',
      outcome: 'completed',
      duration_s: 17,
      created_at_s: CREATED_S,
      cause: null,
    },
  });
  expect(asked.map(({ method, url }) => [method, url.pathname])).toEqual([
    ['GET', LISTING.replace('.json', '/CA1.json')],
  ]);
  await driver.fetchCall(credentials, '../../x?y#z');
  expect(asked[1]!.url.pathname).toBe(LISTING.replace('.json', '/..%2F..%2Fx%3Fy%23z.json'));
});

test('only the carrier’s own "not found" is absence', async () => {
  const answers: [Response, object][] = [
    [error(404, 20404), { kind: 'absent' }],
    [
      { status: 404, body: '<html>' },
      { kind: 'error', cause: 'http_404' },
    ],
    [error(404, 12345), { kind: 'error', cause: 'http_404_code_12345' }],
    [error(401, 20003), { kind: 'error', cause: 'http_401_code_20003' }],
    [
      { status: 503, body: '' },
      { kind: 'error', cause: 'http_503' },
    ],
    [{ body: 'fine' }, { kind: 'error', cause: 'call_unreadable' }],
    [{ body: listed({ sid: 'CA2' }) }, { kind: 'error', cause: 'call_unreadable' }],
  ];
  for (const [answer, expected] of answers) {
    respond = () => answer;
    expect(await driver.fetchCall(credentials, 'CA1')).toEqual(expected);
  }
});

test.each<[string, Response[], object, string[]]>([
  ['a queued call is cancelled', [{ body: listed({ status: 'canceled' }) }], { kind: 'over' }, ['canceled']],
  ['a cancel that takes its time', [{ body: listed({ status: 'ringing' }) }], { kind: 'asked' }, ['canceled']],
  [
    'a live call is completed',
    [{ body: listed({ status: 'in-progress' }) }, { body: listed({ status: 'in-progress' }) }],
    { kind: 'asked' },
    ['canceled', 'completed'],
  ],
  [
    'a live call, where the carrier refuses the cancel',
    [error(400, 21220), { body: listed({ status: 'completed' }) }],
    { kind: 'over' },
    ['canceled', 'completed'],
  ],
  [
    'a live call, where another carrier refuses it in its own way',
    [error(422, 77777), { body: listed({ status: 'in-progress' }) }],
    { kind: 'asked' },
    ['canceled', 'completed'],
  ],
  ['a call that is over', [{ body: listed({ status: 'busy' }) }], { kind: 'over' }, ['canceled']],
  [
    'a call that is over, where the carrier refuses both',
    [error(400, 21220), error(400, 21220), { body: listed({ status: 'completed' }) }],
    { kind: 'over' },
    ['canceled', 'completed', 'GET'],
  ],
  [
    'a call that takes neither order and lives',
    [error(400, 21220), error(400, 21220), { body: listed({ status: 'ringing' }) }],
    { kind: 'error', cause: 'http_400_code_21220' },
    ['canceled', 'completed', 'GET'],
  ],
  ['wrong credentials', [error(401, 20003)], { kind: 'error', cause: 'http_401_code_20003' }, ['canceled']],
  ['too many requests', [error(429, 20429)], { kind: 'error', cause: 'http_429_code_20429' }, ['canceled']],
  ['a call nobody knows', [error(404, 20404)], { kind: 'error', cause: 'http_404_code_20404' }, ['canceled']],
  ['a broken carrier', [{ status: 500, body: '' }], { kind: 'error', cause: 'http_500' }, ['canceled']],
  ['an answer that says nothing', [{ body: '{}' }], { kind: 'error', cause: 'call_unreadable' }, ['canceled']],
])('hang up: %s', async (_what, answers, expected, orders) => {
  respond = (_asked, n) => answers[n] ?? 'hang up';
  expect(await driver.hangUp(credentials, 'CA1')).toEqual(expected);
  expect(asked.map(({ method, form }) => (method === 'POST' ? form.Status : method))).toEqual(orders);
  expect(new Set(asked.map(({ url }) => url.pathname))).toEqual(new Set([LISTING.replace('.json', '/CA1.json')]));
});

test.each([
  ['queued', 'queued', null],
  ['initiated', 'queued', null],
  ['ringing', 'ringing', null],
  ['in-progress', 'in_call', null],
  ['completed', 'ended', 'completed'],
  ['busy', 'ended', 'busy'],
  ['no-answer', 'ended', 'no_answer'],
  ['canceled', 'ended', 'cancelled'],
  ['failed', 'ended', 'failed'],
])('status %s', (status, phase, outcome) => {
  expect(readCall(listed({ status, duration: 3 }))).toMatchObject({
    phase,
    outcome,
    duration_s: phase === 'ended' ? 3 : null,
  });
});

test('a completed call that a machine answered is voicemail; nothing else changes by it', () => {
  const outcomeOf = (status: string, answered_by: string | null) => readCall(listed({ status, answered_by }))?.outcome;
  for (const machine of ['machine_start', 'machine_end_beep', 'machine_end_silence', 'machine_end_other', 'machine']) {
    expect(outcomeOf('completed', machine)).toBe('voicemail');
    expect(outcomeOf('in-progress', machine)).toBe(null);
    expect(outcomeOf('failed', machine)).toBe('failed');
  }
  for (const person of ['human', 'unknown', '', null]) expect(outcomeOf('completed', person)).toBe('completed');
});

test('dates: RFC 2822 as Twilio writes them, ISO 8601 with a zone, and nothing that must be guessed', () => {
  expect(parseDate_s('Tue, 10 Aug 2010 08:02:17 +0000')).toBe(Date.UTC(2010, 7, 10, 8, 2, 17) / 1000);
  expect(parseDate_s('Tue, 1 Aug 2010 08:02:17 GMT')).toBe(Date.UTC(2010, 7, 1, 8, 2, 17) / 1000);
  expect(parseDate_s('10 Aug 2010 08:02:17 -0130')).toBe(Date.UTC(2010, 7, 10, 9, 32, 17) / 1000);
  expect(parseDate_s('2010-08-10T08:02:17.900+02:00')).toBe(Date.UTC(2010, 7, 10, 6, 2, 17) / 1000);
  for (const guess of [
    '',
    '2010-08-10 08:02:17',
    '2010-08-10T08:02:17',
    'Tue, 10 Agu 2010 08:02:17 +0000',
    '1281427337',
  ]) {
    expect(parseDate_s(guess)).toBe(null);
  }
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 4_102_444_799 }), (at_s) => {
      const date = new Date(at_s * 1000);
      expect(parseDate_s(date.toUTCString())).toBe(at_s);
      expect(parseDate_s(date.toUTCString().replace('GMT', '+0000'))).toBe(at_s);
      expect(parseDate_s(date.toISOString())).toBe(at_s);
    }),
  );
});

const span = { created_from_ms: wanted.created_from_ms, created_to_ms: wanted.created_to_ms };
const list = async (page: string | null = null) => await driver.list?.(credentials, { ...span, page });

test('the list of an account is asked without any number, page by page, up to a page that lies before the span', async () => {
  const before = 'Thu, 07 May 2026 09:30:09 +0000';
  const after = 'Thu, 07 May 2026 09:30:21 +0000';
  const pages = [
    {
      calls: [listed({ sid: 'CA1', date_created: after }), listed({ sid: 'CA2' })],
      next_page_uri: `${LISTING}?Page=1`,
    },
    {
      calls: [listed({ sid: 'CA3' }), listed({ sid: 'CA4', date_created: before })],
      next_page_uri: `${LISTING}?Page=2`,
    },
    { calls: [listed({ sid: 'CA5', date_created: before })], next_page_uri: `${LISTING}?Page=3` },
  ];
  respond = (_asked, n) => ({ body: pages[n] });
  expect(await list()).toEqual({ kind: 'page', calls: [{ call_id: 'CA2', to: TO }], next: `${LISTING}?Page=1` });
  expect(await list(`${LISTING}?Page=1`)).toMatchObject({ calls: [{ call_id: 'CA3' }], next: `${LISTING}?Page=2` });
  expect(await list(`${LISTING}?Page=2`)).toEqual({ kind: 'page', calls: [], next: null });
  expect(asked.map(({ url }) => url.search)).toEqual(['?PageSize=200', '?Page=1', '?Page=2']);
  expect(unauthorized).toBe(0);
});

test('a call whose time can not be read is of the span, and an address that is no number is nobody’s', async () => {
  const calls = [
    listed({ sid: 'CA1', date_created: 'yesterday' }),
    listed({ sid: 'CA2', to: 'client:agent' }),
    listed({ sid: 'CA3', to: '1234' }),
    listed({ sid: 'CA4', to: TO.replace('+', '00') }),
  ];
  respond = () => ({ body: { calls, next_page_uri: null } });
  expect(await list()).toMatchObject({ calls: [{ call_id: 'CA1' }, { call_id: 'CA4', to: TO }], next: null });
});

test.each([
  ['a masked number', { body: { calls: [listed({ to: '+9725XXXX' })] } }, 'listed_number_unreadable'],
  ['a national number', { body: { calls: [listed({ to: '0501234567' })] } }, 'listed_number_unreadable'],
  ['a call without an id', { body: { calls: [listed({ sid: null })] } }, 'listed_call_unreadable'],
  ['something else', { body: '<html>' }, 'listing_unreadable'],
])('the list is an error, and never its end, at %s', async (_what, answer, cause) => {
  respond = () => answer;
  expect(await list()).toEqual({ kind: 'error', cause });
});

test('the list of an account goes nowhere else with the credentials', async () => {
  respond = () => ({ body: { calls: [] } });
  expect(await list('https://example.com/Calls.json')).toEqual({ kind: 'error', cause: 'listing_leads_elsewhere' });
  expect(asked).toEqual([]);
});
