import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startEmbedded } from '@carillon/cli';
import { openServer, type SimulatedServer } from './server.ts';

/** A PostgreSQL of the simulation's own, gone with it. Power cuts are not simulated, so nothing waits for a disk. */
export async function openOwnServer(): Promise<SimulatedServer> {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'carillon-sim-'));
  const embedded = await startEmbedded({
    dataDir,
    // Where rows lie, and in what order a scan meets them, must not depend on when somebody cleaned up.
    settings: { fsync: 'off', full_page_writes: 'off', synchronous_commit: 'off', autovacuum: 'off' },
  });
  const server = await openServer(embedded.superuserUrl);
  return {
    ...server,
    async close() {
      await server.close();
      await embedded.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}
