import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import type { CarrierCredentials, DialGate, PlaceRequest } from '@carillon/contract';

/** A carrier made of raw sockets: it shows what came over the wire, when, and answers byte for byte as told. */

export interface WireConnection {
  socket: Socket;
  /** What each read brought, in order. */
  chunks: string[];
  text(): string;
  head(): string;
  body(): string;
  closed: Promise<void>;
  /** The other side threw the connection away (TCP reset) instead of closing it. */
  wasReset: boolean;
}

export interface Wire {
  base_url: string;
  port: number;
  connections: WireConnection[];
  /** Resolves with the n-th connection (from 0) once `ready` holds for it; rejects after 5 s. */
  connection(n: number, ready?: (connection: WireConnection) => boolean): Promise<WireConnection>;
  close(): Promise<void>;
}

type OnData = (connection: WireConnection) => void;

export async function startWire(onData: OnData = () => undefined, tls?: { key: string; cert: string }): Promise<Wire> {
  const connections: WireConnection[] = [];
  const watchers = new Set<() => void>();
  const changed = () => {
    for (const watcher of watchers) watcher();
  };
  const accept = (socket: Socket) => {
    const chunks: string[] = [];
    const text = () => chunks.join('');
    const connection: WireConnection = {
      socket,
      chunks,
      text,
      head: () => text().split('\r\n\r\n')[0] ?? '',
      body: () => text().split('\r\n\r\n').slice(1).join('\r\n\r\n'),
      closed: new Promise((resolve) => socket.once('close', () => resolve())),
      wasReset: false,
    };
    connections.push(connection);
    socket.on('error', (error: NodeJS.ErrnoException) => {
      connection.wasReset ||= error.code === 'ECONNRESET';
    });
    socket.on('data', (chunk) => {
      chunks.push(chunk.toString('utf8'));
      onData(connection);
      changed();
    });
    changed();
  };
  const server: Server = tls ? createTlsServer(tls, accept) : createServer(accept);
  server.on('tlsClientError', () => undefined);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    base_url: tls ? `https://localhost:${port}` : `http://127.0.0.1:${port}`,
    connections,
    connection: (n, ready = () => true) =>
      new Promise((resolve, reject) => {
        const late = setTimeout(() => {
          watchers.delete(look);
          reject(new Error(`connection ${n} was not ready within 5 s: ${JSON.stringify(connections[n]?.chunks)}`));
        }, 5_000);
        const look = () => {
          const connection = connections[n];
          if (!connection || !ready(connection)) return;
          watchers.delete(look);
          clearTimeout(late);
          resolve(connection);
        };
        watchers.add(look);
        look();
      }),
    close: () =>
      new Promise((resolve) => {
        for (const { socket } of connections) socket.destroy();
        server.close(() => resolve());
      }),
  };
}

/** The whole request is here: the head, and as many bytes as it announces. */
export function isComplete(connection: WireConnection): boolean {
  const length = /^content-length: (\d+)/im.exec(connection.head())?.[1] ?? '0';
  return connection.text().includes('\r\n\r\n') && connection.body().length >= Number(length);
}

export function headIsHere(connection: WireConnection): boolean {
  return connection.text().includes('\r\n\r\n');
}

export function httpAnswer(status: number, body: string, headers: Record<string, string> = {}): string {
  const fields = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body), ...headers };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status} Status\r\n${lines.join('')}\r\n${body}`;
}

export function carrierError(status: number, code: number, message = 'told by the carrier'): string {
  return httpAnswer(status, JSON.stringify({ code, message, more_info: `https://example.com/${code}`, status }));
}

export const ACCOUNT_SID = `AC${'0a'.repeat(16)}`;
export const AUTH_TOKEN = 'f00dfacef00dfacef00dfacef00dface';
export const TO = '+972501234567';
export const FROM = '+97231112222';

export function credentialsFor(base_url: string): CarrierCredentials {
  return { driver: 'twilio', base_url, account_sid: ACCOUNT_SID, auth_token: AUTH_TOKEN };
}

export function placeRequest(base_url: string): PlaceRequest {
  return {
    credentials: credentialsFor(base_url),
    to: TO,
    from: FROM,
    status_url: 'https://calls.example.com/webhooks/status/7/1/2/1/tokentokentokentokento',
    answer_url: 'https://calls.example.com/webhooks/answer/7/1/2/1/tokentokentokentokento',
    ring_timeout_ms: 30_999,
    call_max_ms: 600_000,
    // Some time in 2100.
    expires_at_ms: 4_102_444_800_000,
  };
}

export const OPEN_GATE: DialGate = { pace: () => Promise.resolve(), mayStart: () => true };

/** Neither the secret, in any form, nor a number, nor an address. */
export function secretsIn(value: unknown): string[] {
  const text = JSON.stringify(value);
  const basic = Buffer.from(`${ACCOUNT_SID}:${AUTH_TOKEN}`).toString('base64');
  return [AUTH_TOKEN, basic, ACCOUNT_SID, TO.slice(1), FROM.slice(1), '://', '127.0.0.1', 'localhost'].filter(
    (secret) => text.includes(secret),
  );
}

/** A promise that is resolved by hand. */
export function signal(): { reached: Promise<void>; give: () => void } {
  let give: () => void = () => undefined;
  const reached = new Promise<void>((resolve) => {
    give = resolve;
  });
  return { reached, give };
}
