import { type AddressInfo, createServer } from 'node:net';
import { BusinessId } from '@carillon/contract';
import { expect, it } from 'vitest';
import { inBusiness, openDatabase } from '../src/db/database.ts';

/** A message of PostgreSQL's protocol: its letter, its length, its content. */
function message(letter: string, content: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeInt32BE(content.length + 4);
  return Buffer.concat([Buffer.from(letter), length, content]);
}

it('a connection that the server ends in the packet that opens it is an error, and not the end of the process', async () => {
  const welcome = message('R', Buffer.alloc(4));
  const ready = message('Z', Buffer.from('I'));
  const fatal = message('E', Buffer.from('SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0'));
  const server = createServer((socket) => {
    socket.once('data', () => socket.end(Buffer.concat([welcome, ready, fatal])));
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const db = openDatabase({ app_url: `postgres://app:secret@127.0.0.1:${port}/carillon` });
  await expect(inBusiness(db, BusinessId.parse(1), (tx) => tx.query('SELECT 1'))).rejects.toThrow();
  await db.close();
  await new Promise((resolve) => server.close(resolve));
});
