import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { type Embedded, startEmbedded } from '@carillon/cli';
import { migrate } from '@carillon/engine';
import pg from 'pg';
import { LIMITS } from './limits.ts';

/** A PostgreSQL of the trial's own, durable as in production, to which everything happens that happens to servers. */
export interface Postgres {
  /** The server's own address; the processes are given the proxy's. */
  appUrl: string;
  ownerUrl: string;
  port: number;
  /** Reads as superuser, past the proxy. Throws while the server is down. */
  rows<Row extends pg.QueryResultRow>(sql: string, params?: unknown[]): Promise<Row[]>;
  /** Fast shutdown and start. */
  restart(): Promise<void>;
  /** Immediate shutdown, as after a power cut: it recovers from its log. */
  crash(): Promise<void>;
  /** SIGKILL for one backend: the server drops all the others and recovers. */
  killBackend(): Promise<void>;
  close(): Promise<void>;
}

const INT8 = 20;

export async function startPostgres(dataDir: string): Promise<Postgres> {
  let embedded: Embedded = await startEmbedded({ dataDir });
  const { appUrl, ownerUrl, superuserUrl } = embedded;
  await migrate({
    ownerUrl,
    appUrl,
    idle_in_transaction_timeout_ms: Math.floor((LIMITS.lease_ttl_ms * 2) / 3),
  });
  const types: pg.CustomTypesConfig = {
    // Ids, counts and microseconds, all below 2^53.
    getTypeParser: ((oid: number, format?: 'text') =>
      oid === INT8 ? Number : pg.types.getTypeParser(oid, format)) as pg.CustomTypesConfig['getTypeParser'],
  };
  const pool = new pg.Pool({ connectionString: superuserUrl, max: 3, types, connectionTimeoutMillis: 5_000 });
  pool.on('error', () => {});
  pool.on('connect', (client) => void client.on('error', () => {}));

  async function comeBack(): Promise<void> {
    await embedded.stop();
    embedded = await startEmbedded({ dataDir });
    if (embedded.appUrl !== appUrl) throw new Error(`the server came back at another address: ${embedded.appUrl}`);
  }

  return {
    appUrl,
    ownerUrl,
    port: Number(new URL(appUrl).port),
    rows: async <Row extends pg.QueryResultRow>(sql: string, params: unknown[] = []) =>
      (await pool.query<Row>(sql, params)).rows,
    restart: comeBack,
    async crash() {
      const [pid] = (await readFile(path.join(dataDir, 'postgres/postmaster.pid'), 'utf8')).split('\n');
      process.kill(Number(pid), 'SIGQUIT');
      await comeBack();
    },
    async killBackend() {
      const client = new pg.Client({ connectionString: superuserUrl });
      client.on('error', () => {});
      await client.connect();
      const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
      const closed = new Promise((resolve) => client.once('end', resolve));
      process.kill(rows[0]?.pid ?? 0, 'SIGKILL');
      await closed;
    },
    async close() {
      await pool.end();
      await embedded.stop();
    },
  };
}
