import { type ClientRequest, type IncomingMessage, request as httpRequest } from 'node:http';
import { connect as tcpConnect, isIP, type Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { type DialGate, faultPoint } from '@carillon/contract';

/**
 * One HTTP request over a connection of its own: no pool, no proxy, no redirects, no retries. The headers leave first,
 * the body last and in one write, so that a process that is stopped in between leaves an unfinished request, which the
 * carrier drops.
 */
export interface Outgoing {
  method: 'GET' | 'POST';
  url: URL;
  authorization: string;
  /** Form-encoded; null for none. */
  body: string | null;
  /** Signs the request, before a connection is opened; what it gives is sent along. */
  validation?: (() => Promise<string>) | undefined;
}

export interface ExchangeLimits {
  connect_timeout_ms: number;
  response_timeout_ms: number;
  response_bytes: number;
}

/** `body_sent` false: not one byte of the body was handed to the socket. Causes are codes, never texts with addresses. */
export type Exchange =
  | { kind: 'answered'; status: number; text: string; body_sent: boolean }
  | { kind: 'failed'; cause: string; body_sent: boolean }
  /** The gate did not let the body go. */
  | { kind: 'held' };

type Answer = { status: number; text: string } | { cause: string };

const OPEN_GATE: DialGate = { pace: async () => undefined, mayStart: () => true };

export async function exchange(outgoing: Outgoing, limits: ExchangeLimits, gate = OPEN_GATE): Promise<Exchange> {
  const token = outgoing.validation && (await outgoing.validation().catch(() => null));
  if (token === null) return { kind: 'failed', cause: 'signing_failed', body_sent: false };
  const connection = await connect(outgoing.url, limits.connect_timeout_ms);
  if ('cause' in connection) return { kind: 'failed', cause: connection.cause, body_sent: false };
  let answered = false;
  try {
    const result = await converse(connection.stream, { ...outgoing, token }, limits, gate);
    answered = result.kind === 'answered';
    return result;
  } finally {
    // After a whole answer a plain close: a reset of a socket that is closing already would leave its handle open for
    // ever. Before that, a reset throws away what the kernel still holds: after a plain close it would go on sending it
    // for minutes where the way to the carrier is broken, and a call could come of it long after it was given up.
    if (!answered) connection.tcp.resetAndDestroy();
    else for (const socket of [connection.stream, connection.tcp]) socket.destroy();
  }
}

/** With the token that it is sent with, if it is signed. */
type Ready = Outgoing & { token: string | undefined };

async function converse(socket: Socket, outgoing: Ready, limits: ExchangeLimits, gate: DialGate): Promise<Exchange> {
  const body = outgoing.body === null ? undefined : Buffer.from(outgoing.body, 'latin1');
  const sent = openRequest(socket, outgoing, body?.length ?? 0);
  const answer = awaitAnswer(sent, limits.response_bytes);
  const early = await Promise.race([answer.settled, becomeReady(sent, socket, gate, limits.connect_timeout_ms)]);

  // Answered, broken or given up before the body's turn.
  if (early !== null || answer.begun || socket.destroyed) {
    return finish(early ?? (await answer.within(limits.response_timeout_ms)), false);
  }
  // From the question to the write nothing is awaited: they are one turn.
  if (!gate.mayStart()) return { kind: 'held' };
  const dials = gate !== OPEN_GATE;
  if (dials) faultPoint('dial', 'before_body');
  sent.end(body);
  if (dials) faultPoint('dial', 'body_out');
  return finish(await answer.within(limits.response_timeout_ms), true);
}

function finish(answer: Answer, body_sent: boolean): Exchange {
  return 'cause' in answer ? { kind: 'failed', ...answer, body_sent } : { kind: 'answered', ...answer, body_sent };
}

/** The request on a connection that stands already; nothing is written before `flushHeaders`. */
function openRequest(socket: Socket, { method, url, authorization, token }: Ready, body_bytes: number): ClientRequest {
  return httpRequest({
    method,
    path: url.pathname + url.search,
    createConnection: () => socket,
    setHost: false,
    headers: {
      Host: url.host,
      Authorization: authorization,
      Accept: 'application/json',
      Connection: 'close',
      ...(token !== undefined && { 'Twilio-Client-Validation': token }),
      ...(method === 'POST' && {
        'Content-Type': 'application/x-www-form-urlencoded',
        'Content-Length': String(body_bytes),
      }),
    },
  });
}

/** Resolves with null once the headers are with the kernel and the gate has paced; with a cause when that failed. */
async function becomeReady(sent: ClientRequest, socket: Socket, gate: DialGate, timeout_ms: number) {
  const late = setTimeout(() => sent.destroy(failure('connect_timeout')), timeout_ms);
  try {
    await new Promise<void>((taken) => sent.once('socket', () => taken()));
    sent.flushHeaders();
    // An empty write is done only after everything before it is.
    const broken = await new Promise<Error | null | undefined>((flushed) => socket.write('', flushed));
    if (broken) return { cause: codeOf(broken) };
  } finally {
    clearTimeout(late);
  }
  try {
    await gate.pace();
    return null;
  } catch {
    return { cause: 'gate_failed' };
  }
}

/** `stream` is what is spoken over: the TCP connection itself, or TLS on it. */
interface Connection {
  stream: Socket;
  tcp: Socket;
}

function connect(url: URL, timeout_ms: number): Promise<Connection | { cause: string }> {
  const secure = url.protocol === 'https:';
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return new Promise((resolve) => {
    const tcp = tcpConnect({ host, port: Number(url.port || (secure ? 443 : 80)) });
    // Without delay, or the headers could wait in the kernel for the body.
    tcp.setNoDelay(true);
    const servername = isIP(host) === 0 ? host : undefined;
    const stream = secure ? tlsConnect({ socket: tcp, host, servername, ALPNProtocols: ['http/1.1'] }) : tcp;
    const give_up = (cause: string) => {
      clearTimeout(late);
      stream.destroy();
      tcp.destroy();
      resolve({ cause });
    };
    const late = setTimeout(() => give_up('connect_timeout'), timeout_ms);
    for (const socket of new Set([tcp, stream])) {
      // Stay for the socket's life: an error between two owners must not end the process.
      socket.on('error', (error) => give_up(codeOf(error)));
      socket.once('close', () => give_up('connection_closed'));
    }
    stream.once(secure ? 'secureConnect' : 'connect', () => {
      clearTimeout(late);
      resolve({ stream, tcp });
    });
  });
}

/** Collects the answer, whenever it comes: also before the body was sent. `settled` never rejects. */
function awaitAnswer(sent: ClientRequest, bytes_max: number) {
  let settle: (answer: Answer) => void = () => undefined;
  const settled = new Promise<Answer>((resolve) => {
    settle = resolve;
  });
  const answer = {
    /** The status line is here: what is not sent yet must not be sent any more. */
    begun: false,
    settled,
    within(timeout_ms: number): Promise<Answer> {
      const late = setTimeout(() => settle({ cause: 'response_timeout' }), timeout_ms);
      return settled.finally(() => clearTimeout(late));
    },
  };
  sent.on('response', (response) => {
    answer.begun = true;
    collect(response, bytes_max, settle);
  });
  sent.on('upgrade', () => settle({ cause: 'protocol_switch' }));
  sent.on('error', (error) => settle({ cause: codeOf(error) }));
  // Once an answer has begun its own events say how it ended: this one may come before its last bytes are read.
  sent.on('close', () => answer.begun || settle({ cause: 'connection_closed' }));
  return answer;
}

function collect(response: IncomingMessage, bytes_max: number, settle: (answer: Answer) => void): void {
  const chunks: Buffer[] = [];
  let bytes = 0;
  response.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= bytes_max) {
      chunks.push(chunk);
      return;
    }
    settle({ cause: 'response_too_large' });
    response.destroy();
  });
  response.on('error', () => settle({ cause: 'response_cut_off' }));
  response.on('end', () => settle({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }));
}

function failure(code: string): Error {
  return Object.assign(new Error(code), { code });
}

/** The code of an error, such as ECONNREFUSED. Its message would tell addresses. */
function codeOf(error: Error & { code?: unknown }): string {
  return typeof error.code === 'string' && /^\w{3,60}$/.test(error.code) ? error.code : 'error';
}
