import { copyFile, mkdir, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { startEmbedded } from '@carillon/cli';
import { withClient } from '../../support/test-server.ts';
import { until } from '../../support/wait.ts';
import { copyRunning } from './backup.ts';
import type { OwnServer } from './server.ts';

/** Of a slow machine. */
const DEADLINE_MS = 60_000;

/** A replica to which a server streams its log, without waiting for it. */
export interface Standby {
  /** From now on the server commits what this one does not have, as when the network between them is cut. */
  cutOff(): Promise<void>;
  /** It is promoted with what it has. Its files are put in the place of the server's, which is stopped, at its address. */
  takeOver(): Promise<void>;
}

export async function startStandby({ superuserUrl, cluster }: OwnServer, data_dir: string): Promise<Standby> {
  const at = path.join(data_dir, 'postgres');
  await mkdir(data_dir);
  await copyFile(path.join(path.dirname(cluster), 'secrets.json'), path.join(data_dir, 'secrets.json'));
  const settings = `primary_conninfo = '${superuserUrl}'`;
  await copyRunning(superuserUrl, { directory: cluster, at }, { signal: 'standby.signal', settings });
  // It runs at once, and is ready only when it has become a server of its own.
  const promoted = startEmbedded({ dataDir: data_dir });
  promoted.catch(() => {});
  const ask = async (sql: string) => {
    const url = new URL(superuserUrl);
    url.port = (await readFile(path.join(at, 'postmaster.pid'), 'utf8')).split('\n')[3] ?? '';
    return await withClient(url.toString(), async (client) => (await client.query(sql)).rows);
  };
  const streams = async () => (await ask("SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming'")).length === 1;
  await until(() => streams().catch(() => false), { deadline_ms: DEADLINE_MS, what: 'the standby to be streamed to' });
  return {
    async cutOff() {
      await ask(`ALTER SYSTEM SET primary_conninfo = ''`);
      await ask('SELECT pg_reload_conf()');
      await until(async () => !(await streams()), { deadline_ms: DEADLINE_MS, what: 'the standby to be cut off' });
    },
    async takeOver() {
      await ask('SELECT pg_promote()');
      await (await promoted).stop();
      await rm(cluster, { recursive: true, force: true });
      await rename(at, cluster);
    },
  };
}
