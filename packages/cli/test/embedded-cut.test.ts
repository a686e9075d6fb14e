import { expect, it, onTestFinished } from 'vitest';
import { BROKEN, startCuttingServer } from '../../../test/support/cutting-server.ts';
import { ensureDatabase } from '../src/embedded/embedded.ts';

it('an embedded server that dies as it is connected to fails the start, and not the process', async () => {
  const server = await startCuttingServer();
  onTestFinished(() => server.close());
  await expect(ensureDatabase(server.url, 'a password')).rejects.toThrow(BROKEN);
  expect(server.uncaught).toEqual([]);
});
