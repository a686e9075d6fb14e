import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startEmbedded } from '@carillon/cli';
import { withClient } from '../../support/test-server.ts';
import type { Server } from './installation.ts';
import { carillon } from './processes.ts';

/** A PostgreSQL of a test's own, durable as in production, to which everything may happen that happens to servers. */
export interface OwnServer extends Server {
  /** Cuts every connection to the database, as an administrator or a failing network does. */
  cutConnections(): Promise<void>;
  /** Kills one backend with SIGKILL: the server then drops all the others and recovers from its log. */
  crash(): Promise<void>;
  /** Stops it, so that connections are refused, and starts it again at the same port. */
  restart(): Promise<void>;
  /** The same, with `work` done on its files while it is stopped. */
  stopped(work: () => Promise<void>): Promise<void>;
  /** The cluster's own directory. */
  cluster: string;
}

export async function startOwnServer(): Promise<OwnServer> {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'carillon-system-'));
  // Stops the server and removes the directory should this process be killed.
  const reaper = spawn(process.execPath, [path.join(import.meta.dirname, '../../support/reaper.ts'), dataDir], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  reaper.unref();
  let embedded = await startEmbedded({ dataDir });
  const { appUrl, ownerUrl, superuserUrl } = embedded;
  await carillon(['migrate'], { DATABASE_URL: appUrl, CARILLON_OWNER_DATABASE_URL: ownerUrl });
  async function stopped(work: () => Promise<void>): Promise<void> {
    await embedded.stop();
    await work();
    embedded = await startEmbedded({ dataDir });
    if (embedded.appUrl !== appUrl) throw new Error(`the server came back at another address: ${embedded.appUrl}`);
  }
  return {
    appUrl,
    superuserUrl,
    async cutConnections() {
      await withClient(superuserUrl, (client) =>
        client.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE datname = current_database() AND pid <> pg_backend_pid()`,
        ),
      );
    },
    async crash() {
      await withClient(superuserUrl, async (client) => {
        // It is about to be cut off by a server that dies.
        client.on('error', () => {});
        const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
        const closed = new Promise((resolve) => client.once('end', resolve));
        process.kill(rows[0]?.pid ?? 0, 'SIGKILL');
        await closed;
      });
    },
    cluster: path.join(dataDir, 'postgres'),
    async restart() {
      await stopped(async () => {});
    },
    stopped,
    async drop() {
      await embedded.stop();
      await rm(dataDir, { recursive: true, force: true });
      reaper.stdin.end();
    },
  };
}
