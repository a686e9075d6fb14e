import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startEmbedded } from '@carillon/cli';
import { migrate } from '@carillon/engine';
import pg from 'pg';

/** A PostgreSQL of its own with durable commits, migrated, gone afterwards. */
export async function withDatabase<T>(work: (urls: { appUrl: string; superuser: pg.Pool }) => Promise<T>): Promise<T> {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'carillon-bench-'));
  const server = await startEmbedded({ dataDir, settings: { shared_buffers: '1GB', max_wal_size: '4GB' } });
  try {
    await migrate({ ownerUrl: server.ownerUrl, appUrl: server.appUrl });
    const url = new URL(server.ownerUrl);
    const superuserUrl = new URL(server.superuserUrl);
    superuserUrl.pathname = url.pathname;
    const superuser = new pg.Pool({ connectionString: superuserUrl.toString(), max: 4 });
    superuser.on('error', () => {});
    try {
      return await work({ appUrl: server.appUrl, superuser });
    } finally {
      await superuser.end();
    }
  } finally {
    await server.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
