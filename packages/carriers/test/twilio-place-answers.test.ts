import type { PlaceResult } from '@carillon/contract';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createCarrierDrivers } from '../src/index.ts';
import { REFUSALS } from '../src/twilio/refusals.ts';
import {
  carrierError,
  httpAnswer,
  isComplete,
  OPEN_GATE,
  placeRequest,
  secretsIn,
  startWire,
  type Wire,
  type WireConnection,
} from './support/wire.ts';

/** What place() makes of each answer to a whole request. */

const driver = createCarrierDrivers({ dial_response_timeout_ms: 1_000 }).get('twilio')!;

let wire: Wire;
let respond: (connection: WireConnection) => void;
beforeAll(async () => {
  wire = await startWire((connection) => isComplete(connection) && respond(connection));
});
afterAll(() => wire.close());

async function placeAgainst(answer: string | ((connection: WireConnection) => void)): Promise<PlaceResult> {
  respond = typeof answer === 'string' ? (connection) => connection.socket.write(answer) : answer;
  const before = wire.connections.length;
  const result = await driver.place(placeRequest(wire.base_url), OPEN_GATE);
  expect(secretsIn(result)).toEqual([]);
  expect(wire.connections.length - before, 'asked once, whatever the answer').toBe(1);
  return result;
}

test.each<[string, string]>([
  ['201', httpAnswer(201, '{"sid":"CA0a","status":"queued"}')],
  ['200, without a length', 'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"sid":"CA0a"}'],
  [
    '201, in chunks',
    'HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{"sid":\r\n7\r\n"CA0a"}\r\n0\r\n\r\n',
  ],
  [
    '201 after a 100 and a 103',
    `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\n\r\n${httpAnswer(201, '{"sid":"CA0a"}')}`,
  ],
])('accepted: %s', async (_what, answer) => {
  expect(await placeAgainst(({ socket }) => socket.end(answer))).toEqual({ kind: 'accepted', call_id: 'CA0a' });
});

test.each([...REFUSALS])('code %i is a refusal of its class', async (code, refusal) => {
  const result = await placeAgainst(carrierError(400, code));
  expect(result).toEqual({
    kind: 'rejected',
    code: String(code),
    class: refusal.class,
    message: refusal.meaning,
  });
});

test('the table says what each known code means for the lead', () => {
  const codesOf = (wanted: string) => [...REFUSALS].filter(([, { class: is }]) => is === wanted).map(([code]) => code);
  expect(codesOf('contact')).toEqual([21201, 21202, 21211, 21214, 21215, 21216, 21217, 21219, 573005]);
  expect(codesOf('again')).toEqual([10004, 20156, 20429]);
  expect(codesOf('lane').sort((one, other) => one - other)).toEqual([
    10001, 10002, 10005, 20001, 20003, 20005, 20006, 20008, 20010, 20153, 20154, 20155, 20159, 20403, 20404, 21203,
    21205, 21208, 21209, 21210, 21212, 21213, 21218, 21609, 21626, 70051, 70052, 70154, 70155, 70156,
  ]);
});

const rejected = (code: string, its_class: string) => ({ kind: 'rejected', code, class: its_class });

test.each<[string, string, object]>([
  ['429 with the rate code', carrierError(429, 20429), rejected('20429', 'again')],
  ['429 with the concurrency code', carrierError(429, 10004), rejected('10004', 'again')],
  ['409 with a known code', carrierError(409, 21211), rejected('21211', 'contact')],
  ['401 with the credentials code', carrierError(401, 20003), rejected('20003', 'lane')],
  ['400 with a code nobody knows', carrierError(400, 21999), rejected('21999', 'unlisted')],
  ['404 with a code nobody knows', carrierError(404, 12345), rejected('12345', 'unlisted')],
  [
    'code and status as strings',
    httpAnswer(400, '{"code":"21211","message":"no","status":"400"}'),
    rejected('21211', 'contact'),
  ],
])('rejected: %s', async (_what, answer, expected) => {
  expect(await placeAgainst(answer)).toMatchObject(expected);
});

test.each<[string, string, string]>([
  ['201 that is no JSON', httpAnswer(201, 'Created!'), 'http_201_unreadable'],
  ['201 without an id', httpAnswer(201, '{"status":"queued"}'), 'http_201_unreadable'],
  ['201 with an empty id', httpAnswer(201, '{"sid":""}'), 'http_201_unreadable'],
  ['201 with nothing', httpAnswer(201, ''), 'http_201_unreadable'],
  ['200 with a refusal inside', httpAnswer(200, '{"code":21211,"message":"no","status":200}'), 'http_200_unreadable'],
  ['301', httpAnswer(301, '', { Location: 'http://127.0.0.1:1/' }), 'http_301'],
  ['308', httpAnswer(308, '', { Location: '/elsewhere' }), 'http_308'],
  ['408', httpAnswer(408, ''), 'http_408'],
  ['408 with a code nobody knows', carrierError(408, 21999), 'http_408_code_21999'],
  ['409 with a code nobody knows', carrierError(409, 21999), 'http_409_code_21999'],
  ['425 with a code nobody knows', carrierError(425, 21999), 'http_425_code_21999'],
  ['429 with a code nobody knows', carrierError(429, 21999), 'http_429_code_21999'],
  ['a proxy’s 429', httpAnswer(429, 'slow down'), 'http_429'],
  ['a proxy’s 403', httpAnswer(403, '<html><h1>Forbidden</h1></html>'), 'http_403'],
  ['a proxy’s JSON 404', httpAnswer(404, '{"message":"no Route matched with those values"}'), 'http_404'],
  ['an error about another status', httpAnswer(400, '{"code":21211,"message":"no","status":401}'), 'http_400'],
  ['"call already initiated"', carrierError(400, 21204), 'http_400_code_21204'],
  ['500', httpAnswer(500, ''), 'http_500'],
  ['500 with a refusal’s code', carrierError(500, 21211), 'http_500_code_21211'],
  ['502', httpAnswer(502, '<html>Bad Gateway</html>'), 'http_502'],
  ['503 with a refusal’s code', carrierError(503, 20429), 'http_503_code_20429'],
  ['101', 'HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n', 'protocol_switch'],
  ['no HTTP', 'Call created, thank you\r\n\r\n', 'HPE_INVALID_CONSTANT'],
  ['an endless header', `HTTP/1.1 201 Created\r\nX: ${'y'.repeat(100_000)}\r\n`, 'HPE_HEADER_OVERFLOW'],
])('unknown: %s', async (_what, answer, cause) => {
  expect(await placeAgainst(answer)).toEqual({ kind: 'unknown', cause });
});

test.each<[string, (connection: WireConnection) => void, string]>([
  ['no answer', () => undefined, 'response_timeout'],
  ['half a status line', ({ socket }) => socket.write('HTTP/1.1 20'), 'response_timeout'],
  [
    'half a body',
    ({ socket }) => socket.write('HTTP/1.1 201 C\r\nContent-Length: 99\r\n\r\n{"sid":"CA1"}'),
    'response_timeout',
  ],
  [
    'a body cut off',
    ({ socket }) => socket.end('HTTP/1.1 201 C\r\nContent-Length: 99\r\n\r\n{"sid":"CA1"}'),
    'response_cut_off',
  ],
  [
    'chunks cut off',
    ({ socket }) => socket.end('HTTP/1.1 201 C\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{"sid":\r\n'),
    'response_cut_off',
  ],
  ['closed', ({ socket }) => socket.end(), 'ECONNRESET'],
  ['reset', ({ socket }) => socket.resetAndDestroy(), 'ECONNRESET'],
  [
    'a body without end',
    ({ socket }) => {
      socket.write('HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n');
      const more = () => {
        while (socket.writable && socket.write(`1000\r\n${' '.repeat(0x1000)}\r\n`));
        socket.once('drain', more);
      };
      more();
    },
    'response_too_large',
  ],
])('unknown: %s', async (_what, answer, cause) => {
  expect(await placeAgainst(answer)).toEqual({ kind: 'unknown', cause });
});
