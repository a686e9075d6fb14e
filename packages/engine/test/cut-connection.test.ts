import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BusinessId } from '@carillon/contract';
import { type Database, discover, inBusiness, openDatabase } from '../src/db/database.ts';
import { openSession } from '../src/db/migration-session.ts';

/** A message of PostgreSQL's protocol: its letter, its length, its content. */
function message(letter: string, content: string | Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeInt32BE(content.length + 4);
  return Buffer.concat([Buffer.from(letter), length, Buffer.from(content)]);
}

const AUTHENTICATION_OK = message('R', Buffer.alloc(4));
const READY_FOR_QUERY = message('Z', 'I');
const TERMINATED = message('E', 'SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0');

/** What the driver says of a connection that broke, by what it was doing. */
const BROKEN = /terminat|connection/i;

/** What nobody caught. Vitest's own listeners would end the run before a test could say anything. */
const uncaught: unknown[] = [];
const catchIt = (error: unknown) => void uncaught.push(error);
let listeners: NodeJS.UncaughtExceptionListener[] = [];
let server: Server;
let url: string;
let db: Database;
beforeEach(async () => {
  uncaught.length = 0;
  listeners = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', catchIt);
  // Ready, and cut off, in one packet: the driver handles both before whoever waits for the connection has it.
  server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end(Buffer.concat([AUTHENTICATION_OK, READY_FOR_QUERY, TERMINATED])));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  url = `postgres://somebody:secret@127.0.0.1:${port}/anything`;
  db = openDatabase({ app_url: url });
});
afterEach(async () => {
  await db.close();
  server.close();
  process.off('uncaughtException', catchIt);
  for (const listener of listeners) process.on('uncaughtException', listener);
});

describe('a connection that is cut in the packet that makes it ready', () => {
  it('fails the transaction that got it, and not the process', async () => {
    await expect(inBusiness(db, BusinessId.parse(1), (tx) => tx.query('SELECT 1'))).rejects.toThrow(BROKEN);
    expect(uncaught).toEqual([]);
  });

  it('fails whoever asked discovery for it, and not the process', async () => {
    await expect(discover(db, 'SELECT 1')).rejects.toThrow(BROKEN);
    expect(uncaught).toEqual([]);
  });

  it('fails a migration with a sentence, and not the process', async () => {
    await expect(openSession(url)).rejects.toThrow(BROKEN);
    expect(uncaught).toEqual([]);
  });
});
