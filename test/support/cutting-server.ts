import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';

/** A message of PostgreSQL's protocol: its letter, its length, its content. */
function message(letter: string, content: string | Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeInt32BE(content.length + 4);
  return Buffer.concat([Buffer.from(letter), length, Buffer.from(content)]);
}

const AUTHENTICATION_OK = message('R', Buffer.alloc(4));
const READY_FOR_QUERY = message('Z', 'I');
const TERMINATED = message('E', 'SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0');

export interface CuttingServer {
  url: string;
  /** What was thrown and nobody caught. */
  uncaught: readonly unknown[];
  close(): void;
}

/**
 * A server that makes each connection ready and cuts it off in the same packet: the driver handles both before whoever
 * waits for the connection has it. Until it is closed, errors that nobody catches are kept instead of ending the test
 * run (Vitest's own listeners would, before a test could say anything).
 */
export async function startCuttingServer(): Promise<CuttingServer> {
  const uncaught: unknown[] = [];
  const catchIt = (error: unknown) => void uncaught.push(error);
  const listeners = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', catchIt);
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end(Buffer.concat([AUTHENTICATION_OK, READY_FOR_QUERY, TERMINATED])));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `postgres://somebody:secret@127.0.0.1:${port}/anything`,
    uncaught,
    close() {
      server.close();
      process.off('uncaughtException', catchIt);
      for (const listener of listeners) process.on('uncaughtException', listener);
    },
  };
}

/** What the driver says of a connection that broke, by what it was doing. */
export const BROKEN = /terminat|connection/i;
