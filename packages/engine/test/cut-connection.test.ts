import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BusinessId } from '@carillon/contract';
import { BROKEN, type CuttingServer, startCuttingServer } from '../../../test/support/cutting-server.ts';
import { type Database, discover, inBusiness, openDatabase } from '../src/db/database.ts';
import { openSession } from '../src/db/migration-session.ts';

let server: CuttingServer;
let db: Database;
beforeEach(async () => {
  server = await startCuttingServer();
  db = openDatabase({ app_url: server.url });
});
afterEach(async () => {
  await db.close();
  server.close();
});

describe('a connection that is cut in the packet that makes it ready', () => {
  it('fails the transaction that got it, and not the process', async () => {
    await expect(inBusiness(db, BusinessId.parse(1), (tx) => tx.query('SELECT 1'))).rejects.toThrow(BROKEN);
    expect(server.uncaught).toEqual([]);
  });

  it('fails whoever asked discovery for it, and not the process', async () => {
    await expect(discover(db, 'SELECT 1')).rejects.toThrow(BROKEN);
    expect(server.uncaught).toEqual([]);
  });

  it('fails a migration with a sentence, and not the process', async () => {
    await expect(openSession(server.url)).rejects.toThrow(BROKEN);
    expect(server.uncaught).toEqual([]);
  });
});
