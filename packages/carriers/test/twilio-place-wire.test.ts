import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Socket } from 'node:net';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import type { PlaceResult } from '@carillon/contract';
import { afterEach, expect, test, vi } from 'vitest';
import { createCarrierDrivers } from '../src/index.ts';
import { createForm } from '../src/twilio/place.ts';
import { makeCertificate } from './support/certificate.ts';
import {
  ACCOUNT_SID,
  AUTH_TOKEN,
  carrierError,
  FROM,
  headIsHere,
  httpAnswer,
  isComplete,
  OPEN_GATE,
  placeRequest,
  secretsIn,
  signal,
  startWire,
  TO,
  type Wire,
} from './support/wire.ts';

/** What place() puts on the wire, and when. */

const driver = createCarrierDrivers({ connect_timeout_ms: 2_000, dial_response_timeout_ms: 2_000 }).get('twilio')!;
const CREATED = httpAnswer(201, '{"sid":"CA1","status":"queued"}');

const wires: Wire[] = [];
async function wireOf(...how: Parameters<typeof startWire>): Promise<Wire> {
  const wire = await startWire(...how);
  wires.push(wire);
  return wire;
}
afterEach(async () => {
  for (const wire of wires.splice(0)) await wire.close();
});

test('the headers go out first; the body follows the pace, whole and in one write', async () => {
  const wire = await wireOf((connection) => isComplete(connection) && connection.socket.write(CREATED));
  const pacing = signal();
  const paced = signal();
  const asked: number[] = [];
  const result = driver.place(placeRequest(`${wire.base_url}/api/laml/`), {
    pace: () => {
      pacing.give();
      return paced.reached;
    },
    mayStart: () => {
      asked.push(wire.connections[0]!.chunks.length);
      return true;
    },
  });
  await pacing.reached;
  const connection = await wire.connection(0, headIsHere);
  const head = connection.text();
  expect(head).toMatch(/\r\n\r\n$/);
  expect(asked).toEqual([]);
  paced.give();
  expect(await result).toEqual({ kind: 'accepted', call_id: 'CA1' });

  expect(asked, 'asked once, before the body').toEqual([1]);
  expect(connection.chunks).toEqual([head, connection.body()]);
  const [line, ...fields] = connection.head().split('\r\n');
  expect(line).toBe(`POST /api/laml/2010-04-01/Accounts/${ACCOUNT_SID}/Calls.json HTTP/1.1`);
  expect(fields.sort()).toEqual([
    'Accept: application/json',
    `Authorization: Basic ${Buffer.from(`${ACCOUNT_SID}:${AUTH_TOKEN}`).toString('base64')}`,
    'Connection: close',
    `Content-Length: ${connection.body().length}`,
    'Content-Type: application/x-www-form-urlencoded',
    `Host: 127.0.0.1:${wire.port}`,
  ]);
  const { status_url, answer_url } = placeRequest('');
  expect([...new URLSearchParams(connection.body())]).toEqual([
    ['To', TO],
    ['From', FROM],
    ['Url', answer_url],
    ['Method', 'POST'],
    ['StatusCallback', status_url],
    ['StatusCallbackMethod', 'POST'],
    ['StatusCallbackEvent', 'initiated'],
    ['StatusCallbackEvent', 'ringing'],
    ['StatusCallbackEvent', 'answered'],
    ['StatusCallbackEvent', 'completed'],
    ['Timeout', '30'],
    ['TimeLimit', '600'],
  ]);
});

/** The driver's own ends of the connections that are opened meanwhile. */
async function watchSockets<T>(run: (sockets: Socket[]) => Promise<T>): Promise<T> {
  const sockets: Socket[] = [];
  const opened = (message: unknown) => void sockets.push((message as { socket: Socket }).socket);
  subscribe('net.client.socket', opened);
  try {
    return await run(sockets);
  } finally {
    unsubscribe('net.client.socket', opened);
  }
}

test('nothing runs between the question and the write', async () => {
  const wire = await wireOf((connection) => isComplete(connection) && connection.socket.write(CREATED));
  const order: string[] = [];
  await watchSockets(async (sockets) => {
    const result = await driver.place(placeRequest(wire.base_url), {
      pace: () => Promise.resolve(),
      mayStart: () => {
        const [socket] = sockets;
        const before = socket!.bytesWritten;
        order.push('asked');
        // The first thing that could run after this turn already finds the body with the socket.
        process.nextTick(() => order.push(socket!.bytesWritten > before ? 'written' : 'not written'));
        return true;
      },
    });
    expect(result.kind).toBe('accepted');
    expect(sockets).toHaveLength(1);
  });
  expect(order).toEqual(['asked', 'written']);
});

test('the pace does not begin before the kernel has the headers, and nothing waits for company', async () => {
  const wire = await wireOf((connection) => isComplete(connection) && connection.socket.write(CREATED));
  const order: string[] = [];
  const no_delay = vi.spyOn(Socket.prototype, 'setNoDelay');
  await watchSockets(async (sockets) => {
    const result = driver.place(placeRequest(wire.base_url), {
      pace: async () => void order.push('pace'),
      mayStart: () => true,
    });
    // A kernel that takes its time.
    const write = sockets[0]!['_write'].bind(sockets[0]);
    vi.spyOn(sockets[0]!, '_write').mockImplementation((chunk, encoding, done) => {
      setImmediate(() => {
        order.push(chunk.length > 0 ? 'bytes' : 'nothing');
        write(chunk, encoding, done);
      });
    });
    expect((await result).kind).toBe('accepted');
  });
  expect(order).toEqual(['bytes', 'nothing', 'pace', 'bytes']);
  expect(no_delay.mock.calls).toContainEqual([true]);
  no_delay.mockRestore();
});

test('a connection that is gone when its turn comes: not dialed, and nobody is asked', async () => {
  const wire = await wireOf((connection) => isComplete(connection) && connection.socket.write(CREATED));
  let asked = 0;
  await watchSockets(async (sockets) => {
    const result = await driver.place(placeRequest(wire.base_url), {
      pace: async () => void sockets[0]!.destroy(),
      mayStart: () => (asked += 1) > 0,
    });
    expect(result.kind).toBe('not_dialed');
  });
  expect(asked).toBe(0);
});

test('past the deadline the body is not sent and the connection is closed', async () => {
  const wire = await wireOf();
  const result = await driver.place(placeRequest(wire.base_url), { ...OPEN_GATE, mayStart: () => false });
  expect(result).toEqual({ kind: 'not_dialed', cause: 'deadline_passed' });
  const connection = await wire.connection(0, headIsHere);
  await connection.closed;
  expect(connection.body()).toBe('');
  expect(isComplete(connection)).toBe(false);
});

test('a pace that fails sends no body', async () => {
  const wire = await wireOf();
  const result = await driver.place(placeRequest(wire.base_url), {
    pace: () => Promise.reject(new Error('the worker stops')),
    mayStart: () => true,
  });
  expect(result).toEqual({ kind: 'not_dialed', cause: 'gate_failed' });
  const connection = await wire.connection(0);
  await connection.closed;
  expect(connection.body()).toBe('');
});

test('each call has a connection of its own, closed after the answer', async () => {
  const wire = await wireOf((connection) => isComplete(connection) && connection.socket.write(CREATED));
  for (let n = 0; n < 3; n += 1) {
    expect(await driver.place(placeRequest(wire.base_url), OPEN_GATE)).toEqual({ kind: 'accepted', call_id: 'CA1' });
  }
  expect(wire.connections).toHaveLength(3);
  for (const connection of wire.connections) {
    await connection.closed;
    expect(connection.text().match(/POST /g)).toHaveLength(1);
  }
});

test('a redirect is not followed', async () => {
  const elsewhere = await wireOf((connection) => isComplete(connection) && connection.socket.write(CREATED));
  const wire = await wireOf(
    (connection) =>
      isComplete(connection) &&
      connection.socket.write(httpAnswer(307, '', { Location: `${elsewhere.base_url}/2010-04-01/Calls.json` })),
  );
  const result = await driver.place(placeRequest(wire.base_url), OPEN_GATE);
  expect(result).toEqual({ kind: 'unknown', cause: 'http_307' });
  expect(elsewhere.connections).toHaveLength(0);
  expect(wire.connections).toHaveLength(1);
});

test('nobody listens, no such name, no such scheme: not dialed, and the gate is not asked', async () => {
  const wire = await startWire();
  await wire.close();
  let asked = 0;
  const gate = { pace: async () => void (asked += 1), mayStart: () => (asked += 1) > 0 };
  const refused = await driver.place(placeRequest(wire.base_url), gate);
  expect(refused).toEqual({ kind: 'not_dialed', cause: 'ECONNREFUSED' });
  const unnamed = await driver.place(placeRequest('http://carrier.invalid'), gate);
  expect(unnamed).toMatchObject({ kind: 'not_dialed', cause: expect.stringMatching(/^(ENOTFOUND|EAI_AGAIN)$/) });
  expect(await driver.place(placeRequest('ftp://127.0.0.1'), gate)).toEqual({
    kind: 'not_dialed',
    cause: 'base_url_invalid',
  });
  expect(asked).toBe(0);
});

test('a TLS handshake that never ends is not dialed within the connect time-out', async () => {
  const wire = await wireOf();
  const hasty = createCarrierDrivers({ connect_timeout_ms: 50 }).get('twilio')!;
  const result = await hasty.place(placeRequest(`https://127.0.0.1:${wire.port}`), OPEN_GATE);
  expect(result).toEqual({ kind: 'not_dialed', cause: 'connect_timeout' });
  await (await wire.connection(0)).closed;
});

test('over TLS too the headers go first, and a certificate that nobody vouches for is not dialed', async () => {
  const certificate = makeCertificate();
  const wire = await wireOf((connection) => isComplete(connection) && connection.socket.write(CREATED), certificate);
  const untrusted = await driver.place(placeRequest(wire.base_url), OPEN_GATE);
  expect(untrusted).toEqual({ kind: 'not_dialed', cause: 'DEPTH_ZERO_SELF_SIGNED_CERT' });

  const trusted = getCACertificates('default');
  setDefaultCACertificates([...trusted, certificate.cert]);
  try {
    const misnamed = await driver.place(placeRequest(`https://127.0.0.1:${wire.port}`), OPEN_GATE);
    expect(misnamed).toEqual({ kind: 'not_dialed', cause: 'ERR_TLS_CERT_ALTNAME_INVALID' });
    const paced = signal();
    const pacing = signal();
    const before = wire.connections.length;
    const result = driver.place(placeRequest(wire.base_url), {
      pace: () => {
        pacing.give();
        return paced.reached;
      },
      mayStart: () => true,
    });
    await pacing.reached;
    const connection = await wire.connection(before, headIsHere);
    expect(connection.text()).toMatch(/\r\n\r\n$/);
    paced.give();
    expect(await result).toEqual({ kind: 'accepted', call_id: 'CA1' });
    expect(connection.chunks).toHaveLength(2);
  } finally {
    setDefaultCACertificates(trusted);
  }
});

test('an attempt that is given up is reset, so that nothing of it is sent later; an answered one is closed', async () => {
  const certificate = makeCertificate();
  const trusted = getCACertificates('default');
  setDefaultCACertificates([...trusted, certificate.cert]);
  const hasty = createCarrierDrivers({ dial_response_timeout_ms: 100 }).get('twilio')!;
  try {
    for (const tls of [undefined, certificate]) {
      const silent = await wireOf(() => undefined, tls);
      const timed_out = await hasty.place(placeRequest(silent.base_url), OPEN_GATE);
      expect(timed_out).toEqual({ kind: 'unknown', cause: 'response_timeout' });
      await silent.connections[0]!.closed;
      expect(silent.connections[0]!.wasReset).toBe(true);

      const head = silent.connection(1, headIsHere);
      await driver.place(placeRequest(silent.base_url), {
        // A turn later, or the server's own TLS is still busy with the headers and swallows the reset.
        pace: () => head.then(() => new Promise((next) => setImmediate(next))),
        mayStart: () => false,
      });
      const held = await head;
      await held.closed;
      expect(held.wasReset).toBe(true);

      const wire = await wireOf((connection) => isComplete(connection) && connection.socket.write(CREATED), tls);
      expect((await driver.place(placeRequest(wire.base_url), OPEN_GATE)).kind).toBe('accepted');
      await wire.connections[0]!.closed;
      expect(wire.connections[0]!.wasReset).toBe(false);
    }
  } finally {
    setDefaultCACertificates(trusted);
  }
});

test.each<[string, string, PlaceResult]>([
  [
    'wrong credentials stop the lane',
    carrierError(401, 20003),
    { kind: 'rejected', code: '20003', class: 'lane', message: 'The credentials are not accepted' },
  ],
  [
    'too many requests wait',
    carrierError(429, 20429),
    { kind: 'rejected', code: '20429', class: 'again', message: 'The account sends too many requests' },
  ],
  [
    'a number that was not sent is not judged',
    carrierError(400, 21211),
    { kind: 'not_dialed', cause: 'answered_early_http_400_code_21211' },
  ],
  ['an unknown code', carrierError(400, 99999), { kind: 'not_dialed', cause: 'answered_early_http_400_code_99999' }],
  ['a proxy', httpAnswer(407, '<html>who are you?</html>'), { kind: 'not_dialed', cause: 'answered_early_http_407' }],
  ['an overloaded carrier', httpAnswer(503, ''), { kind: 'not_dialed', cause: 'answered_early_http_503' }],
  ['success for nothing', httpAnswer(201, '{"sid":"CA1"}'), { kind: 'not_dialed', cause: 'answered_early_http_201' }],
  ['no HTTP', 'go away\r\n\r\n', { kind: 'not_dialed', cause: 'HPE_INVALID_CONSTANT' }],
])('an answer before the body: no body follows (%s)', async (_what, answer, expected) => {
  const wire = await wireOf((connection) => headIsHere(connection) && connection.socket.write(answer));
  const never = signal();
  const result = await driver.place(placeRequest(wire.base_url), { pace: () => never.reached, mayStart: () => true });
  expect(result).toEqual(expected);
  expect(secretsIn(result)).toEqual([]);
  const connection = wire.connections[0]!;
  await connection.closed;
  expect(connection.body()).toBe('');
});

test('an answer that has only begun when the pace is over: no body follows', async () => {
  const wire = await wireOf(
    (connection) => headIsHere(connection) && connection.socket.write('HTTP/1.1 401 No\r\nContent-Length: 10\r\n\r\n{'),
  );
  const begun = signal();
  subscribe('http.client.response.finish', begun.give);
  try {
    const hasty = createCarrierDrivers({ dial_response_timeout_ms: 50 }).get('twilio')!;
    const result = await hasty.place(placeRequest(wire.base_url), { pace: () => begun.reached, mayStart: () => true });
    expect(result).toEqual({ kind: 'not_dialed', cause: 'response_timeout' });
  } finally {
    unsubscribe('http.client.response.finish', begun.give);
  }
  const connection = wire.connections[0]!;
  await connection.closed;
  expect(connection.body()).toBe('');
});

test('a carrier that hangs up before the body: not dialed, without waiting for the pace', async () => {
  const wire = await wireOf((connection) => headIsHere(connection) && connection.socket.destroy());
  const never = signal();
  const result = await driver.place(placeRequest(wire.base_url), { pace: () => never.reached, mayStart: () => true });
  expect(result).toEqual({ kind: 'not_dialed', cause: 'ECONNRESET' });
});

test('Twilio itself is asked to retry callbacks, others are not', async () => {
  const bodies: string[] = [];
  const wire = await wireOf((connection) => {
    if (!isComplete(connection)) return;
    bodies.push(connection.body());
    connection.socket.write(CREATED);
  });
  const request = placeRequest(wire.base_url);
  await driver.place(request, OPEN_GATE);
  const compatible = new URLSearchParams(bodies[0]);
  expect([compatible.get('StatusCallback'), compatible.get('Url')]).toEqual([request.status_url, request.answer_url]);
  for (const host of ['api.twilio.com', 'api.dublin.ie1.twilio.com']) {
    const form = createForm(request, new URL(`https://${host}/2010-04-01/Accounts/AC1/Calls.json`));
    expect(form.get('StatusCallback')).toBe(`${request.status_url}#rc=5&rp=all`);
    expect(form.get('Url')).toBe(`${request.answer_url}#rc=5&rp=all`);
  }
  const look_alike = createForm(request, new URL('https://api.nottwilio.com/Calls.json'));
  expect(look_alike.get('StatusCallback')).toBe(request.status_url);
});

test('times are whole seconds, rounded down, within what the API takes', async () => {
  const times = (ring_timeout_ms: number, call_max_ms: number) => {
    const form = createForm({ ...placeRequest(''), ring_timeout_ms, call_max_ms }, new URL('http://127.0.0.1/'));
    return [form.get('Timeout'), form.get('TimeLimit')];
  };
  expect(times(1, 999)).toEqual(['1', '1']);
  expect(times(59_999, 60_000)).toEqual(['59', '60']);
  expect(times(1e9, 1e9)).toEqual(['600', '86400']);
});

test('no result tells a secret, a number or an address', async () => {
  const wire = await wireOf((connection) => {
    const message = `'${TO}' from '${FROM}' with ${AUTH_TOKEN} at https://x.example/a?b=c in ${ACCOUNT_SID}`;
    if (isComplete(connection)) connection.socket.write(carrierError(400, 99999, message));
  });
  const refused = await driver.place(placeRequest(wire.base_url), OPEN_GATE);
  expect(refused).toEqual({
    kind: 'rejected',
    code: '99999',
    class: 'unlisted',
    message: "'[number]' from '[number]' with [secret] at [address] in [id]",
  });
  expect(secretsIn(refused)).toEqual([]);
});
